"""New rows that are made of fewer parameters: a low rank, an adapter, mixtures of old rows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize

from contrastok.candidates import candidates
from contrastok.embedding import RowOverlay
from contrastok.overlay import attach
from contrastok.trainables.registry import trainable
from contrastok.vocabulary import pieces

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from contrastok.config import TrainConfig
    from contrastok.vocabulary import VocabularyPlan

RIDGE = 1e-3
"""Ridge of the fit that a mixture starts from, relative to the mean squared norm of the rows that it mixes."""
SHARE = 1e-3
"""Least share of a row in a convex mixture when training starts; a share of zero would never get a gradient."""


def made_by(overlay: RowOverlay, made: nn.Module) -> RowOverlay:
    """The overlay with rows that a module makes of the first ones; its parameters are trained in their place."""
    parametrize.register_parametrization(overlay, "rows", made.to(overlay.weight.device))
    overlay.parametrizations["rows"].original.requires_grad_(False)  # type: ignore[index, union-attr]
    return overlay


def unit(overlay: RowOverlay) -> float:
    """Mean per-coordinate standard deviation of the table's rows: how long a step is."""
    return float(overlay.weight.float().std(dim=0).mean())


class LowRank(nn.Module):
    """rows = first + unit / sqrt(r) A B, with A drawn and B zero (LoRA, Hu et al. 2021, arXiv 2106.09685, eq. 3).

    Args:
        n, d: shape of the rows.
        rank: r, columns of A.
        unit: the table's own scale, so that A and B have steps of the same size in every model.
        seed: of A.
        zero: which of the two is zero at first. With "a" only rows whose gradient is not zero ever move.
    """

    def __init__(self, n: int, d: int, rank: int, unit: float, seed: int, zero: str = "b") -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn((n, rank) if zero == "b" else (rank, d), generator=generator)
        self.a = nn.Parameter(drawn if zero == "b" else torch.zeros(n, rank))
        self.b = nn.Parameter(torch.zeros(rank, d) if zero == "b" else drawn)
        self.scale = unit / math.sqrt(rank)

    def forward(self, first: torch.Tensor) -> torch.Tensor:
        """The rows, `[n, d]`."""
        return first + self.scale * (self.a @ self.b)


class Bottleneck(nn.Module):
    """rows = first + unit W2 gelu(W1 norm(first)), W2 zero at first (adapter, Houlsby et al. 2019, arXiv 1902.00751).

    It reads nothing but the first rows, so it merges into rows and is thrown away.

    Args:
        d: width of the rows.
        width: of the bottleneck.
        unit: the table's own scale.
        seed: of W1.
    """

    def __init__(self, d: int, width: int, unit: float, seed: int) -> None:
        super().__init__()
        drawn = torch.randn(width, d, generator=torch.Generator().manual_seed(seed))
        self.down, self.up = nn.Parameter(drawn / math.sqrt(d)), nn.Parameter(torch.zeros(d, width))
        self.unit = unit

    def forward(self, first: torch.Tensor) -> torch.Tensor:
        """The rows, `[n, d]`."""
        inner = F.gelu(F.linear(F.layer_norm(first, first.shape[-1:]), self.down))
        return first + self.unit * F.linear(inner, self.up)


class Mixture(nn.Module):
    """rows_t = sum_j c_tj E_j over a few old rows of each term; c free, or a softmax of its logits.

    Args:
        old: the rows that each term mixes, `[n, m, d]`.
        weights: the first c, `[n, m]`; with `convex` above 0 and of sum 1.
        convex: whether c stays so.
    """

    old: torch.Tensor

    def __init__(self, old: torch.Tensor, weights: torch.Tensor, convex: bool) -> None:
        super().__init__()
        self.register_buffer("old", old)
        self.c, self.convex = nn.Parameter(weights.log() if convex else weights), convex

    def forward(self, first: torch.Tensor) -> torch.Tensor:
        """The rows, `[n, d]`; `first` only says where they started."""
        return torch.einsum("nm,nmd->nd", self.c.softmax(-1) if self.convex else self.c, self.old)


@trainable(
    "row_lora", source="LoRA (Hu et al. 2021, arXiv 2106.09685) on the new rows alone", rate=0.03, reads=("rank",)
)
def row_lora(model: SentenceTransformer, plan: VocabularyPlan, first: torch.Tensor, config: TrainConfig) -> RowOverlay:
    """New rows that move together in `--rank` directions, which are learned too."""
    overlay = attach(model, plan, first)
    n, d = first.shape
    return made_by(overlay, LowRank(n, d, config.rank, unit(overlay), config.seed))


@trainable(
    "adapter",
    source="adapters (Houlsby et al. 2019, arXiv 1902.00751) on the new rows",
    rate=0.003,
    reads=("rank",),
)
def adapter(model: SentenceTransformer, plan: VocabularyPlan, first: torch.Tensor, config: TrainConfig) -> RowOverlay:
    """A bottleneck of `--rank` units that all new rows pass, merged into them afterwards."""
    overlay = attach(model, plan, first)
    return made_by(overlay, Bottleneck(first.shape[1], config.rank, unit(overlay), config.seed))


@trainable(
    "mixing",
    source="CW2V (Mundra et al. 2024, arXiv 2407.05841); VocADT for free coefficients",
    rate=0.03,
    reads=("mix", "mix_rows"),
)
def mixing(model: SentenceTransformer, plan: VocabularyPlan, first: torch.Tensor, config: TrainConfig) -> RowOverlay:
    """New rows as mixtures of a term's pieces and of the `--mix-rows` nearest words of the vocabulary."""
    overlay = attach(model, plan, first)
    table = overlay.weight.detach().float().cpu()
    chosen = neighbours(table, first.cpu(), candidates(model.tokenizer).ids, config.mix_rows)
    for term, row in zip(plan.terms, chosen, strict=True):
        own = list(dict.fromkeys(pieces(model.tokenizer, term)))[: len(row)]
        row[:] = [*own, *(i for i in row if i not in own)][: len(row)]
    old = table[torch.tensor(chosen)]
    fit = convex_fit if config.mix == "softmax" else ridge_fit
    return made_by(overlay, Mixture(old, fit(old, first.cpu()), config.mix == "softmax"))


def neighbours(table: torch.Tensor, rows: torch.Tensor, ids: Any, count: int) -> list[list[int]]:
    """For each row the ids of the nearest table rows among `ids`, by centred cosine, nearest first."""
    among = torch.tensor(list(ids))
    centre = table[among].mean(0)
    near = F.normalize(rows - centre, dim=-1) @ F.normalize(table[among] - centre, dim=-1).T
    best = near.topk(min(count, len(among)), dim=-1).indices
    return [list(map(int, row)) for row in among[best]]


def ridge_fit(old: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """The free mixture that comes nearest to each row, by ridge regression, float32 `[n, m]`."""
    e = old.double()
    gram = e @ e.transpose(1, 2)
    ridge = RIDGE * gram.diagonal(dim1=1, dim2=2).mean(-1)[:, None, None] * torch.eye(e.shape[1])
    right = torch.einsum("nmd,nd->nm", e, rows.double())
    fitted: torch.Tensor = torch.linalg.solve(gram + ridge, right)
    return fitted.float()


def convex_fit(old: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """The convex mixture that comes nearest to each row, every share at least `SHARE`, float32 `[n, m]`.

    Non-negative least squares (Lawson & Hanson 1974); a last, heavy equation says that the shares have the sum 1.
    """
    from scipy.optimize import nnls

    shares = []
    for e, row in zip(old.double().numpy(), rows.double().numpy(), strict=True):
        heavy = 100 * np.sqrt((e**2).sum(axis=1).mean())
        found, _ = nnls(np.vstack([e.T, np.full(len(e), heavy)]), np.append(row, heavy))
        shares.append(np.maximum(found, SHARE) / np.maximum(found, SHARE).sum())
    return torch.from_numpy(np.stack(shares)).float()


def effective_rank(move: torch.Tensor) -> float:
    """Effective rank of a move of rows `[n, d]`: exp of the entropy of its singular values (Roy & Vetterli 2007)."""
    values = torch.linalg.svdvals(move.double().cpu())
    if not values.sum() > 0:
        return 0.0
    share = values / values.sum()
    return float(torch.special.entr(share).sum().exp())
