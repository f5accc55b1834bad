"""Hard negatives: what the glossary and the corpus say about the terms that are most like the term, yet not it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np

from contrastok.data_gen.evidence import Evidence
from contrastok.data_gen.fold import Fold
from contrastok.data_gen.matcher import contains_name
from contrastok.data_gen.pair_kinds.base import Pair
from contrastok.data_gen.reservoir import keyed_hash
from contrastok.data_gen.terms import Term

if TYPE_CHECKING:
    from numpy.typing import NDArray

NOBODY = np.empty(0, np.int64)
"""Indices of no terms."""

SIBLINGS, NEAREST = 16, 16
"""Terms of each sort that a term takes its negatives from: the nearest siblings, then the nearest others."""

CONTEXTS = 4
"""Sentences that a term lends to others."""

BLOCK = 1024
"""Rows of the similarity matrix held at a time."""


@dataclass(frozen=True)
class NegativeSource:
    """Texts that a term's pairs can take as negatives, siblings' before others', each list shuffled by hash.

    Attributes:
        tiers: for siblings and for others, (definitions, sentences).
    """

    tiers: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]

    def choose(self, pair: Pair, turn: int, count: int, definition: str) -> tuple[str, ...]:
        """The negatives of a pair.

        Siblings come first, and among them texts of the positive's sort: a definition is told from sentences
        by its style alone, which teaches nothing about the token.

        Args:
            pair: negatives equal to its anchor or positive are passed over.
            turn: number of the pair among those of its term; pairs start at different places of the lists.
            count: how many are wanted.
            definition: the term's own.
        """
        first = 0 if pair.positive == definition else 1
        chosen: dict[str, None] = {}
        for tier in self.tiers:
            for texts in (tier[first], tier[1 - first]):
                for text in _turned(texts, turn * count):
                    if len(chosen) == count:
                        return tuple(chosen)
                    if text not in (pair.anchor, pair.positive):
                        chosen[text] = None
        return tuple(chosen)


def _turned(texts: Sequence[str], by: int) -> Iterator[str]:
    return (texts[(by + i) % len(texts)] for i in range(len(texts)))


def with_negatives(pairs: Sequence[Pair], source: NegativeSource, count: int, definition: str) -> list[Pair]:
    """The pairs of one term with their negatives."""
    return [replace(pair, negatives=source.choose(pair, turn, count, definition)) for turn, pair in enumerate(pairs)]


def negative_sources(
    terms: Sequence[Term], evidence: Mapping[str, Evidence], embeddings: np.ndarray, fold: Fold, seed: int
) -> Iterator[NegativeSource]:
    """For each term the texts of its most similar other terms.

    Left out are terms that are the same thing or contain it: those linked to the term by synonyms (either way,
    over any number of steps), and its own categories and members; and of the other terms' texts those in which
    a name of the term stands.

    Args:
        terms: the glossary's entries.
        evidence: sentences by token.
        embeddings: float32 `[len(terms), dim]`, rows of norm 1, of what `describing_text` gives.
        fold: folding of the model's tokenizer.
        seed: decides which sentences are lent and in which order texts are taken.
    """
    kin = _Kinship(terms, fold)
    lent = [_lent_texts(term, evidence[term.token], fold, seed) for term in terms]
    for index, (siblings, others) in enumerate(_neighbours(kin, embeddings)):
        names = kin.names[index]
        yield NegativeSource(
            tuple((_texts(lent, tier, 0, names), _texts(lent, tier, 1, names)) for tier in (siblings, others))
        )


def describing_text(term: Term, evidence: Evidence) -> str:
    """What stands for a term when terms are compared: its definition, else a sentence, else the word."""
    return term.definition or (evidence.sentences[0].text if evidence.sentences else term.token)


Shuffled = tuple[int, str, str]
"""A text behind the hash by which texts are shuffled, and its key."""

Lent = tuple[tuple[Shuffled, ...], tuple[Shuffled, ...]]
"""Of one term its definition and its sentences. Each is lent to many terms, and hashed once."""


def _lent_texts(term: Term, evidence: Evidence, fold: Fold, seed: int) -> Lent:
    definitions = [term.definition] if term.definition else []
    sentences = [sentence.text for sentence in evidence.sentences[:CONTEXTS]]

    def shuffled(texts: Sequence[str]) -> tuple[Shuffled, ...]:
        return tuple((keyed_hash(seed, "negative", text), text, fold.key(text)) for text in texts)

    return shuffled(definitions), shuffled(sentences)


def _texts(lent: Sequence[Lent], tier: Iterable[int], sort: int, names: Iterable[str]) -> tuple[str, ...]:
    """Different texts of one sort of some terms, without those that hold one of the names, shuffled by hash."""
    found: dict[str, Shuffled] = {}
    for other in tier:
        for entry in lent[other][sort]:
            key = entry[2]
            if key not in found and not any(contains_name(key, name) for name in names):
                found[key] = entry
    return tuple(text for _, text, _ in sorted(found.values(), key=itemgetter(0)))


class _Kinship:
    """Which terms are siblings, and which must not be each other's negatives.

    Attributes:
        names: for each term the keys of its token and synonyms.
    """

    def __init__(self, terms: Sequence[Term], fold: Fold) -> None:
        tokens = [fold.key(term.token) for term in terms]
        self.names = [{token, *map(fold.key, term.synonyms)} - {""} for token, term in zip(tokens, terms, strict=True)]
        self._broader = [set(map(fold.key, term.broader)) - {""} for term in terms]
        self._of_token: dict[str, int] = {token: i for i, token in enumerate(tokens)}
        self._members = _owners(self._broader)
        self._same = _same_thing(self.names)

    def siblings(self, index: int) -> Iterator[NDArray[np.int64]]:
        """Groups of terms that share a category with the term."""
        return (self._members[name] for name in self._broader[index])

    def barred(self, index: int) -> Iterator[NDArray[np.int64]]:
        """The term itself with its synonyms, its categories, and groups of its members."""
        yield self._same[index]
        yield np.array([self._of_token[name] for name in self._broader[index] if name in self._of_token], np.int64)
        yield from (self._members[name] for name in self.names[index] if name in self._members)


def _owners(names: Sequence[Iterable[str]]) -> dict[str, NDArray[np.int64]]:
    """For each name the indices of those that have it, ascending."""
    owners: dict[str, list[int]] = {}
    for index, own in enumerate(names):
        for name in own:
            owners.setdefault(name, []).append(index)
    return {name: np.array(indices, np.int64) for name, indices in owners.items()}


def _same_thing(names: Sequence[set[str]]) -> list[NDArray[np.int64]]:
    """For each term the terms that share a name with it, directly or over others (connected components)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    groups = [group for group in _owners(names).values() if len(group) > 1]
    first = np.concatenate([NOBODY, *(np.repeat(group[0], len(group) - 1) for group in groups)])
    others = np.concatenate([NOBODY, *(group[1:] for group in groups)])
    links = coo_array((np.ones(len(first), bool), (first, others)), shape=(len(names), len(names)))
    count, component = connected_components(links, directed=False)
    order = np.argsort(component, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(component, minlength=count))[:-1])
    return [members[label] for label in component]


def _neighbours(kin: _Kinship, embeddings: np.ndarray) -> Iterator[tuple[list[int], list[int]]]:
    """For each term its nearest siblings and its nearest other terms, nearest first, by exact cosine."""
    count = len(embeddings)
    for start in range(0, count, BLOCK):
        for index, cosines in enumerate(embeddings[start : start + BLOCK] @ embeddings.T, start):
            # Masks, not sets: a category may hold every term of the glossary.
            siblings, free = np.zeros(count, bool), np.ones(count, bool)
            for group in kin.siblings(index):
                siblings[group] = True
            for group in kin.barred(index):
                free[group] = False
            near_siblings = _top(cosines, np.flatnonzero(siblings & free), SIBLINGS)
            free[near_siblings] = False
            yield near_siblings.tolist(), _top(cosines, np.flatnonzero(free), NEAREST).tolist()


def _top(cosines: NDArray[np.float32], among: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The `count` indices with the largest cosines, nearest first, the smaller index where they are equal."""
    if len(among) > count:
        values = cosines[among]
        among = among[values >= np.partition(values, len(values) - count)[len(values) - count]]
    return among[np.lexsort((among, -cosines[among]))[:count]]
