from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes
from sklearn.linear_model import LinearRegression
from sklearn.linear_model import Ridge as SklearnRidge

from contrastok.linear_maps import PENALTIES, affine, best_penalty, cross_validated, procrustes, ridge


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(size: int, seed: int = 0) -> torch.Tensor:
    """A general one: not symmetric, so that its transpose is another."""
    return torch.linalg.qr(draw(size, size, seed=seed))[0]


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), scale=st.floats(0.1, 10))
def test_procrustes_finds_a_general_rotation(seed: int, scale: float) -> None:
    """The transposed product, as in mergekit 0.1.5, would not: see `test_a_transposed_rotation_would_be_seen`."""
    x, turn = draw(40, 6, seed=seed), rotation(6, seed + 1)
    fit = procrustes(x + 3, scale * x @ turn - 2)
    torch.testing.assert_close(fit.weights, scale * turn)
    torch.testing.assert_close(fit(x + 3), scale * x @ turn - 2)


def test_a_transposed_rotation_would_be_seen() -> None:
    turn = rotation(6)
    assert (turn - turn.T).abs().max() > 0.1


@pytest.mark.parametrize(("k", "d"), [(4, 7), (7, 4), (5, 5)])
def test_procrustes_is_that_of_the_padded_spaces(k: int, d: int) -> None:
    x, y = draw(50, k), draw(50, d, seed=1) + draw(50, 1, seed=2)
    inner, outer, size = (x - x.mean(0)).numpy(), (y - y.mean(0)).numpy(), max(k, d)
    padded = np.pad(inner, ((0, 0), (0, size - k))), np.pad(outer, ((0, 0), (0, size - d)))
    turn, total = orthogonal_procrustes(*padded)
    expected = (padded[0] @ turn * total / (padded[0] ** 2).sum())[:, :d] + y.mean(0).numpy()
    np.testing.assert_allclose(procrustes(x, y)(x).numpy(), expected, rtol=1e-9, atol=1e-9)


def test_affine_is_least_squares() -> None:
    x, y = draw(30, 5), draw(30, 3, seed=1)
    expected = LinearRegression().fit(x.numpy(), y.numpy()).predict(x.numpy() + 1)
    np.testing.assert_allclose(affine(x, y)(x + 1).numpy(), expected, rtol=1e-9)


def test_affine_of_too_few_anchors_is_the_shortest_that_fits() -> None:
    x, y = draw(4, 9), draw(4, 3, seed=1)
    inner, outer = x - x.mean(0), y - y.mean(0)
    fit = affine(x, y)
    torch.testing.assert_close(fit(x), y, rtol=1e-6, atol=1e-6)
    expected = np.linalg.lstsq(inner.numpy(), outer.numpy(), rcond=1e-10)[0]
    np.testing.assert_allclose(fit.weights.numpy(), expected, atol=1e-6)


def test_ridge_is_ridge() -> None:
    x, y = draw(30, 5), draw(30, 3, seed=1)
    unit = float((x - x.mean(0)).square().sum()) / 5
    expected = SklearnRidge(alpha=0.3 * unit).fit(x.numpy(), y.numpy()).predict(x.numpy())
    np.testing.assert_allclose(ridge(x, y, 0.3)(x).numpy(), expected, rtol=1e-9)


def test_the_penalty_is_that_of_leaving_out_one_by_one() -> None:
    x = draw(25, 8)
    y = x @ draw(8, 3, seed=1) + 4 * draw(25, 3, seed=2)
    inner, outer = x - x.mean(0), y - y.mean(0)
    unit = float(inner.square().sum()) / 8

    def error(penalty: float) -> float:
        total = 0.0
        for i in range(25):
            others = [j for j in range(25) if j != i]
            fit = SklearnRidge(alpha=penalty * unit, fit_intercept=False).fit(
                inner[others].numpy(), outer[others].numpy()
            )
            total += float(((fit.predict(inner[i : i + 1].numpy()) - outer[i].numpy()) ** 2).sum())
        return total

    best = min(PENALTIES, key=error)
    assert best_penalty(x, y) == best and PENALTIES[0] < best < PENALTIES[-1]


def test_cross_validation_knows_signal_from_noise() -> None:
    x, noise = draw(200, 6), draw(200, 4, seed=1)
    signal = x @ draw(6, 4, seed=2)
    assert cross_validated(affine, x, signal, 0) > 0.999999
    assert cross_validated(affine, x, noise, 0) < 0.02
    assert cross_validated(partial(ridge, penalty=1000.0), x, noise, 0) == pytest.approx(0, abs=0.02)
    assert cross_validated(affine, x, signal + noise, 3) == cross_validated(affine, x, signal + noise, 3)
    assert math.isnan(cross_validated(affine, x[:9], signal[:9], 0))
