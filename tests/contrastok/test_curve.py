from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from contrastok.batches import steps as plan_steps
from contrastok.config import TrainConfig
from contrastok.curve import ends, epoch_steps, moving_mean, window
from contrastok.story import _progress

KITCHEN = ((4.2, 0.52), (3.6, 0.53), (3.9, 0.51), (8.1, 0.01), (3.7, 0.55), (4.9, 0.4), (3.4, 0.53), (3.6, 0.53), (3.8, 0.51), (7.8, 0.03))  # fmt: skip
"""Loss and accuracy of ten steps on examples/kitchen; the fourth and the last are batches of single words."""


def curve(figures: tuple[tuple[float, float], ...] = KITCHEN) -> list[dict[str, float]]:
    return [
        {"step": at, "loss": loss, "accuracy": accuracy, "move": at / 100}
        for at, (loss, accuracy) in enumerate(figures, start=1)
    ]


def progress(points: list[dict[str, float]], epoch: int) -> str:
    averaged = window(len(points), epoch)
    first, last = ends(points, averaged)
    summary: dict[str, Any] = {
        "steps": len(points), "first": first, "last": last, "averaged": averaged or len(points), "ranks": True,
    }  # fmt: skip
    return _progress(summary)


def test_a_run_too_short_to_be_compared_gets_no_arrow() -> None:
    told = progress(curve(), 34)
    assert "->" not in told and "too few to tell" in told
    assert told.startswith("10 steps: loss 4.700, retrieval accuracy 0.41 on average")


def test_a_hard_batch_at_the_end_does_not_make_training_look_worse() -> None:
    better = tuple((loss - 0.5, accuracy + 0.1) for loss, accuracy in KITCHEN)
    told = progress(curve(KITCHEN + better), 10)
    assert "loss 4.700 -> 4.200, retrieval accuracy 0.41 -> 0.51 (means of the first and of the last 10 steps)" in told
    assert told.endswith("move of the rows 0.200")


@pytest.mark.parametrize(
    ("steps", "epoch", "found"), [(19, 10, 0), (20, 10, 10), (5, 1, 1), (999, 600, 0), (1500, 0, 150), (0, 0, 0)]
)
def test_what_a_mean_has_to_take_in(steps: int, epoch: int, found: int) -> None:
    assert window(steps, epoch) == found


def test_an_epoch_is_as_long_as_the_feed_makes_it() -> None:
    config = TrainConfig(batch_size=4, gradient_accumulation=3, epochs=2)
    for anchors in (1, 12, 13, 500):
        planned = list(plan_steps([1] * anchors, 4, 2, 3, 0))
        assert 2 * epoch_steps(anchors, config) == len(planned)
    assert epoch_steps(120, dataclasses.replace(config, reset_every=5)) == 9


def test_the_mean_moves_over_its_steps() -> None:
    values = np.random.default_rng(0).normal(size=50)
    found = moving_mean(list(enumerate(values)), 7)
    expected = np.convolve(values, np.ones(7) / 7, mode="valid")
    np.testing.assert_allclose([value for _, value in found], expected)
    assert [at for at, _ in found] == list(range(3, 47))
    assert moving_mean([(1, 2.0)], 0) == []


def test_without_steps_there_is_nothing_to_tell() -> None:
    assert ends([], 0) == (None, None)
