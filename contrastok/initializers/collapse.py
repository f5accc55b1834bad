"""Whether rows are all alike: such tokens mean the same to the model, whatever they were meant to say."""

from __future__ import annotations

import torch
import torch.nn.functional as F

ALIKE = 0.95
"""Mean pairwise cosine of new rows above which they have collapsed into one."""


def mean_pairwise_cosine(rows: torch.Tensor) -> float:
    """Mean cosine over all pairs of different rows; 1 when there are no two.

    Rows of zeros have no direction and are left out, unless there are no others: then all rows are the same.

    Args:
        rows: `[n, d]`, any float dtype.
    """
    unit = F.normalize(rows[rows.norm(dim=-1) > 0].double(), dim=-1)
    n = len(unit)
    if n < 2:
        return 1.0
    return float((unit.sum(0).square().sum() - n) / (n * (n - 1)))
