"""The endings by which a model's own words differ: they tell which words are forms of another, in any language."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

LONGEST_ENDING = 4
SHORTEST_STEM = 4
"""Letters. What is left of shorter words is a word too often by chance."""
PAIRS = 20
"""Pairs of words that show an ending, at least."""
SHARE = 0.3
"""Share of the words with an ending whose rest is a word, at least. In the vocabulary of all-MiniLM-L6-v2 "s" has 0.73,
"ing" 0.56, "er" 0.35; letters that words happen to end in have less: "o" 0.21, "a" 0.10, "e" 0.06."""


class Endings:
    """Endings that a vocabulary uses productively.

    An ending takes the place of nothing (play, play-ing) or of one letter (cak-e, cak-ing). It counts when at least
    `PAIRS` pairs of words show it, and when in `SHARE` of the words that end in it, and that no ending found before
    explains, what it stands on is a word.

    Args:
        words: whole words of a vocabulary, without case.
    """

    def __init__(self, words: Collection[str]) -> None:
        every = frozenset(words)
        known, letters_after = every, _letters_after(every)
        self._instead_of: dict[str, list[str]] = {}
        while known:
            seen: Counter[str] = Counter()
            shown: Counter[tuple[str, str]] = Counter()
            for word in known:
                for stem, ending in _splits(word):
                    seen[ending] += 1
                    shown.update((ending, letter) for letter in letters_after.get(stem, ()) if letter != ending[0])
            found = [
                (ending, letter)
                for (ending, letter), pairs in sorted(shown.items(), key=lambda item: (-item[1], item[0]))
                if pairs >= PAIRS and pairs >= SHARE * seen[ending]
            ]
            for ending, letter in found:
                self._instead_of.setdefault(ending, []).append(letter)
            known = frozenset(word for word in known if found and every.isdisjoint(self.stems(word)))

    def __contains__(self, ending: str) -> bool:
        """Whether words are made by putting it behind a word."""
        return "" in self._instead_of.get(ending, ())

    def stems(self, word: str) -> Iterator[str]:
        """What a word may be a form of, the longest ending first; not all of it are words."""
        for stem, ending in _splits(word):
            yield from (stem + letter for letter in self._instead_of.get(ending, ()))


def _letters_after(words: Collection[str]) -> dict[str, list[str]]:
    """For every word, and for every word without its last letter, what makes it a word: "" or that letter."""
    found: dict[str, list[str]] = {}
    for word in words:
        found.setdefault(word, []).append("")
        found.setdefault(word[:-1], []).append(word[-1:])
    return found


def _splits(word: str) -> Iterator[tuple[str, str]]:
    """A word's beginnings that are long enough for a stem, each with the rest."""
    for length in range(min(LONGEST_ENDING, len(word) - SHORTEST_STEM), 0, -1):
        yield word[:-length], word[-length:]
