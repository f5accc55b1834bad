"""Intervals by the bootstrap: units (tokens, queries, texts) are drawn again with replacement, everything else follows.

The unit is what the figures vary over. Relations of one token rise and fall together, so tokens are drawn and not
relations; two results on the same units are compared on the same draws (paired bootstrap).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

RESAMPLES = 2000
"""Draws behind an interval."""
LEVEL = (0.025, 0.975)
"""The quantiles of a 95 % interval."""
AT_ONCE = 2**21
"""Indices drawn at once: 16 MB, however many units there are."""

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval.

    Attributes:
        value: over all units.
        low, high: the interval.
        units: how many units it rests on.
    """

    value: float
    low: float
    high: float
    units: int


def bootstrap(units: int, statistic: Callable[[Indices], Floats], seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of a statistic (percentile bootstrap, Efron 1979).

    Args:
        units: how many units there are; at least one.
        statistic: given drawn units as indices `[c, units]`, one value a draw, `[c]`.
        seed: of the draws. The same seed and number of units give the same draws, which pairs two statistics.
    """
    generator = np.random.default_rng(seed)
    step = max(1, AT_ONCE // units)
    values = [
        statistic(generator.integers(0, units, (min(step, RESAMPLES - start), units)))
        for start in range(0, RESAMPLES, step)
    ]
    low, high = np.quantile(np.concatenate(values), LEVEL)
    return float(low), float(high)


def mean(values: npt.ArrayLike, seed: int = 0) -> Estimate | None:
    """The mean of one value a unit, `[units]`; None when there is no unit."""
    array = np.asarray(values, dtype=np.float64)
    return ratio(array, np.ones(len(array)), seed)


def ratio(sums: npt.ArrayLike, counts: npt.ArrayLike, seed: int = 0) -> Estimate | None:
    """The mean over things that come in units: all sums by all counts.

    Args:
        sums: of the things of each unit, `[units]`.
        counts: how many things each unit has, `[units]`; units without any are left out.
        seed: of the draws.

    Returns:
        None when no unit has anything.
    """
    counted = np.asarray(counts, dtype=np.float64)
    kept = counted > 0
    total, of = np.asarray(sums, dtype=np.float64)[kept], counted[kept]
    if not len(of):
        return None
    low, high = bootstrap(len(of), lambda drawn: total[drawn].sum(axis=1) / of[drawn].sum(axis=1), seed)
    return Estimate(float(total.sum() / of.sum()), low, high, len(of))


def as_figures(estimates: Mapping[str, Estimate | None]) -> dict[str, Any]:
    """Estimates as JSON has them: each under its name, its interval under "NAME_interval"; None where there is none."""
    figures: dict[str, Any] = {}
    for name, estimate in estimates.items():
        figures[name] = estimate and estimate.value
        figures[f"{name}_interval"] = estimate and [estimate.low, estimate.high]
    return figures
