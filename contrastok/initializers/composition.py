"""Rows composed of the term's own subtokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from contrastok.initializers import InitContext, initializer


@initializer("subtoken_mean", source="Gee et al. 2022, Fast Vocabulary Transfer, arXiv:2402.09977")
def subtoken_mean(context: InitContext) -> torch.Tensor:
    """The mean of the rows of the term's original tokens."""
    return _weighted(context, [[1.0] * len(ids) for ids in context.pieces])


@initializer("charlen_mean", source="Schick & Schuetze 2020 (One-Token Approximation), there called wsum")
def charlen_mean(context: InitContext) -> torch.Tensor:
    """The mean of the original tokens' rows, weighted by the characters each covers."""
    return _weighted(context, context.lengths)


def _weighted(context: InitContext, weights: Sequence[Sequence[float]]) -> torch.Tensor:
    rows = []
    for ids, weight in zip(context.pieces, weights, strict=True):
        w = torch.tensor(weight, dtype=torch.float32, device=context.table.device).clamp_min(1e-6)
        rows.append((w[:, None] * context.table[list(ids)].float()).sum(0) / w.sum())
    return torch.stack(rows) if rows else torch.zeros(0, context.table.shape[1])
