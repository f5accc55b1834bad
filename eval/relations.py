"""Where the glossary's related words of a token rank, before and after training.

Ranks are filtered: other right answers of the same token do not count as competitors (Bordes et al. 2013,
"Translating Embeddings for Modeling Multi-relational Data", section 4.1).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from contrastok.eval.bootstrap import ratio
from contrastok.eval.data import Ranks, Relation
from contrastok.eval.index import Array

HIT = 10
"""A relation counts as a hit when it ranks this high or higher."""


def unique_names(tokens: Sequence[Mapping[str, Any]]) -> list[str]:
    """Every name of the glossary once, case aside: the tokens and all their related words, in order."""
    names: dict[str, str] = {}
    for token in tokens:
        for name in (token["token"], *(relation["name"] for relation in token["relations"])):
            names.setdefault(name.casefold(), name)
    return list(names.values())


def filtered_rank(scores: npt.NDArray[np.floating[Any]], right: int, aside: npt.NDArray[np.bool_]) -> int:
    """1 + the number of candidates that score strictly higher than `right`.

    Args:
        scores: one score a candidate, `[C]`.
        right: position of the right answer.
        aside: `[C]`, true for candidates that do not compete (other right answers, names that hold the token).
    """
    return 1 + int(np.sum((scores > scores[right]) & ~aside))


def rank_all(
    views: Mapping[str, Array], candidates: Array, right: Sequence[int], left_out: npt.NDArray[np.bool_]
) -> list[Ranks | None]:
    """Ranks of several right answers of one token.

    Args:
        views: unit vectors `[d]` of the token: "trained", and perhaps "initial" and "split_word".
        candidates: unit vectors `[C, d]`.
        right: positions of the right answers, one for each relation.
        left_out: `[C]`, true for candidates that are none for this token. A right answer among them has no rank.
    """
    scores = {view: candidates @ vector for view, vector in views.items()}
    aside = left_out.copy()
    aside[list(right)] = True
    of = int(np.sum(~aside)) + 1
    ranked = [{view: filtered_rank(own, place, aside) for view, own in scores.items()} for place in right]
    return [
        None if left_out[place] else Ranks(of, found.get("initial"), found["trained"], found.get("split_word"))
        for place, found in zip(right, ranked, strict=True)
    ]


def token_relations(
    token: Mapping[str, Any],
    names: Mapping[str, int],
    name_vectors: Array,
    views: Mapping[str, Array],
    words: Mapping[str, int],
    word_vectors: Array,
    row_views: Mapping[str, Array],
) -> tuple[Relation, ...]:
    """The related words of one token with their ranks in both spaces.

    Args:
        token: its entry in the manifest.
        names: position of each case-folded glossary name in `name_vectors`.
        name_vectors: output of the untouched model for each name, unit vectors `[N, d]`.
        views: output of the isolated token: "initial", "trained", and "split_word" by the untouched model.
        words: position of each vocabulary word in `word_vectors`.
        word_vectors: centred rows of the vocabulary's words, unit vectors `[V, d]`.
        row_views: centred rows of the token, "initial" and "trained".
    """
    related = token["relations"]
    own = token["token"].casefold()
    holds_token = np.array([own in name for name in names], dtype=bool)
    glossary = rank_all(views, name_vectors, [names[r["name"].casefold()] for r in related], holds_token)
    single = [_position(words, r["name"]) for r in related]
    ranked = iter(
        rank_all(row_views, word_vectors, [p for p in single if p is not None], np.zeros(len(word_vectors), dtype=bool))
    )
    vocabulary = [None if place is None else next(ranked) for place in single]
    return tuple(
        Relation(r["name"], r["kind"], bool(r["held_out"]), g, v)
        for r, g, v in zip(related, glossary, vocabulary, strict=True)
    )


def figures(ranks: Sequence[int]) -> dict[str, float | None]:
    """MRR, hit@10, median rank and how many ranks there were; None where there was none."""
    if not ranks:
        return {"mrr": None, "hit@10": None, "median_rank": None, "count": 0}
    array = np.asarray(ranks, dtype=float)
    return {
        "mrr": float(np.mean(1 / array)),
        "hit@10": float(np.mean(array <= HIT)),
        "median_rank": float(np.median(array)),
        "count": len(array),
    }


def chance(sizes: Sequence[int]) -> dict[str, float | None]:
    """What a token at a random place would get, given the number of candidates of each relation."""
    if not sizes:
        return figures([])
    array = np.asarray(sizes, dtype=float)
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, max(sizes) + 1))])
    return {
        "mrr": float(np.mean(harmonic[list(sizes)] / array)),
        "hit@10": float(np.mean(np.minimum(HIT / array, 1))),
        "median_rank": float(np.median((array + 1) / 2)),
        "count": len(sizes),
    }


def mrr_change(tokens: Sequence[Sequence[tuple[int, int]]], seed: int = 0) -> dict[str, float | None]:
    """Change of the MRR between two columns of ranks, with a 95 % interval from a paired bootstrap over tokens.

    Tokens are drawn, not relations: the relations of one token rise and fall together.

    Args:
        tokens: for each token the (rank before, rank after) of its relations.
        seed: of the resamples.
    """
    change = ratio(
        [sum(1 / after - 1 / before for before, after in pairs) for pairs in tokens], list(map(len, tokens)), seed
    )
    if change is None:
        return {"mrr": None, "low": None, "high": None}
    return {"mrr": change.value, "low": change.low, "high": change.high}


def summarise(per_token: Sequence[Iterable[Ranks | None]], seed: int = 0) -> dict[str, dict[str, float | None]]:
    """Figures of every view over all relations, chance, and the change that training brought.

    Args:
        per_token: the ranks of each token's relations; None (no rank) is skipped.
        seed: of the bootstrap.

    Returns:
        Without "initial" and "change" where initial rows are not known, and the same for the split word.
    """
    groups = [[r for r in ranks if r is not None] for ranks in per_token]
    flat = [r for group in groups for r in group]
    result = {"trained": figures([r.trained for r in flat]), "chance": chance([r.of for r in flat])}
    for view, change in (("initial", "change"), ("split_word", "change_from_split_word")):
        pairs = [[(getattr(r, view), r.trained) for r in group] for group in groups]
        before = [rank for group in pairs for rank, _ in group]
        if None not in before and (before or view == "initial"):
            result[view], result[change] = figures(before), mrr_change(pairs, seed)
    return result


def _position(words: Mapping[str, int], name: str) -> int | None:
    return words.get(name, words.get(name.casefold()))
