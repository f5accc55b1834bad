"""Neighbours of each new token before and after training, in three spaces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from contrastok.eval.data import Neighbor, Neighborhood
from contrastok.eval.index import EXACT_UP_TO, Array, NeighborIndex, build, unit

SPACES = {
    "rows": "rows of the input table, by cosine",
    "rows-centred": "the same rows less the mean of the vocabulary, which takes away what all rows share",
    "encoded": "what the whole model makes of the token alone",
}
"""The spaces and what they are, in the order in which they are shown."""
OTHERS = 3
"""Other new tokens shown beside each token."""


@dataclass(frozen=True)
class Space:
    """The vocabulary and the new tokens as vectors of one kind.

    Attributes:
        name: a key of SPACES.
        words: text of the candidates, `[V]`.
        vectors: unit vectors of the candidates, float32 `[V, d]`.
        before: unit vectors of the new tokens at their initial rows, `[n, d]`; None where those are not known.
        after: the same at their trained rows, `[n, d]`.
        index: over `vectors`.
    """

    name: str
    words: Sequence[str]
    vectors: Array
    before: Array | None
    after: Array
    index: NeighborIndex


def make_space(
    name: str,
    words: Sequence[str],
    vectors: Array,
    before: Array | None,
    after: Array,
    *,
    mean: Array | None = None,
    exact_up_to: int = EXACT_UP_TO,
) -> Space:
    """A space from plain arrays; `mean` (`[d]`) is taken off every vector first."""
    shift = np.zeros(vectors.shape[1], dtype=np.float32) if mean is None else mean
    unit_vectors = unit(vectors - shift)
    first = None if before is None else unit(before - shift)
    return Space(name, words, unit_vectors, first, unit(after - shift), build(unit_vectors, exact_up_to))


def neighborhoods(space: Space, terms: Sequence[str], k: int) -> list[Neighborhood]:
    """The `k` nearest candidates of each new token before and after, and the nearest other new tokens."""
    before, after = (
        [()] * len(terms) if vectors is None else _named(space.index.search(vectors, k), space.words)
        for vectors in (space.before, space.after)
    )
    others = nearest_others(space.after, terms)
    return [Neighborhood(space.name, *lists) for lists in zip(before, after, others, strict=True)]


def nearest_others(vectors: Array, terms: Sequence[str]) -> list[tuple[Neighbor, ...]]:
    """The nearest other new tokens of each (one entry a term, `[n, d]` unit vectors): the check for collapse."""
    cosines, positions = build(vectors).search(vectors, OTHERS + 1)
    found = []
    for own, (values, places) in enumerate(zip(cosines, positions, strict=True)):
        rest = [Neighbor(terms[p], float(c)) for c, p in zip(values, places, strict=True) if p != own]
        found.append(tuple(rest[:OTHERS]))
    return found


def typical_nearest(space: Space, quantile: float, sample: int = 500) -> float:
    """The cosine to the nearest other word that all but a share `quantile` of the vocabulary's words exceed.

    The words are spread evenly over the vocabulary, so that nothing is drawn.
    """
    chosen = np.unique(np.linspace(0, len(space.vectors) - 1, min(sample, len(space.vectors))).astype(int))
    cosines, _ = space.index.search(space.vectors[chosen], 2)
    return float(np.quantile(cosines[:, -1], quantile))


def _named(found: tuple[Array, np.ndarray], words: Sequence[str]) -> list[tuple[Neighbor, ...]]:
    return [
        tuple(Neighbor(words[p], float(c)) for c, p in zip(values, places, strict=True) if p >= 0)
        for values, places in zip(*found, strict=True)
    ]
