"""Hard negatives: what the glossary and the corpus say about the terms that are most like the term, yet not it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from contrastok.data_gen.evidence import Evidence
from contrastok.data_gen.fold import Fold
from contrastok.data_gen.matcher import contains_name
from contrastok.data_gen.pair_kinds.base import Pair
from contrastok.data_gen.reservoir import keyed_hash
from contrastok.data_gen.terms import Term

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
            tuple(
                (_texts(lent, tier, 0, names, seed), _texts(lent, tier, 1, names, seed)) for tier in (siblings, others)
            )
        )


def describing_text(term: Term, evidence: Evidence) -> str:
    """What stands for a term when terms are compared: its definition, else a sentence, else the word."""
    return term.definition or (evidence.sentences[0].text if evidence.sentences else term.token)


Lent = tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]
"""Of one term its definition and its sentences, each text with its key."""


def _lent_texts(term: Term, evidence: Evidence, fold: Fold, seed: int) -> Lent:
    definitions = [term.definition] if term.definition else []
    sentences = [sentence.text for sentence in evidence.sentences[:CONTEXTS]]
    return (tuple((text, fold.key(text)) for text in definitions), tuple((text, fold.key(text)) for text in sentences))


def _texts(lent: Sequence[Lent], tier: Iterable[int], sort: int, names: Iterable[str], seed: int) -> tuple[str, ...]:
    """Different texts of one sort of some terms, without those that hold one of the names, shuffled by hash."""
    found: dict[str, str] = {}
    for other in tier:
        for text, key in lent[other][sort]:
            if key not in found and not any(contains_name(key, name) for name in names):
                found[key] = text
    return tuple(sorted(found.values(), key=lambda text: keyed_hash(seed, "negative", text)))


class _Kinship:
    """Which terms are siblings, and which must not be each other's negatives.

    Attributes:
        names: for each term the keys of its token and synonyms.
    """

    def __init__(self, terms: Sequence[Term], fold: Fold) -> None:
        tokens = [fold.key(term.token) for term in terms]
        self.names = [{token, *map(fold.key, term.synonyms)} - {""} for token, term in zip(tokens, terms, strict=True)]
        self._broader = [set(map(fold.key, term.broader)) - {""} for term in terms]
        self._members: dict[str, list[int]] = {}
        self._of_token: dict[str, int] = {token: i for i, token in enumerate(tokens)}
        for index, broader in enumerate(self._broader):
            for name in broader:
                self._members.setdefault(name, []).append(index)
        self._same = _same_thing(self.names)

    def siblings(self, index: int) -> set[int]:
        """Terms that share a category with the term."""
        return {member for name in self._broader[index] for member in self._members[name]}

    def barred(self, index: int) -> set[int]:
        """The term itself, its synonyms, its categories and its members."""
        above = {self._of_token[name] for name in self._broader[index] if name in self._of_token}
        below = {member for name in self.names[index] for member in self._members.get(name, ())}
        return self._same[index] | above | below


def _same_thing(names: Sequence[set[str]]) -> list[set[int]]:
    """For each term the terms that share a name with it, directly or over others (connected components)."""
    owners: dict[str, list[int]] = {}
    for index, own in enumerate(names):
        for name in own:
            owners.setdefault(name, []).append(index)
    component: list[set[int]] = [{index} for index in range(len(names))]
    for group in owners.values():
        joined = set().union(*(component[index] for index in group))
        for index in joined if len(joined) > len(component[group[0]]) else ():
            component[index] = joined
    return component


def _neighbours(kin: _Kinship, embeddings: np.ndarray) -> Iterator[tuple[list[int], list[int]]]:
    """For each term its nearest siblings and its nearest other terms, nearest first, by exact cosine."""
    count = len(embeddings)
    for start in range(0, count, BLOCK):
        for offset, cosines in enumerate(embeddings[start : start + BLOCK] @ embeddings.T):
            barred, siblings = kin.barred(start + offset), kin.siblings(start + offset)
            near_siblings = _top(cosines, np.array(sorted(siblings - barred), dtype=np.int64), SIBLINGS)
            wanted = min(count, NEAREST + len(barred | set(near_siblings)))
            ranked = _top(cosines, np.arange(count), wanted)
            taken = barred | set(near_siblings)
            yield near_siblings, [other for other in ranked if other not in taken][:NEAREST]


def _top(cosines: np.ndarray, among: np.ndarray, count: int) -> list[int]:
    """The `count` indices with the largest cosines, nearest first, the smaller index where they are equal."""
    values = cosines[among]
    if len(among) > count:
        among = among[values >= np.partition(values, len(values) - count)[len(values) - count]]
    return [int(i) for i in sorted(among, key=lambda i: (-cosines[i], i))[:count]]
