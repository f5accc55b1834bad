from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.covariance import ledoit_wolf as sklearn_ledoit_wolf

from contrastok import regression
from contrastok.features import Features
from contrastok.regression import Design, Kernel, Ridge, ledoit_wolf

SIZES = [(60, 20), (20, 60), (40, 40)]


def problem(n: int, width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(n)
    x, y, asked = (torch.randn(*shape, generator=generator) for shape in ((n, width), (n, 3), (7, width)))
    return torch.cat([x, torch.ones(n, 1)], dim=1), y, torch.cat([asked, torch.ones(7, 1)], dim=1)


def ridge64(x: torch.Tensor, y: torch.Tensor, penalty: float) -> torch.Tensor:
    x, y = x.double(), y.double()
    return torch.linalg.solve(x.T @ x + penalty * torch.eye(x.shape[1], dtype=torch.float64), x.T @ y)


def gauss64(a: torch.Tensor, b: torch.Tensor, width: float) -> torch.Tensor:
    return torch.exp(-width / 2 * (a.double()[:, None] - b.double()[None]).square().sum(-1))


def kernel64(z: torch.Tensor, y: torch.Tensor, width: float, penalty: float) -> torch.Tensor:
    return torch.linalg.solve(gauss64(z, z, width) + penalty * torch.eye(len(z), dtype=torch.float64), y.double())


def without(values: torch.Tensor, i: int) -> torch.Tensor:
    return torch.cat([values[:i], values[i + 1 :]])


@pytest.mark.parametrize(("n", "width"), SIZES)
@pytest.mark.parametrize("penalty", [0.5, 30.0])
def test_ridge_solves_the_normal_equations(n: int, width: int, penalty: float) -> None:
    x, y, asked = problem(n, width)
    found = Ridge(x, y, penalty).predict(asked)
    torch.testing.assert_close(found.double(), asked.double() @ ridge64(x, y, penalty), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("n", "width"), SIZES)
def test_words_left_out_are_predicted_by_ridges_without_them(
    n: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regression, "CHUNK", 7)
    x, y, _ = problem(n, width)
    found = Ridge(x, y, 2.0).left_out(torch.arange(n))
    for i in range(n):
        refit = x[i].double() @ ridge64(without(x, i), without(y, i), 2.0)
        torch.testing.assert_close(found[i].double(), refit, rtol=1e-3, atol=1e-3)


def test_kernel_regression_and_what_it_says_of_words_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regression, "CHUNK", 3)
    z, y, asked = problem(40, 4)
    center = y.mean(0).double()
    fitted = Kernel(z, y, 0.5, 0.4)
    expected = gauss64(asked, z, 0.5) @ kernel64(z, y.double() - center, 0.5, 0.4) + center
    torch.testing.assert_close(fitted.predict(asked).double(), expected, rtol=1e-3, atol=1e-4)
    rows = torch.tensor([3, 17, 39])
    for i, told in zip(rows.tolist(), fitted.left_out(rows), strict=True):
        weights = kernel64(without(z, i), without(y, i).double() - center, 0.5, 0.4)
        refit = gauss64(z[i : i + 1], without(z, i), 0.5)[0] @ weights + center
        torch.testing.assert_close(told.double(), refit, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("n", "d"), [(500, 6), (40, 40), (12, 30), (2, 5)])
def test_shrunk_covariance_is_the_published_one(n: int, d: int) -> None:
    generator = np.random.default_rng(n)
    residuals = generator.normal(size=(n, d)) @ generator.normal(size=(d, d)) * 3
    expected, share = sklearn_ledoit_wolf(residuals, assume_centered=True)
    assert share > 1e-3
    found = ledoit_wolf(torch.from_numpy(residuals))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-8, atol=1e-8)
    assert torch.linalg.eigvalsh(found).min() > 0 and found.dtype == torch.float64


def made_up(n: int = 30) -> Features:
    generator = np.random.default_rng(0)
    blocks = {
        "form/output": generator.normal(2, 3, size=(n, 4)),
        "definition/output": generator.normal(-1, 2, size=(n, 5)),
        "synonyms/output": generator.normal(5, 1, size=(n, 2)),
        "broader/output": generator.normal(size=(n, 2)),
    }
    present = {source: generator.random(n) < 0.6 for source in ("synonyms", "broader")}
    present |= {source: np.ones(n, bool) for source in ("form", "definition")}
    return Features(
        {name: (block * present[name.split("/")[0]][:, None]).astype(np.float32) for name, block in blocks.items()},
        present,
        np.arange(n),
    )


def test_blocks_are_standardised_and_what_is_missing_is_marked() -> None:
    features = made_up()
    design = Design(features, ("form", "definition"), ("synonyms",))
    assert [block.name for block in design.blocks] == ["form/output", "definition/output", "synonyms/output"]
    x = design.linear(features)
    assert x.shape == (30, 4 + 5 + 2 + 1 + 1 + 1)
    has = torch.from_numpy(features.present["synonyms"])
    for columns, rows in ((slice(0, 4), slice(None)), (slice(4, 9), slice(None)), (slice(9, 11), has)):
        assert x[rows, columns].mean(0).abs().max() < 1e-5
        assert float(x[rows, columns].square().sum(1).mean()) == pytest.approx(1, rel=1e-5)
    assert not x[~has, 9:11].any() and (~has).any()
    assert torch.equal(x[:, 11], has.float())
    np.testing.assert_allclose(x[:, 12].numpy(), np.log1p(np.arange(30)), rtol=1e-6)
    assert (x[:, 13] == 1).all()


def test_the_words_fitted_on_decide_how_others_are_standardised() -> None:
    features = made_up()
    design = Design(features, ("form",), ())
    few = features.take(np.array([3, 8]))
    assert torch.equal(design.linear(few), design.linear(features)[[3, 8]])
    kernel = design.weighted(features, {"form/output": 0.25, "definition/output": 1.0})
    assert torch.equal(kernel, design.linear(features)[:, :4] * 0.5)


def test_a_block_that_is_the_same_for_all_words_says_nothing() -> None:
    features = made_up()
    features.blocks["form/output"][:] = 0.1
    assert Design(features, ("form",), ()).linear(features)[:, :4].abs().max() < 0.1
