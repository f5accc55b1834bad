"""Closed-form regressions on blocks of features: ridge, and ridge with a Gaussian kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from contrastok.features import Features

CHUNK = 2048
"""Rows of a kernel matrix computed at once when predicting."""


@dataclass(frozen=True)
class Block:
    """How one block is standardised: less its mean over the words that have it, to a mean square norm of 1."""

    name: str
    source: str
    mean: torch.Tensor
    size: float


class Design:
    """Blocks as the columns of a regression.

    Args:
        features: the words that are fitted on; they decide means and sizes.
        required: sources that all words have.
        optional: sources that a word may lack: its columns are then zero, and a column of their own says so.
    """

    def __init__(self, features: Features, required: Sequence[str], optional: Sequence[str]) -> None:
        self.optional = tuple(optional)
        self.most = int(features.sentences.max(initial=0))  # what is beyond it says no more than it does
        self.blocks: list[Block] = []
        for name, block in features.blocks.items():
            source = name.split("/")[0]
            if source in required or source in optional:
                values = torch.from_numpy(block[features.present[source]])
                mean = values.mean(0)
                size = float((values - mean).square().sum(1).mean().sqrt())
                self.blocks.append(Block(name, source, mean, max(size, 1e-6)))

    def linear(self, features: Features) -> torch.Tensor:
        """Columns for a linear map, float32 `[n, D]`; the last is 1."""
        columns = [self.block(features, block) for block in self.blocks]
        columns += [torch.from_numpy(features.present[s]).float()[:, None] for s in self.optional]
        columns.append(torch.from_numpy(np.log1p(np.minimum(features.sentences, self.most))).float()[:, None])
        return torch.cat([*columns, torch.ones(len(features), 1)], dim=1)

    def weighted(self, features: Features, weights: Mapping[str, float]) -> torch.Tensor:
        """Columns for a kernel: blocks times the square root of their weight, float32 `[n, D]`."""
        return torch.cat(
            [self.block(features, b) * weights[b.name] ** 0.5 for b in self.blocks if b.name in weights], dim=1
        )

    def block(self, features: Features, block: Block) -> torch.Tensor:
        """One block, standardised; zero where a word lacks it."""
        values = (torch.from_numpy(features.blocks[block.name]) - block.mean) / block.size
        return values * torch.from_numpy(features.present[block.source]).float()[:, None]


class Ridge:
    """Linear ridge regression (Hoerl & Kennard 1970).

    Args:
        x: `[n, D]`.
        y: `[n, k]`.
        penalty: added to the diagonal.
        gram: x' x, where it is known already: it costs the most.
    """

    def __init__(self, x: torch.Tensor, y: torch.Tensor, penalty: float, gram: torch.Tensor | None = None) -> None:
        self._x, self._y = x, y
        squared = x.T @ x if gram is None else gram.clone()
        squared.diagonal().add_(penalty)
        self._factor = torch.linalg.cholesky(squared)
        self.weights = torch.cholesky_solve(x.T @ y, self._factor)

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        """`[m, k]` for `[m, D]`."""
        return x @ self.weights

    def left_out(self, rows: torch.Tensor) -> torch.Tensor:
        """What is predicted for some of the fitted words, each by a fit without it (PRESS: Allen 1974).

        Args:
            rows: positions of `m` words.

        Returns:
            `[m, k]`.
        """
        found = []
        for part in torch.split(rows, CHUNK):
            x = self._x[part]
            own = torch.linalg.solve_triangular(self._factor, x.T, upper=False).square().sum(0)[:, None]
            found.append((x @ self.weights - own * self._y[part]) / (1 - own).clamp_min(1e-3))
        return torch.cat(found)


class Kernel:
    """Ridge regression with a Gaussian kernel, exp(-width |x - x'|^2 / 2).

    Args:
        z: `[n, D]`, columns already weighted.
        y: `[n, k]`.
        width: scale of the squared distances.
        penalty: added to the diagonal.
    """

    def __init__(self, z: torch.Tensor, y: torch.Tensor, width: float, penalty: float) -> None:
        self.z, self._y, self.width, self.center = z, y, width, y.mean(0)
        matrix = self._similarity(z)
        matrix.diagonal().add_(penalty)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(matrix))
        del matrix
        self.weights = inverse @ (y - self.center)
        self._diagonal = inverse.diagonal()[:, None].clone()

    def predict(self, z: torch.Tensor) -> torch.Tensor:
        """`[m, k]` for `[m, D]`."""
        return torch.cat([self._similarity(part) @ self.weights for part in torch.split(z, CHUNK)]) + self.center

    def left_out(self, rows: torch.Tensor) -> torch.Tensor:
        """As `Ridge.left_out`."""
        return self._y[rows] - self.weights[rows] / self._diagonal[rows]

    def _similarity(self, z: torch.Tensor) -> torch.Tensor:
        squares = z.square().sum(1)[:, None] + self.z.square().sum(1)[None, :] - 2 * z @ self.z.T
        return squares.clamp_min_(0).mul_(-self.width / 2).exp_()


def ledoit_wolf(residuals: torch.Tensor) -> torch.Tensor:
    """A covariance shrunk towards a multiple of the identity (Ledoit & Wolf 2004, eq. 14).

    Args:
        residuals: `[n, d]`, taken as centred at zero: they are errors.

    Returns:
        float64 `[d, d]`, positive definite.
    """
    x = residuals.double()
    n, d = x.shape
    sample = x.T @ x / n
    level = sample.diagonal().mean()
    distance = sample.square().sum() / d - level.square()
    fourth = x.square().sum(1).square().mean() / d  # mean |x x'|^2 / d
    noise = (fourth - sample.square().sum() / d) / n
    share = float((noise / distance.clamp_min(1e-30)).clamp(0, 1)) if d > 1 else 0.0
    return (1 - share) * sample + max(share, 1e-3) * level * torch.eye(d, dtype=torch.float64)
