"""Linear maps from one space of vectors to another, fitted on anchors that have a vector in both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from contrastok.regression import Ridge

FOLDS = 5
PENALTIES = tuple(10.0**power for power in range(-6, 4))
"""Ridge penalties that are tried, in mean squares of a coordinate summed over the anchors."""


@dataclass(frozen=True)
class LinearMap:
    """`(x - source) weights + target`.

    Attributes:
        source: mean of the anchors where they come from, float64 `[k]`.
        weights: float64 `[k, d]`.
        target: their mean where they go, float64 `[d]`.
    """

    source: torch.Tensor
    weights: torch.Tensor
    target: torch.Tensor

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """float64 `[m, d]` for `[m, k]`; a row of NaN stays one."""
        return (x - self.source) @ self.weights + self.target


Fit = Callable[[torch.Tensor, torch.Tensor], LinearMap]
"""Of float64 anchors `[a, k]` and `[a, d]`."""


def affine(x: torch.Tensor, y: torch.Tensor) -> LinearMap:
    """The least-squares map; the one of least norm where anchors are too few to decide it."""
    source, target = x.mean(0), y.mean(0)
    inner, outer = x - source, y - target
    inverse = torch.linalg.pinv(inner.T @ inner, rtol=1e-10, hermitian=True)
    return LinearMap(source, inverse @ (inner.T @ outer), target)


def procrustes(x: torch.Tensor, y: torch.Tensor) -> LinearMap:
    """The rotation and scale that bring centred anchors nearest to where they go (Schoenemann 1966).

    With `x'y = U S V'` the rotation is `U V'` and the scale `sum S / |x|^2`. Where the spaces differ in dimension the
    rotation is that of the smaller one padded with zeros.
    """
    source, target = x.mean(0), y.mean(0)
    inner, outer = x - source, y - target
    left, singular, right = torch.linalg.svd(inner.T @ outer, full_matrices=False)
    scale = singular.sum() / inner.square().sum().clamp_min(1e-30)
    return LinearMap(source, scale * (left @ right), target)


def ridge(x: torch.Tensor, y: torch.Tensor, penalty: float) -> LinearMap:
    """Ridge regression of centred anchors (Hoerl & Kennard 1970).

    Args:
        x: `[a, k]`.
        y: `[a, d]`.
        penalty: see `PENALTIES`.
    """
    source, target = x.mean(0), y.mean(0)
    inner = x - source
    return LinearMap(source, Ridge(inner, y - target, penalty * _unit(inner)).weights, target)


def best_penalty(x: torch.Tensor, y: torch.Tensor) -> float:
    """The penalty with the least squared error on anchors left out one by one, in closed form (PRESS: Allen 1974)."""
    inner, outer = x - x.mean(0), y - y.mean(0)
    gram, every = inner.T @ inner, torch.arange(len(x))

    def error(penalty: float) -> float:
        fit = Ridge(inner, outer, penalty * _unit(inner), gram)
        return float((fit.left_out(every) - outer).square().sum())

    return min(PENALTIES, key=error)


def _unit(inner: torch.Tensor) -> float:
    return max(float(inner.square().sum()) / inner.shape[1], 1e-30)


def cross_validated(fit: Fit, x: torch.Tensor, y: torch.Tensor, seed: int) -> float:
    """R² on anchors that the map was not fitted on: 1 is exact, 0 no better than the mean of the others.

    Returns:
        over `FOLDS` parts; NaN where there are fewer than two anchors for each.
    """
    if len(x) < 2 * FOLDS:
        return float("nan")
    part = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed)) % FOLDS
    missed = spread = 0.0
    for fold in range(FOLDS):
        inside, outside = part != fold, part == fold
        missed += float((fit(x[inside], y[inside])(x[outside]) - y[outside]).square().sum())
        spread += float((y[inside].mean(0) - y[outside]).square().sum())
    return 1 - missed / max(spread, 1e-30)
