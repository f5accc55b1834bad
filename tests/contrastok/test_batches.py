from __future__ import annotations

import numpy as np

from contrastok.batches import epoch_batches, steps


def test_accumulated_gradients_are_the_mean_of_their_batches() -> None:
    plan = list(steps([5] * 10, batch_size=2, epochs=1, accumulation=2, seed=0))
    assert [len(step) for step in plan] == [2, 2, 1]
    assert sorted(i for step in plan for batch in step for i in batch) == list(range(10))


def test_batches_hold_similar_lengths_and_depend_on_seed_and_epoch_alone() -> None:
    lengths = list(np.random.default_rng(0).integers(5, 100, 2000))
    batches = epoch_batches(lengths, 16, seed=3, epoch=1)
    assert sorted(i for b in batches for i in b) == list(range(2000))
    assert batches == epoch_batches(lengths, 16, seed=3, epoch=1) != epoch_batches(lengths, 16, seed=3, epoch=2)
    spread = np.mean([np.ptp([lengths[i] for i in b]) for b in batches])
    assert spread < 0.2 * np.ptp(lengths)
