"""Our rows beside those of the published packages, on the same vectors; skipped where a package is missing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from contrastok.auxiliary import Auxiliary
from contrastok.initializers.similarity import mixed_rows, nearest, sparsemax
from contrastok.linear_maps import procrustes
from contrastok.matching_pursuit import matching_pursuit

OLD, NEW, WIDTH, SIZE = 60, 5, 16, 12


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def space() -> Auxiliary:
    return Auxiliary(torch.arange(OLD), draw(OLD, SIZE), draw(NEW, SIZE, seed=1))


TABLE = draw(OLD, WIDTH, seed=2)


def peer(name: str) -> Any:
    return pytest.importorskip(name, reason=f"pip install 'contrastok[peers]' brings {name}", exc_type=ImportError)


def test_focus_is_that_of_deepfocus(space: Auxiliary) -> None:
    focus = peer("deepfocus.focus")
    old = {
        str(i): SimpleNamespace(auxiliary_embedding=vector.float().numpy(), source_embedding=row)
        for i, (vector, row) in enumerate(zip(space.known, TABLE, strict=True))
    }
    new = {
        str(i): SimpleNamespace(auxiliary_embedding=vector.float().numpy(), target=SimpleNamespace(id=i))
        for i, vector in enumerate(space.new)
    }
    theirs = focus.focus_additional_token_initialization(old, new, torch.zeros(NEW, WIDTH, dtype=torch.float64))
    torch.testing.assert_close(mixed_rows(space, TABLE, sparsemax), theirs, atol=1e-5, rtol=1e-5)


class _Vocabulary:
    """What wechsel asks of a tokenizer."""

    special_tokens_map: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, size: int) -> None:
        self.vocab = {str(i): i for i in range(size)}

    def __len__(self) -> int:
        return len(self.vocab)

    def convert_ids_to_tokens(self, ids: Any) -> Any:
        return str(ids) if np.isscalar(ids) else [str(i) for i in ids]


def test_wechsel_is_that_of_wechsel(space: Auxiliary) -> None:
    wechsel = peer("wechsel")
    theirs, lost, _ = wechsel.create_target_embeddings(
        space.known.numpy(), space.new.numpy(), _Vocabulary(OLD), _Vocabulary(NEW), TABLE.numpy(), verbose=False
    )
    assert not lost
    np.testing.assert_allclose(mixed_rows(space, TABLE, nearest).numpy(), theirs, atol=1e-9)


def test_omp_is_that_of_mergekit(space: Auxiliary) -> None:
    omp = peer("mergekit.tokensurgeon.omp")
    places, weights = matching_pursuit(space.new, space.known, 5)
    their_places, their_weights = omp.batch_omp(space.new, space.known, 5)
    assert torch.equal(places, their_places)
    torch.testing.assert_close(weights, their_weights, atol=1e-6, rtol=1e-6)


def test_procrustes_is_not_that_of_mergekit() -> None:
    """Their landmark_pca transposes the rotation, which shows where the spaces' principal axes differ."""
    pca = peer("mergekit.tokensurgeon.pca")
    known, new, general = draw(500, SIZE), draw(100, SIZE, seed=4), draw(SIZE, SIZE, seed=3)

    def error(found: torch.Tensor) -> float:
        return float((found - new @ general).norm() / (new @ general).norm())

    torch.manual_seed(0)  # theirs draws
    theirs = error(pca.landmark_pca_approximate(new, known, known @ general))
    assert 1.5 * error(procrustes(known, known @ general)(new)) < theirs
