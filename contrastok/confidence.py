"""How sure is it that a token landed within reach of its true row: a probability, calibrated on known words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import expit

WITHIN = 10
"""The rank of the gold row that counts as landed."""
PENALTY = 1.0
"""Ridge penalty on the weights (not the bias), for standardised signals."""
NEWTON_STEPS = 25


@dataclass(frozen=True)
class Confidence:
    """A logistic regression (Platt scaling: Platt 1999) on standardised signals.

    Attributes:
        mean, size: of each signal over the words it was fitted on.
        weights: one a signal, then the bias.
    """

    mean: tuple[float, ...]
    size: tuple[float, ...]
    weights: tuple[float, ...]

    def __call__(self, signals: np.ndarray) -> np.ndarray:
        """P(rank <= WITHIN) for signals `[n, s]`, float64 `[n]`."""
        x = (signals - np.array(self.mean)) / np.array(self.size)
        return expit(x @ np.array(self.weights[:-1]) + self.weights[-1])  # type: ignore[no-any-return]


def fit_confidence(signals: np.ndarray, landed: np.ndarray) -> Confidence:
    """Fit on words whose rank is known.

    Args:
        signals: `[n, s]`.
        landed: bool `[n]`, whether the gold row ranked within `WITHIN`.
    """
    mean, spread = signals.mean(0), signals.std(0)
    size = np.where(spread > 1e-6, spread, 1.0)  # a signal that is the same everywhere must not be blown up
    x = np.concatenate([(signals - mean) / size, np.ones((len(signals), 1))], axis=1)
    # Platt's targets: a share of one word is taken off, or words that are all alike would give a probability of 1.
    hits = landed.sum()
    y = np.where(landed, (hits + 1) / (hits + 2), 1 / (len(landed) - hits + 2))
    penalty = np.diag([PENALTY] * signals.shape[1] + [1e-9])
    weights = np.zeros(x.shape[1])
    for _ in range(NEWTON_STEPS):
        p = expit(x @ weights)
        gradient = x.T @ (p - y) + penalty @ weights
        weights -= np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + penalty, gradient)
    return Confidence(*(tuple(map(float, values)) for values in (mean, size, weights)))


def landing_signals(
    rows: np.ndarray,
    table: np.ndarray,
    mean: np.ndarray,
    agreement: np.ndarray,
    scale: np.ndarray,
    left_out: Sequence[int] | None = None,
) -> np.ndarray:
    """What tells a row that landed from one that did not, without knowing where it should be.

    Args:
        rows: learned rows, `[n, d]`.
        table: the vocabulary's rows, `[V, d]`.
        mean: what centres both, `[d]`.
        agreement: between the two halves of the prior, `[n]`.
        scale: of the prior's covariance, `[n]`; it tells how much evidence there was.
        left_out: for words that have a row in the table its position: a new term has none.

    Returns:
        float64 `[n, 4]`: cosine of the nearest row, how much nearer it is than the tenth, agreement, scale.
    """
    scores = F.normalize(torch.from_numpy(rows - mean), dim=1) @ F.normalize(torch.from_numpy(table - mean), dim=1).T
    if left_out is not None:
        scores[torch.arange(len(rows)), torch.as_tensor(np.asarray(left_out))] = -1
    top = scores.topk(WITHIN, dim=1).values
    return np.stack([top[:, 0].numpy(), (top[:, 0] - top[:, -1]).numpy(), agreement, scale], axis=1).astype(np.float64)
