"""Rows by a linear map from a space that was made without the model, fitted afterwards on the words that both know."""

from __future__ import annotations

import math
from functools import partial

import torch

from contrastok.auxiliary import Auxiliary, auxiliary, check_space
from contrastok.initializers import InitContext, initializer
from contrastok.initializers.similarity import NEEDS
from contrastok.linear_maps import Fit, affine, best_penalty, cross_validated, procrustes, ridge


@initializer("ridge_map", source="Hoerl & Kennard 1970; penalty by PRESS, Allen 1974", needs=NEEDS, refuse=check_space)
def ridge_map(context: InitContext) -> torch.Tensor:
    """Word vectors through a ridge regression on the words that the model knows."""
    space = auxiliary(context, "words")
    penalty = best_penalty(space.known, rows_of(context, space))
    return mapped(context, space, partial(ridge, penalty=penalty), f"ridge_map (penalty {penalty:g})")


@initializer("procrustes_map", source="Schoenemann 1966, orthogonal Procrustes", needs=NEEDS, refuse=check_space)
def procrustes_map(context: InitContext) -> torch.Tensor:
    """Word vectors rotated and scaled onto the rows of the words that the model knows."""
    return mapped(context, auxiliary(context, "words"), procrustes, "procrustes_map")


@initializer("affine_map", source="least squares", needs=NEEDS, refuse=check_space)
def affine_map(context: InitContext) -> torch.Tensor:
    """Word vectors through the least-squares map of the words that the model knows."""
    return mapped(context, auxiliary(context, "words"), affine, "affine_map")


def rows_of(context: InitContext, space: Auxiliary) -> torch.Tensor:
    """The anchors' rows, float64 `[a, d]`."""
    return context.table[space.anchors.to(context.table.device)].detach().cpu().double()


def mapped(context: InitContext, space: Auxiliary, fit: Fit, name: str) -> torch.Tensor:
    """The terms' vectors through a map onto the rows; says how well it does on words that it was not fitted on.

    Returns:
        float64 `[n, d]`; NaN for terms without a vector.
    """
    rows = rows_of(context, space)
    tell_fit(context, name, cross_validated(fit, space.known, rows, context.seed), len(rows))
    return fit(space.known, rows)(space.new)


def tell_fit(context: InitContext, name: str, r2: float, anchors: int) -> None:
    """Say how much a map explains of the rows of words that were left out when it was fitted."""
    found = "too few to check it on" if math.isnan(r2) else f"R² {r2:.2f} on those left out (0 is their mean)"
    context.tell(f"{name}: a map fitted on {anchors:,} words that both sides know, {found}.")
