from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from contrastok.initializers import InitContext, initial_rows
from contrastok.initializers import statistics as module
from contrastok.initializers.statistics import moments

D, DRAWS = 8, 20_000
MIX = torch.randn(D, D, generator=torch.Generator().manual_seed(1))
TABLE = torch.randn(300, D, generator=torch.Generator().manual_seed(0)) @ MIX + 3
ROWS, MANY = TABLE.double().numpy(), tuple(map(str, range(DRAWS)))
COVARIANCE = np.cov(ROWS.T, bias=True)


def drawn(name: str, table: torch.Tensor = TABLE, seed: int = 0) -> np.ndarray:
    context = InitContext(table, MANY, ((1,),) * DRAWS, ((1,),) * DRAWS, seed=seed)
    found: np.ndarray = initial_rows(name, context).double().numpy()
    return found


def spread(covariance: np.ndarray) -> np.ndarray:
    """Standard errors of the entries of a sample covariance of normal draws."""
    sizes = np.diag(covariance)
    return np.sqrt((np.outer(sizes, sizes) + covariance**2) / DRAWS) + 1e-12


def test_zero_and_mean() -> None:
    assert not drawn("zero").any()
    np.testing.assert_allclose(drawn("mean"), np.tile(ROWS.mean(0), (DRAWS, 1)), rtol=1e-5)


@pytest.mark.parametrize("chunk", [7, 300, 8192])
def test_moments(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    found = moments(TABLE)
    np.testing.assert_allclose(found.mean, ROWS.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.covariance, COVARIANCE, rtol=1e-10)


@pytest.mark.parametrize(("name", "covariance"), [("normal", np.diag(np.diag(COVARIANCE))), ("mvn", COVARIANCE)])
def test_draws_have_the_moments_of_the_table(name: str, covariance: np.ndarray) -> None:
    rows = drawn(name)
    assert (np.abs(rows.mean(0) - ROWS.mean(0)) < 5 * np.sqrt(np.diag(covariance) / DRAWS)).all()
    assert (np.abs(np.cov(rows.T) - covariance) < 5 * spread(covariance)).all()
    assert not np.array_equal(rows, drawn(name, seed=1))


def test_a_table_with_fewer_rows_than_dimensions() -> None:
    """Its covariance has no inverse, and draws lie where its rows do: in the plane through them."""
    table = TABLE[:3]
    rows = drawn("mvn", table)
    off = rows - table.double().numpy().mean(0)
    plane = np.linalg.svd((table - table.mean(0)).double().numpy())[2][:2]
    np.testing.assert_allclose(off @ plane.T @ plane, off, atol=1e-4)
    assert np.linalg.matrix_rank(off, tol=1e-2) == 2


def test_hf_resize_is_what_transformers_does(make_model: Callable[..., Path]) -> None:
    from transformers import AutoModel

    model = AutoModel.from_pretrained(make_model("wordpiece", padding=5))
    table = model.get_input_embeddings().weight.detach().clone()
    torch.manual_seed(0)
    model.resize_token_embeddings(len(table) + DRAWS)  # mean_resizing is the default
    theirs = model.get_input_embeddings().weight.detach()[len(table) :].double().numpy()
    ours = drawn("hf_resize", table)
    center, covariance = table.double().numpy().mean(0), np.cov(table.double().numpy().T, bias=True)
    for rows in (theirs, ours):  # as float32 steps of the mean are small beside what is drawn, units of sqrt(1e-9)
        off = (rows - center) / np.sqrt(1e-9)
        assert (np.abs(off.mean(0)) < 5 * np.sqrt(np.diag(covariance) / DRAWS) + 3e-3).all()
        assert (np.abs(np.cov(off.T) - covariance) < 6 * spread(covariance) + 1e-4).all()


@pytest.mark.parametrize(("name", "collapses"), [("zero", 1), ("mean", 1), ("hf_resize", 1), ("normal", 0), ("mvn", 0)])
def test_rows_that_are_all_the_same_are_told(name: str, collapses: int) -> None:
    said: list[str] = []
    context = InitContext(TABLE - 3, ("a", "b", "c"), ((1,),) * 3, ((1,),) * 3, tell=said.append)
    initial_rows(name, context)
    assert len(said) == collapses and all("mean pairwise cosine 1.000" in sentence for sentence in said)
    initial_rows(name, replace(context, terms=("a",)))
    assert len(said) == collapses, "one row is like no other"
