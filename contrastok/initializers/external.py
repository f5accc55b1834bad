"""Rows carried over from another local model."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from contrastok.auxiliary import Auxiliary
from contrastok.donor import check_donor, donor_vectors
from contrastok.initializers import InitContext, initializer
from contrastok.initializers.linear_alignment import rows_of, tell_fit
from contrastok.linear_maps import affine, cross_validated
from contrastok.matching_pursuit import matching_pursuit

ANCHORS = 5_000
"""Shared words that SAVA's map is fitted on, drawn at random where there are more."""
ATOMS = 64
"""Shared words that tokensurgeon writes a row with. Here it is at most a quarter of the donor's dimensions: with as
many words as dimensions everything is written exactly, by coefficients that grow without bound."""
NEEDS = ("tokenizer", "model")


@initializer("sava", source="Moroni et al. 2025, SAVA, arXiv:2504.17025", needs=NEEDS, refuse=check_donor)
def sava(context: InitContext) -> torch.Tensor:
    """Another model's rows through a least-squares map of the words that both models know."""
    space = donor_vectors(context)
    chosen = torch.randperm(len(space.anchors), generator=torch.Generator().manual_seed(context.seed))[:ANCHORS]
    space = Auxiliary(space.anchors[chosen], space.known[chosen], space.new)
    rows = rows_of(context, space)
    theirs, ours = Scaling.of(space.known), Scaling.of(rows)
    x, y = theirs.scaled(space.known), ours.scaled(rows)
    tell_fit(context, "sava", cross_validated(affine, x, y, context.seed), len(x))
    return ours.undone(affine(x, y)(theirs.scaled(space.new)))


@initializer(
    "omp",
    source="Goddard & Fernandes Neto 2025, tokensurgeon, arXiv:2506.06607",
    needs=NEEDS,
    refuse=check_donor,
)
def omp(context: InitContext) -> torch.Tensor:
    """Rows of shared words, mixed as orthogonal matching pursuit writes the term in another model's space."""
    space = donor_vectors(context)
    told = space.new.isfinite().all(dim=-1)
    rows = torch.full((len(space.new), context.table.shape[1]), torch.nan, dtype=torch.float64)
    if told.any():
        most = max(1, min(ATOMS, space.known.shape[1] // 4))
        places, weights = matching_pursuit(space.new[told], space.known, most)
        rows[told] = torch.einsum("nm,nmd->nd", weights, rows_of(context, space)[places])
    return rows


@dataclass(frozen=True)
class Scaling:
    """Coordinates less their mean, over their standard deviation; then all over the mean norm.

    Attributes:
        mean: float64 `[k]`.
        deviation: float64 `[k]`; 1 where a coordinate does not vary.
        norm: mean norm of the standardised vectors.
    """

    mean: torch.Tensor
    deviation: torch.Tensor
    norm: float

    @classmethod
    def of(cls, values: torch.Tensor) -> Scaling:
        """That of some vectors `[a, k]`."""
        mean, deviation = values.mean(0), values.std(dim=0, correction=0)
        deviation = torch.where(deviation > 1e-12, deviation, 1.0)
        return cls(mean, deviation, max(float(((values - mean) / deviation).norm(dim=-1).mean()), 1e-12))

    def scaled(self, values: torch.Tensor) -> torch.Tensor:
        """`[m, k]`, scaled."""
        return (values - self.mean) / self.deviation / self.norm

    def undone(self, values: torch.Tensor) -> torch.Tensor:
        """The inverse of `scaled`."""
        return values * self.norm * self.deviation + self.mean
