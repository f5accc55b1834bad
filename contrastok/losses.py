"""Losses: InfoNCE against frozen keys, alone, weighted, and anchored by self-distillation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from contrastok.kernels.bank_info_nce import bank_info_nce
from contrastok.kernels.info_nce import info_nce

LARGE_BANK = 2**15
"""From so many keys on they are read once, by `bank_info_nce`. Below, where the default's `--bank-size` lies, a step is
nearly all body whatever the kernel, and rows keep the bits that they had before there was a choice."""


@dataclass(frozen=True)
class LossTerms:
    """The parts of a batch's loss; scalars, except where said.

    Attributes:
        total: what is minimised.
        contrast: mean InfoNCE over the pairs.
        distill: mean of 1 - cosine to the frozen model's embedding of the original tokens.
        accuracy: share of pairs whose positive is the nearest of all unmasked keys.
    """

    total: torch.Tensor
    contrast: torch.Tensor
    distill: torch.Tensor
    accuracy: torch.Tensor

    @classmethod
    def of(
        cls,
        total: torch.Tensor,
        *,
        contrast: torch.Tensor | None = None,
        distill: torch.Tensor | None = None,
        accuracy: torch.Tensor | None = None,
    ) -> LossTerms:
        """Terms of which some do not exist; these are zero."""
        none = torch.zeros((), device=total.device)
        parts = (none if part is None else part.detach() for part in (contrast, distill, accuracy))
        return cls(total, *parts)


def frozen_info_nce(
    queries: torch.Tensor, keys: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """InfoNCE against keys that get no gradient, by the kernel for their number; see `info_nce`.

    Args:
        queries: `[B, d]`, norm 1.
        keys: `[K, d]`, norm 1, frozen.
        targets: the column of each query's positive, int64 `[B]`.
        mask: bool `[B, K]`, true where a key is no negative of a query.
        temperature: cosines are divided by it.

    Returns:
        losses `[B]`, and whether the positive is the nearest unmasked key, bool `[B]`.
    """
    if len(keys) < LARGE_BANK:
        return info_nce(queries, keys, targets, mask, temperature)
    others = mask.scatter(1, targets[:, None], True)  # the positive is no negative
    return bank_info_nce(queries, keys.index_select(0, targets), keys, temperature, mask=others)


def close_keys(own: torch.Tensor, keys: torch.Tensor, limit: float) -> torch.Tensor:
    """Where a key is closer than a cosine to what a query says itself, bool `[B, K]`; a run of keys after the other."""
    return torch.cat([own @ part.T > limit for part in torch.split(keys, LARGE_BANK)], dim=1)


def weighted_info_nce(
    queries: torch.Tensor,
    keys: torch.Tensor,
    targets: torch.Tensor,
    mask: torch.Tensor,
    weights: torch.Tensor,
    temperature: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """InfoNCE in which a negative counts as often as its weight says (Gao et al. 2021, arXiv 2104.08821).

    Args:
        queries: `[B, d]`, norm 1.
        keys: `[K, d]`, norm 1.
        targets: the column of each query's positive, int64 `[B]`; its weight is 1 whatever `weights` says.
        mask: bool `[B, K]`, true where a key is no negative of a query.
        weights: above 0, `[B, K]`.
        temperature: cosines are divided by it.

    Returns:
        losses `[B]`, and whether the positive is the nearest unmasked key, bool `[B]`.
    """
    places = targets[:, None]
    logits = queries @ keys.T / temperature
    positive = logits.gather(1, places)
    negatives = logits.masked_fill(mask, -torch.inf).scatter(1, places, -torch.inf)
    weighted = (negatives + weights.log()).scatter(1, places, positive)
    return F.cross_entropy(weighted, targets, reduction="none"), negatives.amax(dim=1) <= positive.squeeze(1)


def anchored_info_nce(
    queries: torch.Tensor,
    teacher: torch.Tensor,
    pair_query: torch.Tensor,
    keys: torch.Tensor,
    targets: torch.Tensor,
    mask: torch.Tensor,
    *,
    temperature: float,
    contrast_weight: float,
    distill_weight: float,
    scale: torch.Tensor | None = None,
) -> LossTerms:
    """InfoNCE over pairs plus pooled-cosine self-distillation over anchors.

    InfoNCE alone walks off the manifold of the vocabulary while its loss falls; the cosine to what the
    frozen model says about the same sentence in its original tokens holds it there.

    Args:
        queries: the model's embeddings of the anchors in new tokens, `[A, d]`, norm 1.
        teacher: the frozen model's embeddings of the same anchors in original tokens, `[A, d]`, norm 1.
        pair_query: for each of the P pairs, the index of its anchor, int64 `[P]`.
        keys: frozen keys, `[K, d]`, norm 1.
        targets: for each pair, the column of its positive, int64 `[P]`.
        mask: bool `[A, K]`, true where a key is no negative of an anchor.
        temperature: InfoNCE temperature.
        contrast_weight: weight of InfoNCE.
        distill_weight: weight of self-distillation.
        scale: factor on InfoNCE's logits, where a temperature is learned.
    """
    losses, hits = frozen_info_nce(
        # index_select and not [...]: the backward of advanced indexing adds up in an order that threads decide
        (queries if scale is None else queries * scale).index_select(0, pair_query),
        keys,
        targets,
        mask.index_select(0, pair_query),
        temperature,
    )
    contrast = losses.mean()
    distill = (1 - (queries * teacher.detach()).sum(-1)).mean()
    total = contrast_weight * contrast + distill_weight * distill
    return LossTerms(total, contrast.detach(), distill.detach(), hits.float().mean())
