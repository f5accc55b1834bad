"""What a training curve comes to, where one batch is easier than another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from contrastok.config import TrainConfig
from contrastok.forgetting import HELD_OUT

ENOUGH = 100
"""Steps in whose mean every kind of batch has about its share, although they are no whole epoch."""

Point = Mapping[str, float]


def epoch_steps(anchors: int, config: TrainConfig) -> int:
    """Steps of the optimiser in which every anchor is seen once.

    Args:
        anchors: of the run; with --reset-every some of them are held out.
        config: the options.
    """
    if config.reset_every:
        anchors -= round(HELD_OUT * anchors)
    batches = -(-anchors // config.batch_size)
    return -(-batches // config.gradient_accumulation)


def window(steps: int, epoch: int) -> int:
    """How many steps a mean has to take in so that their batches do not decide it.

    Batches are cut by length, and a batch of single words is another task than one of sentences: two steps cannot be
    compared, two epochs can, for both saw every anchor once.

    Args:
        steps: of the whole run.
        epoch: of one epoch; 0 where that is not known.

    Returns:
        an epoch, or a tenth of a run that is long enough; 0 for a run that is too short to be compared.
    """
    if epoch and steps >= 2 * epoch:
        return epoch
    return steps // 10 if steps >= 10 * ENOUGH else 0


def ends(curve: Sequence[Point], steps: int) -> tuple[dict[str, float] | None, dict[str, float] | None]:
    """The means over the first and over the last `steps` points; `step` and `move` are those of their last point.

    Returns:
        both; where `steps` is 0 no first one, and the mean over the whole curve. None for both without a curve.
    """
    if not curve:
        return None, None
    return _mean(curve[:steps]) if steps else None, _mean(curve[-steps:])


def _mean(points: Sequence[Point]) -> dict[str, float]:
    means = {name: round(sum(point[name] for point in points) / len(points), 5) for name in points[0]}
    return {**means, "step": points[-1]["step"], "move": points[-1]["move"]}


def moving_mean(points: Sequence[tuple[float, float]], steps: int) -> list[tuple[float, float]]:
    """The mean of every `steps` consecutive points (where, value), each at the middle of its points; none for 0."""
    if not steps:
        return []
    sums = list(accumulate((value for _, value in points), initial=0.0))
    return [
        ((points[at][0] + points[at + steps - 1][0]) / 2, (sums[at + steps] - sums[at]) / steps)
        for at in range(len(points) - steps + 1)
    ]


def curve_window(training: Mapping[str, Any]) -> int:
    """`window` for what a manifest says of training; older ones do not tell how long an epoch was."""
    return window(len(training.get("curve") or ()), training.get("epoch_steps", 0))
