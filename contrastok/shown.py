"""Words of other people as they can stand among ours: not too long, and without characters that turn text around."""

from __future__ import annotations

import re

NAME = 40
"""Characters of a term that a sentence or a table shows."""
_TURNING = re.compile(r"[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    r"""Text with Unicode's controls of direction written out (`\u202e`): they reorder what stands beside them, too."""
    return _TURNING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def short(text: str, limit: int = NAME) -> str:
    """`visible` text of at most `limit` characters; an ellipsis stands for the rest."""
    text = visible(text)
    return text if len(text) <= limit else f"{text[: limit - 1].rstrip()}…"
