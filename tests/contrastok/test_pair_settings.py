from __future__ import annotations

from contrastok.config import TrainConfig
from contrastok.pair_settings import UNGUIDED, PairSettings, settle


def test_what_options_say_stands_and_the_rest_was_chosen() -> None:
    chosen = PairSettings(0.01, 0.1, 0.3, 15.0, 12.0)
    assert settle(chosen, TrainConfig(), 0.5) == chosen
    said = TrainConfig(temperature=0.2, word_weight=0.0, learning_rate=1e-4)
    assert settle(chosen, said, 0.5) == PairSettings(2e-4, 0.2, 0.3, 15.0, 0.0)
    assert settle(UNGUIDED, TrainConfig(contrast_weight=0.0, distill_weight=1.0), 0.5) == PairSettings(
        0.06, 0.05, 0.0, 1.0, 0.0
    )
