from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from contrastok.auxiliary import Auxiliary, auxiliary
from contrastok.bank import FrozenEncoder
from contrastok.candidates import candidates
from contrastok.initializers import INITIALIZERS, InitContext, InitOptions, initial_rows
from contrastok.initializers.similarity import factorised, mixed_rows, nearest, softmax_nearest, sparsemax
from tests.conftest import FAMILIES
from tests.contrastok.conftest import UNHEARD

SPACED = [name for name, method in INITIALIZERS.items() if "space" in method.needs]
SCORES = st.lists(st.floats(-3, 3), min_size=1, max_size=7)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def projected(scores: np.ndarray) -> np.ndarray:
    """The nearest point of the simplex by looking at every support: on it, all coordinates shift by the same."""
    best, found = np.inf, scores
    for mask in range(1, 2 ** len(scores)):
        chosen = np.array([mask >> i & 1 for i in range(len(scores))], bool)
        point = np.where(chosen, scores + (1 - scores[chosen].sum()) / chosen.sum(), 0.0)
        distance = ((point - scores) ** 2).sum()
        if (point >= 0).all() and distance < best:
            best, found = distance, point
    return found


@given(SCORES)
def test_sparsemax_is_the_projection_onto_the_simplex(scores: list[float]) -> None:
    values = np.array(scores)
    found = sparsemax(torch.from_numpy(values)[None])[0].numpy()
    np.testing.assert_allclose(found, projected(values), atol=1e-12)


def test_sparsemax_agrees_with_an_optimiser() -> None:
    scores = 0.3 * draw(12).numpy()
    solved = minimize(
        lambda p: ((p - scores) ** 2).sum(), np.full(12, 1 / 12), bounds=[(0, 1)] * 12, tol=1e-14,
        constraints={"type": "eq", "fun": lambda p: p.sum() - 1},
    ).x  # fmt: skip
    np.testing.assert_allclose(sparsemax(torch.from_numpy(scores)[None])[0].numpy(), solved, atol=1e-6)


@given(SCORES, st.floats(-5, 5))
def test_sparsemax_ignores_a_shift_and_gives_weights(scores: list[float], shift: float) -> None:
    values = torch.tensor([scores], dtype=torch.float64)
    torch.testing.assert_close(sparsemax(values + shift), sparsemax(values), atol=1e-9, rtol=0)
    assert sparsemax(values).min() >= 0 and float(sparsemax(values).sum()) == pytest.approx(1)


def test_softmax_of_the_nearest() -> None:
    cosines = torch.tensor([[0.1, 0.9, 0.5, 0.7]], dtype=torch.float64)
    e = np.exp(np.array([9.0, 7.0]))
    np.testing.assert_allclose(softmax_nearest(cosines, 2, 0.1)[0].numpy(), [0, e[0] / e.sum(), 0, e[1] / e.sum()])
    assert softmax_nearest(cosines, 3, float("inf"))[0].tolist() == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3])
    assert softmax_nearest(cosines, 10, 0.1).shape == (1, 4)  # fewer anchors than neighbours


def test_mixes_follow_the_definition_and_leave_the_unknown_out() -> None:
    space = Auxiliary(torch.tensor([2, 5, 7]), draw(3, 4), draw(3, 4, seed=1))
    space.new[1] = torch.nan
    table = draw(9, 6, seed=2)
    rows = mixed_rows(space, table, sparsemax)
    for n in (0, 2):
        a, b = space.new[n].numpy(), space.known.numpy()
        cosines = b @ a / np.linalg.norm(a) / np.linalg.norm(b, axis=1)
        np.testing.assert_allclose(rows[n].numpy(), projected(cosines) @ table[[2, 5, 7]].numpy(), atol=1e-12)
    assert rows[1].isnan().all()


@pytest.mark.parametrize("dimension", [None, 3, 6, 100])
def test_a_factorised_table_is_that_of_its_singular_values(dimension: int | None) -> None:
    table = draw(40, 6).float()
    coordinates, primitives = factorised(table, dimension)
    left, singular, right = np.linalg.svd(table.double().numpy(), full_matrices=False)
    kept = min(dimension or 6, 6)
    expected = left[:, :kept] * singular[:kept] @ right[:kept]
    assert coordinates.shape == (40, kept) and primitives.shape == (kept, 6)
    np.testing.assert_allclose((coordinates @ primitives).numpy(), expected, atol=1e-9)


@pytest.fixture
def told(init_context_of: Callable[..., InitContext], tmp_path: Path) -> InitContext:
    """A context with a file of vectors."""
    context = init_context_of("wordpiece")
    assert context.tokenizer is not None
    words = [*candidates(context.tokenizer).words[:40], "zorblaxin"]
    values = draw(len(words), 5).tolist()
    file = tmp_path / "v.txt"
    file.write_text("".join(f"{w} {' '.join(map(repr, v))}\n" for w, v in zip(words, values, strict=True)))
    return replace(context, options=InitOptions(vectors=file))


def test_presets(told: InitContext) -> None:
    at = told.terms.index("zorblaxin")
    own, table = auxiliary(told, "words"), told.table.detach()
    assert len(own.anchors) > 10
    for name, weigh in (("focus", sparsemax), ("wechsel", nearest)):
        torch.testing.assert_close(initial_rows(name, told)[at], mixed_rows(own, table, weigh)[at].float())
    cosines = (
        torch.nn.functional.normalize(own.new[at : at + 1], dim=-1) @ torch.nn.functional.normalize(own.known, dim=-1).T
    )
    alike = table[own.anchors[cosines[0].topk(10).indices]].double().mean(0)
    torch.testing.assert_close(initial_rows("similar_mean", told)[at], alike.float())
    ranked = mixed_rows(auxiliary(told, "words", "rank"), table, sparsemax)[at].float()
    torch.testing.assert_close(initial_rows("ramen", told)[at], ranked)
    full = mixed_rows(auxiliary(told, "words", "uniform"), table, nearest)[at].float()
    torch.testing.assert_close(initial_rows("ofa", told)[at], full, atol=1e-5, rtol=1e-5)


def test_ofa_keeps_the_dimensions_that_are_asked_for(told: InitContext) -> None:
    rows = initial_rows("ofa", replace(told, options=replace(told.options, dimension=4)))
    _, primitives = factorised(told.table, 4)
    at = told.terms.index("zorblaxin")
    torch.testing.assert_close(rows[at], (rows[at].double() @ primitives.T @ primitives).float(), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(rows[at], initial_rows("ofa", told)[at], atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_method_runs_on_text_in_every_family(
    init_context_of: Callable[..., InitContext], family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gensim")
    monkeypatch.setattr("contrastok.word_vectors.ENOUGH", 1)  # as few epochs as there are
    said: list[str] = []
    context = init_context_of(family)
    assert context.encoder is not None
    encoder = FrozenEncoder(context.encoder.model, context.encoder.tokenizer)  # keeps what was trained
    context = replace(context, encoder=encoder, tell=said.append)
    before = context.table.detach().clone()
    unknown = context.terms.index(UNHEARD)
    for name in SPACED:
        said.clear()
        rows = initial_rows(name, context)
        assert rows.shape == (3, 32) and rows.dtype == torch.float32 and rows.isfinite().all()
        assert torch.equal(rows, initial_rows(name, context))
        assert torch.equal(rows[unknown], initial_rows("charlen_mean", context)[unknown])
        assert f"{name} knows nothing of 1 of 3 terms ({UNHEARD}); they start at charlen_mean." in said
        others = [i for i in range(3) if i != unknown]
        assert not torch.equal(rows[others], initial_rows("charlen_mean", context)[others])
        assert any("R²" in sentence for sentence in said) == name.endswith("_map")
    assert torch.equal(context.table, before)
