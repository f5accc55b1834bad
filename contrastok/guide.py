"""What a predictor gives training beside the first rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from contrastok.calibrate import Calibration
from contrastok.confidence import WITHIN, landing_signals
from contrastok.map_rows import WordObjective
from contrastok.pair_settings import PairSettings
from contrastok.predictor import Predictor


@dataclass(frozen=True)
class Guide:
    """A prior over the rows, and how to train by it.

    Attributes:
        predictor: the prior over the rows.
        calibration: settings of the word stage, and confidence.
        objective: the loss of rows by their isolated tokens.
        inputs: for each row the finished ids of its isolated token.
        pairs: settings of the pair stage, where training is one that has them.
        weighed: whether it is.
        pairs_tried: what known words said of such settings; nothing where they were not asked.
    """

    predictor: Predictor
    calibration: Calibration
    objective: WordObjective
    inputs: tuple[tuple[int, ...], ...]
    pairs: PairSettings = field(default_factory=PairSettings)
    weighed: bool = True
    pairs_tried: tuple[Mapping[str, Any], ...] = ()

    def confidence(self, rows: np.ndarray) -> np.ndarray:
        """P(gold row within rank 10) of final rows, `[n]`."""
        new, known = self.predictor.prior.new, self.predictor
        signals = landing_signals(rows, known.table, known.prior.mean, new.agreement, new.scale)
        return self.calibration.confidence(signals)

    def about(self) -> dict[str, Any]:
        """What the manifest says of it."""
        return {
            "fits": self.predictor.prior.story,
            "settings": dataclasses.asdict(self.calibration.settings),
            "calibration": list(self.calibration.tried),
            "pair_settings": dataclasses.asdict(self.pairs) if self.weighed else {},
            "pair_calibration": list(self.pairs_tried),
            "reliability": list(self.calibration.reliability),
            "confidence_within": WITHIN,
        }
