"""Contrast of a sentence with itself: dropout is the only difference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from contrastok.errors import ConfigError
from contrastok.kernels.info_nce import info_nce
from contrastok.losses import LossTerms
from contrastok.models import transformer
from contrastok.objectives.contrast import Contrast
from contrastok.objectives.registry import objective

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from contrastok.config import TrainConfig
    from contrastok.feed import Batch


@objective("simcse", source="unsupervised SimCSE (Gao et al. 2021, arXiv 2104.08821)", dropout=True)
class Simcse(Contrast):
    """Two passes of a sentence under different dropout, against the other sentences of the batch.

    An encoder that is already contrastive tells them apart at once, so that the loss starts near zero and hardly
    anything is learned; the command says so.
    """

    @classmethod
    def check(cls, model: SentenceTransformer, config: TrainConfig) -> None:
        """See `Loss.check`.

        Raises:
            ConfigError: the model has no dropout, so both passes would be the same.
        """
        if not drops_out(model):
            raise ConfigError(
                "--objective simcse needs a model with dropout, and this one has none",
                hint="take another objective, or set the dropout (or attention_dropout) in the model's config.json",
            )

    def forward(self, batch: Batch) -> LossTerms:
        """Mean InfoNCE over the anchors; both passes get gradients."""
        with self.student.dropout(batch.draw):
            first = self.student.embed(batch.anchors)
            second = self.student.embed(batch.anchors)
        with self.student.watch("loss"):
            places = torch.arange(len(first), device=first.device)
            losses, hits = info_nce(self.scaled(first), second, places, None, self.settings.temperature)
            return LossTerms.of(losses.mean(), contrast=losses.mean(), accuracy=hits.float().mean())


def drops_out(model: SentenceTransformer) -> bool:
    """Whether anything is dropped out in training; some models drop attention without a module of its own."""
    layers = any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules())
    return layers or (getattr(transformer(model).config, "attention_dropout", None) or 0) > 0
