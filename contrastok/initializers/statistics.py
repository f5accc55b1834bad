"""Rows that know nothing of the term: constants, and draws from what the vocabulary's rows look like."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from contrastok.initializers import InitContext, initializer

CHUNK = 8192
"""Rows of the table that are held in float64 at once."""
NARROW = 1e-9
"""What Hugging Face's mean_resizing multiplies the covariance by."""


@dataclass(frozen=True)
class Moments:
    """Mean `[d]` and covariance `[d, d]` (divided by the number of rows) of a table, float64."""

    mean: torch.Tensor
    covariance: torch.Tensor


@initializer("zero", source="common practice; a baseline")
def zero(context: InitContext) -> torch.Tensor:
    """Rows of zeros."""
    return torch.zeros(len(context.terms), context.table.shape[1], device=context.table.device)


@initializer("mean", source="common practice; a baseline")
def mean(context: InitContext) -> torch.Tensor:
    """The mean of the vocabulary's rows, the same for every term."""
    return context.old_rows().mean(0).expand(len(context.terms), -1).clone()


@initializer("normal", source="the fallback of WECHSEL (Minixhofer et al. 2022) and FOCUS (Dobler & de Melo 2023)")
def normal(context: InitContext) -> torch.Tensor:
    """Drawn from a normal distribution with the vocabulary's mean and variance in each dimension."""
    rows = context.old_rows()
    drawn = rows.mean(0).cpu() + _noise(context) * rows.std(0, correction=0).cpu()
    return drawn.to(rows)


@initializer("mvn", source="Hewitt 2021, Initializing New Word Embeddings for Pretrained Language Models")
def mvn(context: InitContext) -> torch.Tensor:
    """Drawn from a normal distribution with the vocabulary's mean and covariance."""
    return _drawn(context, moments(context.old_rows()))


@initializer("hf_resize", source="Hugging Face transformers, resize_token_embeddings(mean_resizing=True)")
def hf_resize(context: InitContext) -> torch.Tensor:
    """Drawn as mvn with a covariance 1e-9 times as large: a trap, all rows are almost the mean.

    Unlike the other methods it looks at every row of the table, those that pad it too, as the library does.
    """
    found = moments(context.table.detach())
    return _drawn(context, Moments(found.mean, NARROW * found.covariance))


def moments(rows: torch.Tensor) -> Moments:
    """Mean and covariance of rows `[V, d]` of any float dtype; a large table is never held whole in float64."""
    d = rows.shape[1]
    mean, covariance = (torch.zeros(*shape, dtype=torch.float64, device=rows.device) for shape in ((d,), (d, d)))
    for part in torch.split(rows, CHUNK):
        mean += part.double().sum(0) / len(rows)
    for part in torch.split(rows, CHUNK):
        off = part.double() - mean
        covariance += off.T @ off / len(rows)
    return Moments(mean, covariance)


def _drawn(context: InitContext, source: Moments) -> torch.Tensor:
    """One draw a term, float32 `[n, d]`. A covariance without full rank (fewer rows than dimensions) does no harm."""
    values, vectors = torch.linalg.eigh(source.covariance.cpu())
    root = vectors * values.clamp_min(0).sqrt()
    drawn: torch.Tensor = source.mean.cpu() + _noise(context).double() @ root.T
    return drawn.float().to(context.table.device)


def _noise(context: InitContext) -> torch.Tensor:
    """Standard normal float32 `[n, d]`, drawn on the CPU so that every device gives the same."""
    generator = torch.Generator().manual_seed(context.seed)
    return torch.randn(len(context.terms), context.table.shape[1], generator=generator)
