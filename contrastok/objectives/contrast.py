"""Contrast of anchors in new tokens against frozen keys."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from contrastok.losses import LossTerms, anchored_info_nce, close_keys, frozen_info_nce, weighted_info_nce
from contrastok.objectives.registry import Loss, objective

if TYPE_CHECKING:
    from contrastok.config import TrainConfig
    from contrastok.feed import Batch
    from contrastok.pair_settings import PairSettings
    from contrastok.student import Student

DUPLICATE = 0.95
"""Keys this close (cosine) to a positive say the same and are no negatives."""

COLDEST, WARMEST = 0.01, 1.0
"""Bounds of a learned temperature (CLIP, Radford et al. 2021, keeps its own from falling below 0.01)."""


class Contrast(Loss):
    """Common to the objectives that contrast; with `--learn-temperature` the temperature is a parameter of its own."""

    def __init__(self, student: Student, config: TrainConfig, settings: PairSettings) -> None:
        super().__init__(student, config, settings)
        if config.learn_temperature:
            self.log_temperature = nn.Parameter(torch.tensor(math.log(settings.temperature), device=student.device))

    def temperature(self) -> float:
        """The temperature of now."""
        if not self.config.learn_temperature:
            return self.settings.temperature
        return float(self._log_temperature().detach().exp())

    def scale(self) -> torch.Tensor | None:
        """Factor that makes logits at `--temperature` those at the learned one, which so gets a gradient."""
        if not self.config.learn_temperature:
            return None
        return self.settings.temperature / self._log_temperature().exp()

    @torch.no_grad()
    def _log_temperature(self) -> torch.Tensor:
        """Put back within its bounds after a step that left them: a clamp in the loss would have no gradient there."""
        return self.log_temperature.clamp_(math.log(COLDEST), math.log(WARMEST))

    def scaled(self, queries: torch.Tensor) -> torch.Tensor:
        """Queries whose logits at `--temperature` are those at the learned one."""
        scale = self.scale()
        return queries if scale is None else queries * scale

    def keys(self, batch: Batch) -> torch.Tensor:
        """The frozen keys of a batch, `[K, d]`."""
        bank = self.student.keys
        return bank if batch.columns is None else bank.index_select(0, batch.columns)

    def own(self, batch: Batch) -> torch.Tensor:
        """What the frozen model says of each anchor in its original tokens, `[A, d]`."""
        return self.student.keys.index_select(0, batch.own)


@objective(
    "anchored_pairs", source="SimCSE's InfoNCE (Gao et al. 2021, arXiv 2104.08821), held by self-distillation",
    calibrated=True,
)  # fmt: skip
class AnchoredPairs(Contrast):
    """Sentence with the token against its pair's frozen key, held by the cosine to its original tokens."""

    distill = True

    def forward(self, batch: Batch) -> LossTerms:
        """InfoNCE over the pairs plus `--distill-weight` times the distance to the anchors' own keys."""
        queries = self.student.embed(batch.anchors)
        with self.student.watch("loss"):
            keys, own = self.keys(batch), self.own(batch)
            return anchored_info_nce(
                queries,
                own,
                batch.pair_query,
                keys,
                batch.targets,
                batch.blocked | close_keys(own, keys, DUPLICATE),
                temperature=self.settings.temperature,
                contrast_weight=self.settings.contrast_weight,
                distill_weight=self.settings.distill_weight if self.distill else 0.0,
                scale=self.scale(),
            )


@objective("pairs", source="InfoNCE (van den Oord et al. 2018, arXiv 1807.03748)")
class Pairs(AnchoredPairs):
    """Sentence with the token against its pair's frozen key, held by nothing."""

    distill = False


@objective(
    "cross_tokenisation", source="InfoNCE (van den Oord et al. 2018, arXiv 1807.03748) over two tokenisations",
    own_keys=True,
)  # fmt: skip
class CrossTokenisation(Contrast):
    """Sentence in new tokens against the frozen model's view of it in its original tokens, among all other keys."""

    def forward(self, batch: Batch) -> LossTerms:
        """Mean InfoNCE over the anchors."""
        queries = self.student.embed(batch.anchors)
        with self.student.watch("loss"):
            keys, own = self.keys(batch), self.own(batch)
            mask = batch.blocked | close_keys(own, keys, DUPLICATE)
            losses, hits = frozen_info_nce(
                self.scaled(queries), keys, batch.own_columns, mask, self.settings.temperature
            )
            return LossTerms.of(losses.mean(), contrast=losses.mean(), accuracy=hits.float().mean())


@objective(
    "supervised_simcse",
    source="after supervised SimCSE (Gao et al. 2021, arXiv 2104.08821), with frozen keys",
    reads=("hard_negative_weight",),
)
class SupervisedSimcse(Contrast):
    """Sentence with the token against the other pairs' positives and all hard negatives of the batch, its own weighted.

    The paper encodes positives and negatives with the model that it trains. Here they are the frozen model's, in
    original tokens, as everywhere in this package.
    """

    def forward(self, batch: Batch) -> LossTerms:
        """Mean loss over the pairs."""
        queries = self.student.embed(batch.anchors)
        with self.student.watch("loss"):
            keys, own = self.keys(batch), self.own(batch)
            columns = torch.unique(torch.cat([batch.targets, batch.hard]))
            chosen = keys.index_select(0, columns)
            mask = batch.blocked.index_select(1, columns) | (own @ chosen.T > DUPLICATE)
            weights = torch.ones(len(queries), len(columns), device=queries.device)
            weights[batch.hard_query, torch.searchsorted(columns, batch.hard)] = self.config.hard_negative_weight
            losses, hits = weighted_info_nce(
                self.scaled(queries).index_select(0, batch.pair_query),
                chosen,
                torch.searchsorted(columns, batch.targets),
                mask.index_select(0, batch.pair_query),
                weights.index_select(0, batch.pair_query),
                self.settings.temperature,
            )
            return LossTerms.of(losses.mean(), contrast=losses.mean(), accuracy=hits.float().mean())
