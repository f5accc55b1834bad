"""The new rows themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from contrastok.attach import attach
from contrastok.embedding import RowOverlay
from contrastok.trainables.registry import trainable

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from contrastok.config import TrainConfig
    from contrastok.vocabulary import VocabularyPlan


@trainable("rows", source="two tables, one of them frozen (IDEFICS' IdeficsDecoupledEmbedding)")
def rows(model: SentenceTransformer, plan: VocabularyPlan, first: torch.Tensor, config: TrainConfig) -> RowOverlay:
    """The new rows, each coordinate for itself."""
    return attach(model, plan, first)
