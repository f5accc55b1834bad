from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastok.eval.index import build, unit


def _vectors(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


@settings(max_examples=25)
@given(n=st.integers(1, 60), d=st.integers(2, 20), k=st.integers(1, 12), seed=st.integers(0, 1000))
def test_exact_search_equals_numpy(n: int, d: int, k: int, seed: int) -> None:
    rows, queries = _vectors(n, d, seed), _vectors(5, d, seed + 1)
    cosines, positions = build(rows).search(queries, k)
    truth = unit(queries) @ unit(rows).T
    order = np.argsort(-truth, axis=1)[:, : min(k, n)]
    assert positions.shape == (5, min(k, n))
    np.testing.assert_allclose(cosines, np.take_along_axis(truth, order, axis=1), atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(truth, positions, axis=1), cosines, atol=1e-5)


@pytest.mark.parametrize(("rows", "limit", "kind"), [(200, 200, "exact"), (201, 200, "approximate"), (5, 200, "exact")])
def test_size_chooses_the_index_and_the_choice_is_said(rows: int, limit: int, kind: str) -> None:
    description = build(_vectors(rows, 8), exact_up_to=limit).description
    assert description.startswith(f"{kind} search over {rows} rows")
    assert ("recall@10" in description) is (kind == "approximate")


def test_inverted_file_finds_a_row_as_its_own_nearest() -> None:
    centres = np.repeat(_vectors(40, 16), 50, axis=0)
    rows = centres + 0.1 * _vectors(2000, 16, seed=1)
    cosines, positions = build(rows, exact_up_to=1000).search(rows[::100], 3)
    assert (positions[:, 0] == np.arange(0, 2000, 100)).all()
    np.testing.assert_allclose(cosines[:, 0], 1, atol=1e-5)


def test_a_zero_vector_has_no_direction_and_no_nan() -> None:
    assert np.array_equal(unit(np.zeros((2, 3), np.float32)), np.zeros((2, 3), np.float32))
