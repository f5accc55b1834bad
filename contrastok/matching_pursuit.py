"""Orthogonal matching pursuit: a vector as a combination of few others."""

from __future__ import annotations

import torch

CHUNK = 256
"""Targets that are looked at together."""
TOLERANCE = 1e-7
"""Correlations with the residual below this share of the norms are noise: there is nothing left to explain."""
PENALTY = 1e-10
"""Ridge on the coefficients, in squared norms of the largest atom: alike atoms share what one of them could say."""


def matching_pursuit(targets: torch.Tensor, atoms: torch.Tensor, most: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose atoms one by one and fit all chosen ones anew each time (Pati et al. 1993).

    The next atom is the one with the largest absolute inner product with the residual. A target that is explained, or
    to which no atom has anything to say, chooses no more: its other coefficients are zero.

    Args:
        targets: float64 `[n, k]`, finite.
        atoms: float64 `[a, k]`.
        most: atoms for a target; no more than there are.

    Returns:
        Places of the atoms, int64 `[n, m]`, and their coefficients, float64 `[n, m]`, `m = min(most, a)`.
    """
    parts = [_pursue(part, atoms, min(most, len(atoms))) for part in torch.split(targets, CHUNK)]
    places, weights = zip(*parts, strict=True)
    return torch.cat(places), torch.cat(weights)


def _pursue(targets: torch.Tensor, atoms: torch.Tensor, most: int) -> tuple[torch.Tensor, torch.Tensor]:
    largest = float(atoms.norm(dim=-1).max())
    floor = TOLERANCE * largest * targets.norm(dim=-1)
    taken = torch.zeros(len(targets), len(atoms), dtype=torch.bool)
    places = torch.zeros(len(targets), 0, dtype=torch.int64)
    chosen = torch.zeros(len(targets), 0, targets.shape[1], dtype=targets.dtype)
    weights = torch.zeros(len(targets), 0, dtype=targets.dtype)
    residual = targets
    for _ in range(most):
        said, place = (residual @ atoms.T).abs().masked_fill(taken, -1).max(dim=-1)
        taken[torch.arange(len(targets)), place] = True
        live = (said > floor)[:, None]
        places = torch.cat([places, place[:, None]], dim=1)
        chosen = torch.cat([chosen, (atoms[place] * live)[:, None]], dim=1)
        weights = _least_squares(chosen, targets, PENALTY * max(largest, 1e-30) ** 2)
        residual = targets - torch.einsum("nt,ntk->nk", weights, chosen)
    return places, weights


def _least_squares(chosen: torch.Tensor, targets: torch.Tensor, penalty: float) -> torch.Tensor:
    """Coefficients `[n, t]` of atoms `[n, t, k]`; 0 for an atom of zeros."""
    gram = chosen @ chosen.transpose(1, 2)
    gram.diagonal(dim1=1, dim2=2).add_(penalty)
    right = torch.einsum("ntk,nk->nt", chosen, targets)
    return torch.cholesky_solve(right[..., None], torch.linalg.cholesky(gram))[..., 0]
