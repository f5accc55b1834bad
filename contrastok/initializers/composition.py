"""Rows composed of the rows of the term's own pieces: weighted means, with weights from lengths or positions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from contrastok.initializers import InitContext, initializer

RATE = 2.0
"""AdaptiVocab's: how much faster than its neighbour, in powers of e, the weight of a piece grows."""
SHARE = 0.5
"""Of the pieces in `interpolated_mean`, beside the mean of the vocabulary."""


@initializer("subtoken_mean", source="Gee et al. 2022, Fast Vocabulary Transfer, arXiv:2402.09977")
def subtoken_mean(context: InitContext) -> torch.Tensor:
    """The mean of the rows of the term's original tokens."""
    return _by_position(context, lambda at, count: 1.0)


@initializer("charlen_mean", source="Schick & Schuetze 2020 (One-Token Approximation), there called wsum")
def charlen_mean(context: InitContext) -> torch.Tensor:
    """The mean of the original tokens' rows, weighted by the characters each covers."""
    return _weighted(context, [[max(length, 1e-6) for length in lengths] for lengths in context.lengths])


@initializer("first_piece", source="one half of first_last in mergekit's tokensurgeon")
def first_piece(context: InitContext) -> torch.Tensor:
    """The row of the term's first original token."""
    return _by_position(context, lambda at, count: float(at == 0))


@initializer("last_piece", source="one half of first_last in mergekit's tokensurgeon")
def last_piece(context: InitContext) -> torch.Tensor:
    """The row of the term's last original token."""
    return _by_position(context, lambda at, count: float(at == count - 1))


@initializer("linear_last", source="weighted_mean of mergekit's tokensurgeon, as its comment describes it")
def linear_last(context: InitContext) -> torch.Tensor:
    """The mean of the pieces' rows with weights 1, 2, 3, ...: the last piece weighs most."""
    return _by_position(context, lambda at, count: at + 1.0)


@initializer("exponential_last", source="Nakash et al. 2025, AdaptiVocab, arXiv:2503.19693, rule for input rows")
def exponential_last(context: InitContext) -> torch.Tensor:
    """The mean of the pieces' rows with weights exp(2i): the last piece decides."""
    context.tell(
        "exponential_last was made for models that read from left to right; one that reads both ways, as encoders do, "
        "is better served by charlen_mean."
    )
    return _by_position(context, lambda at, count: math.exp(RATE * (at + 1 - count)))  # the last one 1: no overflow


@initializer("exponential_first", source="Nakash et al. 2025, AdaptiVocab, arXiv:2503.19693, rule for output rows")
def exponential_first(context: InitContext) -> torch.Tensor:
    """The mean of the pieces' rows with weights exp(-2i): the first piece decides."""
    return _by_position(context, lambda at, count: math.exp(-RATE * at))


@initializer("interpolated_mean", source="unsloth's method interpolation, with its weight of one half")
def interpolated_mean(context: InitContext) -> torch.Tensor:
    """Half the mean of the pieces' rows and half the mean of all rows."""
    return SHARE * subtoken_mean(context) + (1 - SHARE) * context.old_rows().mean(0)


def _by_position(context: InitContext, weight: Callable[[int, int], float]) -> torch.Tensor:
    """Means weighted by a function of the piece's position, from 0, and the number of pieces."""
    return _weighted(context, [[weight(at, len(ids)) for at in range(len(ids))] for ids in context.pieces])


def _weighted(context: InitContext, weights: Sequence[Sequence[float]]) -> torch.Tensor:
    rows = []
    for ids, weight in zip(context.pieces, weights, strict=True):
        w = torch.tensor(weight, dtype=torch.float32, device=context.table.device)
        rows.append((w[:, None] * context.table[list(ids)].float()).sum(0) / w.sum())
    return torch.stack(rows) if rows else torch.zeros(0, context.table.shape[1])
