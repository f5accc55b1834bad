from __future__ import annotations

import pytest
import torch

from benchmarks.harness import Measured
from benchmarks.ranks import compared, shown


def test_ranks_are_told_beside_the_first_number_of_them() -> None:
    gradient = torch.tensor([[3.0, 4.0]])
    alone = [(Measured([0.4, 0.4], 100), gradient), (Measured([0.4, 0.4], 100), gradient)]
    both = [(Measured([0.2, 0.2], 50), gradient), (Measured([0.3, 0.3], 50), gradient + torch.tensor([[0.0, 0.5]]))]
    one, two = compared({1: alone, 2: both})
    assert (one["ranks"], one["times_faster"], one["gradient_error"]) == (1, 1, 0)
    assert two["least"] == pytest.approx(4 / 3) and two["most"] == pytest.approx(2)
    assert two["memory_ratio"] == 2 and two["gradient_error"] == pytest.approx(0.1)  # the worst of its rounds
    assert "| 2 | 1.67 (1.33-2.00) | 2.00 | 1.0e-01 |" in shown([one, two])
