"""Text as a tokenizer sees it for matching: lower-cased, without accents, or untouched, as its normaliser does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

FRAME = "q"
"""Put around a character while it is normalised, so that nothing is stripped or prepended to it. No character
composes with it: Unicode has no precomposed letter made of q."""


class Fold:
    """Character by character, what a fast tokenizer's own normaliser makes of a text.

    Folding one character at a time keeps a map back to the original positions and lets `str.translate` do the
    work. It differs from the whole normaliser in two wanted ways: white space stays a plain space, and marks
    that a normaliser puts before the text (Metaspace) are left out.

    Args:
        tokenizer: a fast tokenizer; without a normaliser the text is left as it is, up to white space.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._table = _Table(tokenizer.backend_tokenizer.normalizer)

    def fold(self, text: str) -> str:
        """The folded text."""
        return text.translate(self._table)

    def fold_with_offsets(self, text: str) -> tuple[str, Sequence[int]]:
        """The folded text and where each of its characters came from.

        Returns:
            The folded text of length n, and n + 1 positions: folded character i comes from original character
            `offsets[i]`, and the last one is `len(text)`.
        """
        folded = self.fold(text)
        if len(folded) == len(text) and self._table.uneven.isdisjoint(text):
            return folded, range(len(text) + 1)
        offsets = [i for i, character in enumerate(text) for _ in character.translate(self._table)]
        return folded, [*offsets, len(text)]

    def key(self, name: str) -> str:
        """A form under which two spellings of a name are the same: folded, lower case, single spaces."""
        return " ".join(self.fold(name).casefold().split())


class _Table(dict[int, str]):
    """A `str.translate` table that asks the normaliser once for each character that occurs.

    Attributes:
        uneven: characters met so far that fold to none or to several.
    """

    def __init__(self, normalizer: Any) -> None:
        super().__init__()
        self.normalizer = normalizer
        self.uneven: set[str] = set()

    def __missing__(self, code: int) -> str:
        character = chr(code)
        folded = self._normalised(character)
        if len(folded) != 1:
            self.uneven.add(character)
        self[code] = folded
        return folded

    def _normalised(self, character: str) -> str:
        if character.isspace():
            return " "
        if self.normalizer is None or "\ud800" <= character <= "\udfff":  # a lone surrogate is no text
            return character
        framed: str = self.normalizer.normalize_str(FRAME + character + FRAME)
        return framed[framed.index(FRAME) + 1 : framed.rindex(FRAME)]
