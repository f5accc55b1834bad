"""The training objective: InfoNCE against frozen keys, anchored by self-distillation."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from contrastok.kernels.info_nce import info_nce


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
    """
    losses, hits = info_nce(
        # index_select and not [...]: the backward of advanced indexing adds up in an order that threads decide
        queries.index_select(0, pair_query),
        keys,
        targets,
        mask.index_select(0, pair_query),
        temperature,
    )
    contrast = losses.mean()
    distill = (1 - (queries * teacher.detach()).sum(-1)).mean()
    total = contrast_weight * contrast + distill_weight * distill
    return LossTerms(total, contrast.detach(), distill.detach(), hits.float().mean())
