"""A flat map of the new tokens, before and after training, among their neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from contrastok.eval.data import MapPoint
from contrastok.eval.index import Array
from contrastok.eval.neighbors import Space

TSNE_UP_TO = 2_000
"""Points. t-SNE keeps neighbourhoods but takes minutes beyond this; PCA takes a second."""
TOKENS = 1_000
"""New tokens that are drawn at most; a page with more dots shows less."""
AROUND = 4
"""Neighbours that each token brings to the map, before and after."""


def make_map(
    space: Space, terms: Sequence[str], tsne_up_to: int = TSNE_UP_TO, seed: int = 0
) -> tuple[tuple[MapPoint, ...], str]:
    """Points of the map and one line that says how it was laid out.

    Args:
        space: whose vectors are laid out.
        terms: the new tokens, one a vector of `space.after`.
        tsne_up_to: more points than this are laid out by PCA.
        seed: of t-SNE.
    """
    shown = np.unique(np.linspace(0, len(terms) - 1, min(TOKENS, len(terms))).astype(int))
    ends = {"before": space.before, "after": space.after}
    places = {when: vectors[shown] for when, vectors in ends.items() if vectors is not None}
    around = np.unique(np.concatenate([space.index.search(v, AROUND)[1].ravel() for v in places.values()]))
    around = around[around >= 0]
    flat, method = layout(np.concatenate([space.vectors[around], *places.values()]), tsne_up_to, seed)
    labels = [(space.words[i], "vocabulary") for i in around]
    labels += [(terms[i], when) for when in places for i in shown]
    points = tuple(
        MapPoint(word, when, float(x), float(y))  # type: ignore[arg-type]
        for (word, when), (x, y) in zip(labels, flat, strict=True)
    )
    some = "" if len(shown) == len(terms) else f"; {len(shown):,} of the {len(terms):,} new tokens"
    return points, f"{method} over {len(points):,} points{some}"


def layout(vectors: Array, tsne_up_to: int = TSNE_UP_TO, seed: int = 0) -> tuple[npt.NDArray[Any], str]:
    """Two coordinates `[N, 2]` for unit vectors `[N, d]`, the same at every call, and the method's name."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    if not 8 <= len(vectors) <= tsne_up_to:
        return PCA(n_components=2, svd_solver="full").fit_transform(vectors), "PCA"
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    tsne = TSNE(n_components=2, init="pca", metric="cosine", perplexity=perplexity, random_state=seed)
    return tsne.fit_transform(vectors), f"t-SNE (cosine, perplexity {perplexity:.0f}, seed {seed})"
