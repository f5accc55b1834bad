from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from contrastok.calibrate import reliability
from contrastok.confidence import WITHIN, fit_confidence, landing_signals

WEIGHTS = np.array([2.0, -1.0, 0.5, 0.0])


def words(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signals on scales of their own, whether each word landed, and the true probability of it."""
    generator = np.random.default_rng(seed)
    standard = generator.normal(size=(n, 4))
    truth = 1 / (1 + np.exp(-(standard @ WEIGHTS + 0.7)))
    return standard * [0.1, 5, 1, 1e-3] + [0.6, -20, 1, 1], generator.random(n) < truth, truth


def test_on_other_words_as_many_land_as_was_said() -> None:
    confidence = fit_confidence(*words(2000, 0)[:2])
    signals, landed, truth = words(20_000, 1)
    said = confidence(signals)
    assert np.abs(said - truth).mean() < 0.03
    for part in reliability(said, landed, bins=10):
        assert part["landed"] == pytest.approx(part["confidence"], abs=0.04)
    sure = said > 0.8
    assert landed[sure].mean() == pytest.approx(said[sure].mean(), abs=0.02)


@pytest.mark.parametrize("n", [1, 2, 7, 200])
@pytest.mark.parametrize("all_of_them", [True, False])
def test_when_all_or_none_landed_it_is_never_certain(n: int, all_of_them: bool) -> None:
    signals = words(n, 2)[0]
    said = fit_confidence(signals, np.full(n, all_of_them))(signals)
    expected = (n + 1) / (n + 2)  # Laplace's rule
    np.testing.assert_allclose(said, expected if all_of_them else 1 - expected, atol=1e-6)


NUMBERS = st.floats(-1e3, 1e3, allow_nan=False)


@given(
    signals=arrays.arrays(np.float64, st.tuples(st.integers(1, 30), st.just(4)), elements=NUMBERS),
    seed=st.integers(0, 99),
)
def test_any_signals_give_probabilities(signals: np.ndarray, seed: int) -> None:
    landed = np.random.default_rng(seed).random(len(signals)) < 0.5
    said = fit_confidence(signals, landed)(signals)
    assert ((said > 0) & (said < 1)).all()
    assert said.mean() == pytest.approx(landed.mean(), abs=1 / (len(landed) + 2) + 1e-6)


def test_a_signal_that_was_the_same_for_all_has_no_say() -> None:
    signals, landed, _ = words(300, 3)
    signals[:, 3] = 0.1  # its mean is not 0.1 to the last bit
    confidence = fit_confidence(signals, landed)
    other = signals.copy()
    other[:, 3] = 0.9
    np.testing.assert_allclose(confidence(other), confidence(signals), atol=1e-6)


def test_parts_of_equal_size_in_order() -> None:
    said, landed = np.array([0.9, 0.1, 0.5, 0.7, 0.3]), np.array([True, False, True, True, False])
    assert reliability(said, landed, bins=2) == (
        {"confidence": pytest.approx(0.3), "landed": pytest.approx(1 / 3), "words": 3},
        {"confidence": pytest.approx(0.8), "landed": 1.0, "words": 2},
    )
    assert [part["words"] for part in reliability(said[:2], landed[:2])] == [1, 1]


def test_signals_against_a_plain_loop() -> None:
    generator = np.random.default_rng(4)
    rows, table = (generator.normal(size=(n, 8)).astype(np.float32) for n in (5, 40))
    rows[2] = table[11]
    mean, own = table.mean(0), [3, 30, 11, 0, 39]
    agreement, scale = (generator.random(5).astype(np.float32) for _ in range(2))

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    for left_out in (None, own):
        found = landing_signals(rows, table, mean, agreement, scale, left_out)
        for i, row in enumerate(rows):
            others = [j for j in range(40) if left_out is None or j != own[i]]
            near = sorted((cosine(row - mean, table[j] - mean) for j in others), reverse=True)
            expected = [near[0], near[0] - near[WITHIN - 1], agreement[i], scale[i]]
            np.testing.assert_allclose(found[i], expected, atol=1e-5)
    assert landing_signals(rows, table, mean, agreement, scale)[2, 0] == pytest.approx(1, abs=1e-5)
    assert found[2, 0] < 0.99
