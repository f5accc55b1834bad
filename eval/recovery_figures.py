"""Where relearned words stand among the rows and the outputs that their model has always had."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from contrastok.eval.baselines import INITIAL, SPLIT, TRAINED
from contrastok.eval.bootstrap import Estimate, Floats, as_figures, bootstrap
from contrastok.eval.index import Array, unit
from contrastok.eval.relations import HIT, filtered_rank

NEIGHBORS = 10
"""Neighbours compared for the overlap, and searched for related words."""

Metric = Callable[[Floats, Floats], Floats]
"""From ranks and overlaps, `[..., n]`, a figure over the last axis."""

METRICS: dict[str, Metric] = {
    "mrr": lambda ranks, overlaps: np.mean(1 / ranks, axis=-1),
    "hit@1": lambda ranks, overlaps: np.mean(ranks <= 1, axis=-1),
    "hit@10": lambda ranks, overlaps: np.mean(ranks <= HIT, axis=-1),
    "median_rank": lambda ranks, overlaps: np.median(ranks, axis=-1),
    "overlap@10": lambda ranks, overlaps: np.mean(overlaps, axis=-1),
}
"""The figures of a recovery."""


@dataclass(frozen=True)
class Space:
    """Candidates, and where among them the words' own vectors lie.

    Attributes:
        vectors: unit vectors of the candidates, float32 `[C, d]`.
        gold: position of each word's own vector, `[n]`.
        forms: positions of all forms of each word. They are the word itself and do not compete with it.
    """

    vectors: Array
    gold: Sequence[int]
    forms: Sequence[Sequence[int]]

    @cached_property
    def gold_neighbors(self) -> npt.NDArray[np.int64]:
        """The nearest candidates of each word's own vector, `[n, k]`."""
        return self.nearest(self.vectors[list(self.gold)])

    def nearest(self, queries: Array) -> npt.NDArray[np.int64]:
        """The nearest candidates of a vector of each word, itself left out, in no order, `[n, k]`."""
        k = min(NEIGHBORS, len(self.vectors) - 1 - max(map(len, self.forms), default=0))
        found = []
        for query, own in zip(queries, self.forms, strict=True):
            scores = self.vectors @ query
            scores[list(own)] = -np.inf
            found.append(np.argpartition(-scores, k)[:k])
        return np.array(found, dtype=np.int64).reshape(len(queries), k)


@dataclass(frozen=True)
class Standing:
    """How one view of the words stands in a space; NaN for words that the view has nothing for.

    Attributes:
        ranks: of each word's own vector, seen from the view, `[n]`.
        overlaps: share of the view's nearest candidates that are nearest to the word's own vector, `[n]`.
        hits: 1 where one of the nearest is related to the word, 0 where none is, NaN where there is nothing related.
    """

    ranks: Floats
    overlaps: Floats
    hits: Floats


def stand(space: Space, queries: Array, related: Sequence[set[int]], words: Space | None = None) -> Standing:
    """Rank each word's own vector from a view of the word.

    Args:
        space: what the words are looked for in.
        queries: unit vectors of a view, `[n, d]`; NaN where it has nothing.
        related: positions of each word's related words in `words`.
        words: the vocabulary's words, among which related ones are looked for; `space` itself when None.
    """
    kin = words or space
    present = ~np.isnan(queries.sum(axis=1))
    ranks, overlaps, hits = (np.full(len(queries), np.nan) for _ in range(3))
    clean = np.where(present[:, None], queries, 0)
    near, near_words = space.nearest(clean), kin.nearest(clean)
    for i in np.flatnonzero(present).tolist():
        aside = np.zeros(len(space.vectors), dtype=bool)
        aside[list(space.forms[i])] = True
        ranks[i] = filtered_rank(space.vectors @ queries[i], space.gold[i], aside)
        overlaps[i] = np.mean(np.isin(near[i], space.gold_neighbors[i]))
        if related[i]:
            hits[i] = bool(related[i] & set(near_words[i].tolist()))
    return Standing(ranks, overlaps, hits)


def centred(vectors: Array, mean: Array) -> Array:
    """Unit vectors of rows less the mean of the table; NaN stays NaN."""
    return unit(vectors - mean)


def recovery_figures(views: Mapping[str, Standing], seed: int) -> dict[str, Any]:
    """The metrics of every view with their intervals, and what training gained over the initial rows."""
    result = _by_role(views, lambda standing: _figures(standing, seed))
    result["gain"] = _gain(views[TRAINED], views[INITIAL], seed)
    if SPLIT in views:
        result["gain_over_split_word"] = _gain(views[TRAINED], views[SPLIT], seed)
    return result


def related_figures(views: Mapping[str, Standing], seed: int) -> dict[str, Any]:
    """hit@10 of related words for every view, the gain of training, and its share of what the true rows reach."""
    result = _by_role(views, lambda standing: _hits(standing, seed))
    trained, initial, oracle = (views[name].hits for name in (TRAINED, INITIAL, "oracle"))
    counted = ~np.isnan(oracle)
    t, i, o = trained[counted], initial[counted], oracle[counted]
    result["gain"] = _estimates({"hit@10": lambda drawn: (t[drawn] - i[drawn]).mean(-1)}, len(t), seed)
    reached = bool(o.sum())
    share = {"share_of_oracle": lambda drawn: t[drawn].sum(-1) / np.maximum(o[drawn].sum(-1), 1)}
    return result | _estimates(share, len(t) if reached else 0, seed)


def _by_role(views: Mapping[str, Standing], figures: Callable[[Standing], dict[str, Any]]) -> dict[str, Any]:
    """Initial and trained on their own, all other views as baselines."""
    found = {name: figures(standing) for name, standing in views.items()}
    stages = {name: found.pop(name) for name in (INITIAL, TRAINED)}
    return {**stages, "baselines": found}


def _figures(standing: Standing, seed: int) -> dict[str, Any]:
    kept = ~np.isnan(standing.ranks)
    ranks, overlaps = standing.ranks[kept], standing.overlaps[kept]
    statistics = {name: _drawn(metric, ranks, overlaps) for name, metric in METRICS.items()}
    return {**_estimates(statistics, len(ranks), seed), "units": len(ranks)}


def _hits(standing: Standing, seed: int) -> dict[str, Any]:
    hits = standing.hits[~np.isnan(standing.hits)]
    return {**_estimates({"hit@10": lambda drawn: hits[drawn].mean(-1)}, len(hits), seed), "units": len(hits)}


def _gain(after: Standing, before: Standing, seed: int) -> dict[str, Any]:
    """The change of every metric on the words that both views have (paired bootstrap)."""
    kept = ~np.isnan(after.ranks) & ~np.isnan(before.ranks)
    pairs = [(s.ranks[kept], s.overlaps[kept]) for s in (after, before)]

    def change(metric: Metric) -> Callable[[Any], Floats]:
        ours, theirs = (_drawn(metric, *pair) for pair in pairs)
        return lambda drawn: ours(drawn) - theirs(drawn)

    return _estimates({name: change(metric) for name, metric in METRICS.items()}, int(kept.sum()), seed)


def _drawn(metric: Metric, ranks: Floats, overlaps: Floats) -> Callable[[Any], Floats]:
    return lambda drawn: metric(ranks[drawn], overlaps[drawn])


def _estimates(statistics: Mapping[str, Callable[[Any], Floats]], units: int, seed: int) -> dict[str, Any]:
    """Each statistic over all units and its interval; None where there is no unit."""
    everyone = np.arange(units)
    return as_figures(
        {
            name: Estimate(float(statistic(everyone)), *bootstrap(units, statistic, seed), units) if units else None
            for name, statistic in statistics.items()
        }
    )
