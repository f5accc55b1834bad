from __future__ import annotations

import numpy as np
import pytest

from benchmarks.hypernet import figures, to_markdown


def test_figures_of_a_method_beside_the_baseline() -> None:
    ranks, baseline = np.array([1, 2, 10, 40]), np.array([2, 2, 20, 40])
    found = figures(ranks, baseline)
    assert found["mrr"] == pytest.approx((1 + 0.5 + 0.1 + 0.025) / 4)
    assert (found["hit@1"], found["hit@10"], found["median_rank"]) == (0.25, 0.75, 6.0)
    assert found["gain"] == pytest.approx((0.5 + 0 + 0.05 + 0) / 4)
    low, high = found["gain_interval"]
    assert 0 <= low < found["gain"] < high <= 0.5


def test_the_best_method_stands_first() -> None:
    lines = {"a": figures(np.array([4, 4]), np.array([4, 4])), "b": figures(np.array([1, 2]), np.array([4, 4]))}
    head, _, first, second = to_markdown(lines).splitlines()
    assert "mrr" in head and first.startswith("| b | 0.750") and second.startswith("| a | 0.250")
    assert "+0.500 [" in first
