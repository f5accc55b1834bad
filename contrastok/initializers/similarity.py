"""Rows as mixes of the rows of similar words: one engine, four presets.

RAMEN, WECHSEL, OFA and FOCUS differ in where the vectors come from that say what is similar
(`contrastok/auxiliary.py`), and in how similarities become weights. They were made to give a whole vocabulary its rows;
here old rows stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F

from contrastok.auxiliary import Auxiliary, auxiliary, check_space
from contrastok.initializers import InitContext, initializer

NEIGHBORS, TEMPERATURE = 10, 0.1
"""Defaults of WECHSEL, which OFA took over."""
CHUNK = 256
"""Terms whose similarities are computed at once."""
NEEDS = ("tokenizer", "plan", "extended", "space")

Weigh = Callable[[torch.Tensor], torch.Tensor]
"""Weights that sum to 1 over anchors, of cosines; both `[n, a]`."""


def softmax_nearest(cosines: torch.Tensor, count: int, temperature: float) -> torch.Tensor:
    """Softmax of cosines over the `count` nearest anchors; the others weigh nothing.

    An infinite temperature weighs the nearest alike.
    """
    top, places = cosines.topk(min(count, cosines.shape[1]), dim=1)
    return torch.zeros_like(cosines).scatter(1, places, (top / temperature).softmax(dim=1))


def sparsemax(scores: torch.Tensor) -> torch.Tensor:
    """The point of the probability simplex that is nearest to each row of scores (Martins & Astudillo 2016, alg. 1).

    Args:
        scores: `[n, a]`, any float dtype.

    Returns:
        `[n, a]`, rows that sum to 1; what lies far below the largest score is exactly 0.
    """
    ordered = scores.sort(dim=1, descending=True).values
    counts = torch.arange(1, scores.shape[1] + 1, dtype=scores.dtype, device=scores.device)
    above = ordered.cumsum(dim=1) - 1
    support = (counts * ordered > above).sum(dim=1, keepdim=True)
    threshold = above.gather(1, support - 1) / support
    return (scores - threshold).clamp_min(0)


def mixed_rows(auxiliary: Auxiliary, values: torch.Tensor, weigh: Weigh) -> torch.Tensor:
    """Mixes of the anchors' values by the cosines of auxiliary vectors.

    Args:
        auxiliary: who is similar to whom.
        values: what is mixed, a row for each id of the table: `[V, D]`.
        weigh: cosines to weights.

    Returns:
        float64 `[n, D]`; NaN for terms without a vector.
    """
    old = F.normalize(auxiliary.known, dim=-1)
    mixed = values[auxiliary.anchors.to(values.device)].detach().cpu().double()
    rows = torch.full((len(auxiliary.new), values.shape[1]), torch.nan, dtype=torch.float64)
    told = auxiliary.new.isfinite().all(dim=-1).nonzero()[:, 0]
    for part in torch.split(told, CHUNK):
        rows[part] = weigh(F.normalize(auxiliary.new[part], dim=-1) @ old.T) @ mixed
    return rows


nearest = partial(softmax_nearest, count=NEIGHBORS, temperature=TEMPERATURE)


@initializer(
    "ramen",
    source="Tran 2020, From English to Foreign Languages (RAMEN), arXiv:2002.07306",
    needs=NEEDS,
    refuse=check_space,
)
def ramen(context: InitContext) -> torch.Tensor:
    """A sparsemax mix over all old words, by vectors of words that a token is part of, weighted by 1/rank."""
    return mixed_rows(auxiliary(context, "words", "rank"), context.table, sparsemax)


@initializer("wechsel", source="Minixhofer et al. 2022, WECHSEL, arXiv:2112.06598", needs=NEEDS, refuse=check_space)
def wechsel(context: InitContext) -> torch.Tensor:
    """A softmax mix of the 10 old words with the most similar word vectors."""
    return mixed_rows(auxiliary(context, "words"), context.table, nearest)


@initializer(
    "ofa",
    source="Liu et al. 2024, OFA, arXiv:2311.08849",
    needs=NEEDS,
    reads=("init_dimension",),
    refuse=check_space,
)
def ofa(context: InitContext) -> torch.Tensor:
    """A softmax mix of the coordinates of 10 similar words in a factorised table (`--init-dimension`)."""
    coordinates, primitives = factorised(context.table, context.options.dimension)
    return mixed_rows(auxiliary(context, "words", "uniform"), coordinates, nearest) @ primitives


@initializer("focus", source="Dobler & de Melo 2023, FOCUS, arXiv:2305.14481", needs=NEEDS, refuse=check_space)
def focus(context: InitContext) -> torch.Tensor:
    """A sparsemax mix over all old words, by vectors trained on the user's text in the new tokens."""
    return mixed_rows(auxiliary(context, "tokens"), context.table, sparsemax)


@initializer("similar_mean", source="the plain form of WECHSEL's mix", needs=NEEDS, refuse=check_space)
def similar_mean(context: InitContext) -> torch.Tensor:
    """The mean of the 10 old words with the most similar word vectors."""
    alike = partial(softmax_nearest, count=NEIGHBORS, temperature=float("inf"))
    return mixed_rows(auxiliary(context, "words"), context.table, alike)


def factorised(table: torch.Tensor, dimension: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """A table as coordinates times primitives, `E ~ C P`, by singular values (OFA).

    With `E = U S V'`, OFA's coordinates are `U` and its primitives `S V'`; here they are `U S` and `V'`. A mix of
    coordinates is linear in them, so its rows are the same.

    Args:
        table: `[V, d]`.
        dimension: coordinates that are kept; all when None or more than there are.

    Returns:
        float64 `[V, D]` and `[D, d]`.
    """
    exact = table.detach().cpu().double()
    right = torch.linalg.eigh(exact.T @ exact).eigenvectors.flip(1)[:, : min(dimension or len(exact), *exact.shape)]
    return exact @ right, right.T
