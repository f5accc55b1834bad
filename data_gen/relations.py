"""The names that a glossary gives each term, some of them kept out of the pairs for an honest report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from contrastok.data_gen.fold import Fold
from contrastok.data_gen.matcher import contains_name
from contrastok.data_gen.reservoir import keyed_hash, keyed_uniform
from contrastok.data_gen.terms import Term


@dataclass(frozen=True)
class Relation:
    """One name of a term's glossary entry.

    Attributes:
        name: the name as the glossary writes it.
        kind: synonym, broader or related.
        held_out: whether no pair of the term shows it.
    """

    name: str
    kind: str
    held_out: bool


def split_relations(term: Term, fold: Fold, seed: int, share: float) -> tuple[Relation, ...]:
    """The names of a term, a share of each kind held out.

    Of n names of a kind floor(n * share + u) are held out, u uniform in [0, 1) and drawn by keyed hash, so that
    the share holds over all terms even where each has a single synonym. A name in two kinds counts for the first.

    Args:
        term: the glossary's entry.
        fold: names that fold alike, or like the token, are one.
        seed: decides which are held out.
        share: from 0 to 1.
    """
    known = {fold.key(term.token)}
    relations: list[Relation] = []
    for kind, names in (("synonym", term.synonyms), ("broader", term.broader), ("related", term.related)):
        fresh = {fold.key(name): name for name in reversed(names) if fold.key(name) not in known}
        known.update(fresh)
        ranked = sorted(fresh.values(), key=lambda name: keyed_hash(seed, "hold out", term.token, name))
        out = set(ranked[: math.floor(len(ranked) * share + keyed_uniform(seed, "hold out", term.token, kind))])
        relations += [Relation(name, kind, name in out) for name in reversed(fresh.values())]
    return tuple(relations)


def names_of(relations: Iterable[Relation], kind: str) -> tuple[str, ...]:
    """The names of a kind that pairs may show."""
    return tuple(relation.name for relation in relations if relation.kind == kind and not relation.held_out)


def without_leaks(relations: Sequence[Relation], texts: Iterable[str], fold: Fold) -> tuple[Relation, ...]:
    """The relations after the pairs exist: what stands in their text is no longer held out.

    Args:
        relations: of one term.
        texts: anchors and positives of the term's pairs. Names are looked for as whole words.
        fold: folding of the model's tokenizer.
    """
    shown = "\n".join(fold.key(text) for text in dict.fromkeys(texts))
    return tuple(
        replace(relation, held_out=relation.held_out and not contains_name(shown, fold.key(relation.name)))
        for relation in relations
    )
