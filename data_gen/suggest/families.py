"""From spellings to words: one family for all that a tokenizer, or a reader, takes for the same word."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from contrastok.data_gen.fold import Fold
from contrastok.data_gen.suggest.counts import WordCounts

_NAME = re.compile(r"[^\W\d_].*-\w*\d\w*")
"""A name with a number behind a hyphen: COVID-19, IL-6. Other hyphens join words that stand for themselves."""


@dataclass
class Family:
    """The spellings of one word.

    Attributes:
        key: folded as the tokenizer folds text, and without case.
        forms: occurrences by folded spelling.
        spelled: the most frequent spelling as it stands in text; of equals the smallest.
        places: the parts of the corpus that hold it, as bits.
    """

    key: str
    forms: Counter[str] = field(default_factory=Counter)
    spelled: str = ""
    places: int = 0
    _most: int = 0

    @property
    def count(self) -> int:
        """Occurrences in any spelling."""
        return self.forms.total()

    def add(self, word: str, folded: str, count: int, places: int) -> None:
        """Take in a spelling."""
        self.forms[folded] += count
        self.places |= places
        if (-count, word) < (-self._most, self.spelled):
            self.spelled, self._most = word, count


def families(counts: WordCounts, fold: Fold, min_count: int) -> list[Family]:
    """The words that occur often enough, the most frequent first; none without a letter, or of a single one."""
    found: dict[str, Family] = {}
    for spelling in sorted(counts.counts):
        for part in _words(spelling):
            word = unicodedata.normalize("NFC", part)
            folded = " ".join(fold.fold(word).split())
            key = folded.casefold()
            if len(key) > 1 and any(map(str.isalpha, key)):
                family = found.setdefault(key, Family(key))
                family.add(word, folded, counts.counts[spelling], counts.places(spelling))
    often = (family for family in found.values() if family.count >= min_count)
    return sorted(often, key=lambda family: (-family.count, family.key))


def bare(key: str) -> str:
    """What spellings of a name share: letters and digits without accents, hyphens and underscores."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKD", key)))


def _words(spelling: str) -> Iterable[str]:
    return (spelling,) if "-" not in spelling or _NAME.fullmatch(spelling) else filter(None, spelling.split("-"))
