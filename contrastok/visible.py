"""Text of others as it can stand among ours: short enough, and nothing in it moves a cursor, turns lines or hides."""

from __future__ import annotations

import unicodedata

UNSEEN = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
"""Categories of characters that steer a terminal or are not seen: control, format, half a pair, line, paragraph."""

JOINERS = "\u200c\u200d"
"""Format characters that Persian, the scripts of India and emoji need to look right."""

NAME = 40
"""Characters of a term that a sentence or a table shows."""

LAYOUT = "\n\t"
"""To keep where lines are ours, and what is in them is not."""


def visible(text: str, keep: str = "") -> str:
    """Text with control characters, marks of direction and the like as escapes ("\\u202e").

    Args:
        text: anything.
        keep: control characters that stay.
    """
    if text.isprintable():  # nearly all text, told without a look at each character
        return text
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in UNSEEN and c not in keep + JOINERS else c
        for c in text
    )


def short(text: str, limit: int = NAME) -> str:
    """`visible` text of at most `limit` characters; an ellipsis stands for the rest."""
    text = visible(text)
    return text if len(text) <= limit else f"{text[: limit - 1].rstrip()}…"
