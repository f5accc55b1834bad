"""Find thousands of terms in text at once, on the word boundaries that the tokenizer draws."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Any

import ahocorasick_rs

from contrastok.data_gen.fold import Fold


@dataclass(frozen=True, slots=True)
class Match:
    """One occurrence of a term.

    Attributes:
        term_index: position of the term in the list the matcher was made of.
        start: first character of the occurrence in the original text.
        end: one past its last character.
    """

    term_index: int
    start: int
    end: int


class TermMatcher:
    """One Aho-Corasick automaton (Aho & Corasick 1975) over all terms, folded as the tokenizer folds text.

    A term counts where no word character touches it, which is the `single_word` rule of the tokenizers library;
    a special token counts anywhere.
    Of occurrences that overlap the leftmost wins, and of those that start together the longest.

    Args:
        terms: the terms. For a tokenizer that keeps case the capitalised word is looked for too.
        fold: folding of the model's tokenizer.
        special: those of the terms that are special tokens.
    """

    def __init__(self, terms: Sequence[str], fold: Fold, special: Set[str] = frozenset()) -> None:
        self.fold = fold
        owners: dict[str, int] = {}
        for index, term in enumerate(terms):
            for form in surface_forms(term, fold):
                owners.setdefault(form, index)  # a form belongs to the first term that has it
        self._owners = list(owners.values())
        self._bounded = [
            terms[owner] not in special and any(map(is_word_character, form)) for form, owner in owners.items()
        ]
        self._automaton: Any = ahocorasick_rs.AhoCorasick(list(owners), store_patterns=False) if owners else None

    def holding(self, texts: Sequence[str]) -> list[bool]:
        """For each text whether `find` gives anything: what is asked of all text, so that little is looked at closely.

        The automaton runs once over all of them, for short texts take more time to call it than to search. Nothing
        matches across texts: no folded form holds a line end.
        """
        folded = list(map(self.fold.fold, texts))
        ends = list(accumulate(len(text) + 1 for text in folded))
        joined = "\n".join(folded)
        held = [False] * len(folded)
        for _, start, _ in self._on_boundaries(joined, self._hits(joined)):
            held[bisect_right(ends, start)] = True
        return held

    def find(self, text: str) -> list[Match]:
        """The occurrences in a text, from left to right, none overlapping."""
        hits = self._hits(self.fold.fold(text))
        if not hits:
            return []
        folded, offsets = self.fold.fold_with_offsets(text)
        return [
            Match(self._owners[pattern], offsets[start], offsets[end - 1] + 1)
            for pattern, start, end in leftmost_longest(self._on_boundaries(folded, hits))
        ]

    def _hits(self, folded: str) -> Sequence[tuple[int, int, int]]:
        """Pattern, start and end of all occurrences in folded text, on boundaries or not."""
        return self._automaton.find_matches_as_indexes(folded, overlapping=True) if self._automaton else ()

    def _on_boundaries(self, folded: str, hits: Sequence[tuple[int, int, int]]) -> Iterator[tuple[int, int, int]]:
        return (hit for hit in hits if not self._bounded[hit[0]] or stands_alone(folded, hit[1], hit[2]))


def surface_forms(term: str, fold: Fold) -> tuple[str, ...]:
    """The folded strings by which a term is looked for: as it is written, and with a capital."""
    forms = (" ".join(fold.fold(form).split()) for form in (term, term[:1].upper() + term[1:]))
    return tuple(dict.fromkeys(form for form in forms if form))


def leftmost_longest(hits: Iterator[tuple[int, int, int]]) -> Iterator[tuple[int, int, int]]:
    """Of (pattern, start, end) hits, those that remain when the leftmost and then the longest take their place."""
    reached = 0
    for hit in sorted(hits, key=lambda hit: (hit[1], -hit[2])):
        if hit[1] >= reached:
            reached = hit[2]
            yield hit


def stands_alone(text: str, start: int, end: int) -> bool:
    """Whether no word character touches `text[start:end]` from outside."""
    before = start > 0 and is_word_character(text[start - 1])
    return not before and not (end < len(text) and is_word_character(text[end]))


def contains_name(text: str, name: str) -> bool:
    """Whether `name` stands in `text` as whole words. Both must have been folded alike."""
    start = text.find(name) if name else -1
    while start >= 0:
        if stands_alone(text, start, start + len(name)):
            return True
        start = text.find(name, start + 1)
    return False


@cache
def is_word_character(character: str) -> bool:
    r"""Whether a character is `\w` to the tokenizers library, that is to Unicode's UTS 18, Annex C.

    Python's `\w` differs: it counts superscript digits and leaves out combining marks. Left out here are only the
    letters in circles and squares, which Unicode files under symbols.
    """
    category = unicodedata.category(character)
    return category[0] in "LM" or category in ("Nd", "Nl", "Pc") or character in "\u200c\u200d"
