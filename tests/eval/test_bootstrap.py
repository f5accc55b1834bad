from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contrastok.eval import bootstrap as module
from contrastok.eval.bootstrap import as_figures, bootstrap, mean, ratio


def test_the_interval_is_that_of_the_normal_approximation() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    found = mean(values)
    assert found is not None and found.units == 400
    error = 1.96 * values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - error, abs=0.03)
    assert found.high == pytest.approx(values.mean() + error, abs=0.03)


@given(st.lists(st.tuples(st.floats(-5, 5), st.integers(0, 4)), min_size=1, max_size=8))
def test_a_ratio_is_all_sums_by_all_counts_and_empty_units_do_not_matter(units: list[tuple[float, int]]) -> None:
    kept = [(value, count) for value, count in units if count]
    found = ratio([value for value, _ in units], [count for _, count in units])
    if not kept:
        assert found is None
        return
    assert found == ratio([value for value, _ in kept], [count for _, count in kept])
    assert (found is not None and found.low - 1e-9 <= found.value <= found.high + 1e-9) or len(kept) > 1
    assert found.value == pytest.approx(sum(v for v, _ in kept) / sum(c for _, c in kept))


def test_drawing_in_parts_draws_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random(30)
    whole = bootstrap(30, lambda drawn: np.median(values[drawn], axis=1), seed=5)
    monkeypatch.setattr(module, "AT_ONCE", 90)
    assert bootstrap(30, lambda drawn: np.median(values[drawn], axis=1), seed=5) == whole
    assert bootstrap(30, lambda drawn: np.median(values[drawn], axis=1), seed=6) != whole


def test_figures_stand_beside_their_intervals() -> None:
    assert as_figures({"mrr": mean([0.5, 0.5]), "none": mean([])}) == {
        "mrr": 0.5,
        "mrr_interval": [0.5, 0.5],
        "none": None,
        "none_interval": None,
    }
