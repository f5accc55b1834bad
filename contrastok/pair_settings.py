"""How the pair stage is weighed: by options where they are given, else as known words chose."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contrastok.config import TrainConfig


@dataclass(frozen=True)
class PairSettings:
    """What calibration chooses for training on pairs; as they stand, what served other models with a predictor.

    Attributes:
        rate: Adam's step, in mean per-coordinate standard deviations of the table. Rows that were predicted and placed
            have not far to go.
        temperature: of InfoNCE.
        contrast_weight, distill_weight: of InfoNCE and of self-distillation.
        word_weight: of the rows' own loss.
    """

    rate: float = 0.02
    temperature: float = 0.05
    contrast_weight: float = 1.0
    distill_weight: float = 5.0
    word_weight: float = 4.0


UNGUIDED = PairSettings(rate=0.06, word_weight=0.0)
"""Without a predictor: rows that start at the mean of their pieces have far to go, and nothing holds them. Under a
language model's objective too: what a word means, which is what was predicted, is not yet how it is said."""


def settle(chosen: PairSettings, config: TrainConfig, unit: float) -> PairSettings:
    """What was chosen, but for what the options say.

    Args:
        chosen: by known words, or built in.
        config: the options.
        unit: mean per-coordinate standard deviation of the table, by which a learning rate becomes a rate.
    """
    said = {field.name: getattr(config, field.name, None) for field in fields(chosen)}
    said["rate"] = None if config.learning_rate is None else config.learning_rate / unit
    return replace(chosen, **{name: value for name, value in said.items() if value is not None})
