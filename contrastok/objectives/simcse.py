"""Contrast of a sentence with itself: dropout is the only difference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from contrastok.errors import ConfigError
from contrastok.kernels.info_nce import info_nce
from contrastok.losses import LossTerms
from contrastok.objectives.contrast import Contrast
from contrastok.objectives.registry import objective

if TYPE_CHECKING:
    from contrastok.config import TrainConfig
    from contrastok.feed import Batch
    from contrastok.pair_settings import PairSettings
    from contrastok.student import Student


@objective("simcse", source="unsupervised SimCSE (Gao et al. 2021, arXiv 2104.08821, eq. 4)")
class Simcse(Contrast):
    """Two passes of a sentence under different dropout, against the other sentences of the batch.

    An encoder that is already contrastive tells them apart at once, so that the loss starts near zero and hardly
    anything is learned; the command says so.

    Raises:
        ConfigError: the model has no dropout, so both passes would be the same.
    """

    def __init__(self, student: Student, config: TrainConfig, settings: PairSettings) -> None:
        super().__init__(student, config, settings)
        if not any(isinstance(module, nn.Dropout) and module.p > 0 for module in student.model.modules()):
            raise ConfigError(
                "--objective simcse needs a model with dropout, and this one has none",
                hint="take another objective, or set the dropout in the model's config.json",
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
