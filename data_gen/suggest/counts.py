"""How often each word of a corpus occurs and how evenly, in one pass and in memory that does not grow with it."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator

CAPACITY = 1_000_000
"""Different words held at once."""
PARTS = 64
"""Equal stretches of the corpus that are told apart, from half as many on."""
FIRST_PART = 1000
"""Characters of a part at the beginning; doubled whenever there would be more than `PARTS`."""
SLICE = 1_000_000
"""Characters of a document that are taken apart at once: a line may be as long as a book."""
LONGEST = 64
"""Longer words are data, or text that is written without spaces."""

_MARKS = "".join(
    re.escape(chr(code))
    for code in range(0x300, 0xFFFF)  # what `matcher.is_word_character` has beyond Python's \w: marks and joiners
    if unicodedata.category(chr(code)) in ("Mn", "Mc", "Me", "Pc") or code in (0x200C, 0x200D)
)
WORD = re.compile(rf"[\w{_MARKS}]++(?:-[\w{_MARKS}]++)*+")
"""A run of word characters, where a token may match by itself, or several joined by hyphens."""


class WordCounts:
    """Counts of words, spelled as they are, by lossy counting (Manku & Motwani 2002, VLDB, section 4.2).

    When there are more than `capacity` different words, the rarest go. So a count may be too low, by `missed` at most.

    Where a word stands is kept as one bit a part of the corpus. Parts are joined two by two when they become too
    many, so that their number stays between `PARTS` / 2 and `PARTS` however long the corpus is.

    Args:
        capacity: different words held at once.

    Attributes:
        counts: occurrences by spelling.
        characters: read so far.
        missed: by how much a count can be too low.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.counts: Counter[str] = Counter()
        self.characters = self.missed = 0
        self._capacity = capacity
        self._places: dict[str, int] = {}
        self._part: Counter[str] = Counter()
        self._part_length, self._full = 0, FIRST_PART
        self._closed = 0  # parts before the one that is being read

    def read(self, text: str) -> None:
        """Count the words of a document."""
        for piece in _slices(text):
            self._part.update(WORD.findall(piece))
            self.characters += len(piece)
            self._part_length += len(piece)
            if self._part_length >= self._full:
                self._close_part()

    def finish(self) -> None:
        """Count what was read of the last part; nothing is read after it."""
        if self._part_length:
            self._close_part()

    @property
    def parts(self) -> int:
        """Parts of the corpus."""
        return self._closed

    def places(self, word: str) -> int:
        """The parts that hold a word, as bits."""
        return self._places[word]

    def _close_part(self) -> None:
        bit = 1 << self._closed
        for word in [word for word in self._part if len(word) > LONGEST]:
            del self._part[word]
        self.counts.update(self._part)
        for word in self._part:
            self._places[word] = self._places.get(word, 0) | bit
        self._part, self._part_length, self._closed = Counter(), 0, self._closed + 1
        if self._closed == PARTS:
            self._places = {word: _joined(bits) for word, bits in self._places.items()}
            self._closed, self._full = PARTS // 2, 2 * self._full
        self._drop_the_rarest()

    def _drop_the_rarest(self) -> None:
        """Make room; at least half of it, or every part would begin with this."""
        if len(self.counts) <= self._capacity:
            return
        often = 1
        while sum(count > often for count in self.counts.values()) > self._capacity // 2:
            often += 1
        self.counts = Counter({word: count for word, count in self.counts.items() if count > often})
        self._places = {word: self._places[word] for word in self.counts}
        self.missed += often


def dispersion(places: int, parts: int, count: int) -> float:
    """How evenly a word is spread: 1 as if by chance, near 0 where it keeps to few parts.

    The parts that hold it over those that would hold so many occurrences thrown at random, `P (1 - (1 - 1/P)^f)`: the
    deviation from Poisson of Church & Gale 1995 (Inverse Document Frequency). Unlike Juilland's D and Gries' DP it
    does not take every rare word for a clumped one.

    Args:
        places: the parts that hold it, as bits.
        parts: parts of the corpus, P.
        count: occurrences of the word, f; at least 1.
    """
    expected = parts * (1 - (1 - 1 / parts) ** count)
    return min(1.0, places.bit_count() / expected)


def _slices(text: str) -> Iterator[str]:
    """A document in pieces of bounded length, cut at spaces where there is one."""
    start = 0
    while start < len(text):
        end = len(text) if len(text) - start <= SLICE else text.rfind(" ", start, start + SLICE) + 1 or start + SLICE
        yield text[start:end]
        start = end


def _joined(bits: int) -> int:
    """`PARTS` bits as half as many: each is set where one of two neighbours was."""
    return sum(1 << at for at in range(PARTS // 2) if bits >> 2 * at & 3)
