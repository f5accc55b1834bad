"""Words that are forms or spellings of one another: one is suggested, the others are named beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from contrastok.data_gen.suggest.endings import Endings
from contrastok.data_gen.suggest.families import bare
from contrastok.data_gen.suggest.worth import Word


def grouped(words: Sequence[Word], endings: Endings) -> list[list[Word]]:
    """Words in groups: those that share a stem, by the endings of the model's own words, or differ in marks alone.

    Args:
        words: the most useful first; it is the one that stands for its group.
        endings: what makes a form of a word.

    Returns:
        The groups in the order of their first words.
    """
    groups: list[list[Word]] = []
    place: dict[str, int] = {}
    for word in words:
        names = tuple(dict.fromkeys(_names(word.family.key, endings)))
        at = next((place[name] for name in names if name in place), len(groups))
        if at == len(groups):
            groups.append([])
        groups[at].append(word)
        for name in names:
            place.setdefault(name, at)
    return groups


def _names(key: str, endings: Endings) -> Iterator[str]:
    """The word without accents and hyphens, and what it may be a form of."""
    yield bare(key) or key
    yield from (bare(stem) or stem for stem in endings.stems(key))
