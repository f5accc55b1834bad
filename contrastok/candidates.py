"""Which entries of a vocabulary are whole words, and which of them a person can read."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

WORD_STARTS = ("Ġ", "▁")
"""How byte-level BPE and SentencePiece mark a piece that begins a word."""
CONTINUATION = "##"
"""How WordPiece marks a piece that continues one."""
IDEOGRAPHIC = 0.05
"""Share of single ideographs from which on they count as words. An English vocabulary holds about 1 % of them, which
it has hardly seen in training; a Chinese one a third and more."""
RESERVED = re.compile(r"[\[<]\|?(unused|reserved|extra_id|pad|special)[^\s]*[\]>]", re.IGNORECASE)


@dataclass(frozen=True)
class Candidates:
    """The whole words of a vocabulary: what is shown as neighbours, and what a predictor learns from.

    Attributes:
        ids: their ids in the tokenizer, ascending.
        words: their text, without the marks of the tokenizer.
    """

    ids: tuple[int, ...]
    words: tuple[str, ...]

    def positions(self) -> dict[str, int]:
        """Where each word stands; a lower-cased spelling leads to the first entry that has it."""
        exact = {word: at for at, word in reversed(list(enumerate(self.words)))}
        folded = {word.casefold(): at for at, word in reversed(list(enumerate(self.words)))}
        return folded | exact


def candidates(tokenizer: PreTrainedTokenizerFast) -> Candidates:
    """The whole words of a tokenizer's vocabulary.

    Left out: special and reserved tokens, single letters and marks, and pieces that only continue a word
    (`##ing`, or pieces without the word-start mark where the tokenizer has one), which are fragments to a reader.
    """
    vocabulary: Mapping[str, int] = tokenizer.get_vocab()
    special = set(tokenizer.all_special_ids)
    begins = WordStarts(vocabulary)
    kept = {
        i: token
        for token, i in vocabulary.items()
        if i not in special and begins(token) and not RESERVED.fullmatch(token)
    }
    ids = sorted(kept)
    words = [text.strip() for text in tokenizer.batch_decode([[i] for i in ids])]
    ideographs = sum(map(is_ideograph, words)) > IDEOGRAPHIC * len(words)
    readable = [(i, word) for i, word in zip(ids, words, strict=True) if is_readable(word, ideographs)]
    return Candidates(tuple(i for i, _ in readable), tuple(word for _, word in readable))


def is_readable(word: str, ideographs: bool = True) -> bool:
    """Whether a decoded entry is something a person reads as a word, a number or a picture.

    Of single characters only emoji and, where the language is written in them, ideographs are: a vocabulary holds
    every letter and sign that it has met, and rare ones crowd around any vector that lies nowhere in particular.
    """
    if not word or "\ufffd" in word:
        return False
    if len(word) == 1:
        return is_emoji(word) or (ideographs and is_ideograph(word))
    return any(character.isalnum() or is_emoji(character) for character in word)


def is_ideograph(word: str) -> bool:
    """Whether a word is one Chinese character."""
    return len(word) == 1 and unicodedata.name(word, "").startswith("CJK UNIFIED")


def is_emoji(character: str) -> bool:
    """Whether a character is a picture: the blocks from Miscellaneous Symbols to Dingbats, and plane 1 from 1F000."""
    return "\u2600" <= character <= "\u27bf" or character >= "\U0001f000"


class WordStarts:
    """Tells entries that begin a word, by the mark that a good part of the vocabulary carries."""

    def __init__(self, vocabulary: Iterable[str]) -> None:
        tokens = list(vocabulary)
        share = {mark: sum(token.startswith(mark) for token in tokens) / max(len(tokens), 1) for mark in WORD_STARTS}
        self.mark = next((mark for mark in WORD_STARTS if share[mark] > 0.1), "")

    def __call__(self, token: str) -> bool:
        """Whether an entry begins a word."""
        if self.mark:
            return token.startswith(self.mark)
        return not self.continues(token)

    def continues(self, token: str) -> bool:
        """Whether an entry, standing after another one, goes on with that one's word; punctuation does not."""
        if self.mark:
            return not token.startswith(self.mark) and token[:1].isalnum()
        return token.startswith(CONTINUATION) and token != CONTINUATION
