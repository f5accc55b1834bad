from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import orthogonal_mp

from contrastok import matching_pursuit as module
from contrastok.matching_pursuit import matching_pursuit


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dense(places: torch.Tensor, weights: torch.Tensor, atoms: int) -> torch.Tensor:
    return torch.zeros(len(places), atoms, dtype=weights.dtype).scatter_add(1, places, weights)


@pytest.mark.parametrize("most", [1, 3, 8])
def test_agrees_with_scikit_learn(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 4)  # several chunks
    atoms = torch.nn.functional.normalize(draw(60, 16), dim=-1)
    targets = draw(10, 16, seed=1)
    expected = orthogonal_mp(atoms.T.numpy(), targets.T.numpy(), n_nonzero_coefs=most).reshape(60, 10).T
    found = dense(*matching_pursuit(targets, atoms, most), 60)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-7)


def test_a_sparse_mix_is_found_again() -> None:
    atoms = torch.nn.functional.normalize(draw(200, 64), dim=-1)
    truth = torch.zeros(1, 200, dtype=torch.float64)
    truth[0, [3, 77, 140]] = torch.tensor([2.0, -1.5, 1.0], dtype=torch.float64)
    places, weights = matching_pursuit(truth @ atoms, atoms, 16)
    torch.testing.assert_close(dense(places, weights, 200), truth, atol=1e-7, rtol=0)
    assert (weights[0].abs() > 1e-7).sum() == 3  # and nothing is made of the noise that is left


def test_atoms_are_chosen_once_each() -> None:
    places, _ = matching_pursuit(draw(5, 12, seed=1), draw(40, 12), 10)
    assert all(len(set(row)) == 10 for row in places.tolist())


def test_degenerate_atoms_and_targets() -> None:
    atoms = torch.cat([draw(3, 8), draw(3, 8), torch.zeros(2, 8, dtype=torch.float64)])  # twice the same, and nothing
    targets = torch.cat([draw(4, 8, seed=1), torch.zeros(1, 8, dtype=torch.float64), draw(3, 8)])
    places, weights = matching_pursuit(targets, atoms, 50)
    assert places.shape == weights.shape == (8, 8) and torch.isfinite(weights).all()
    assert weights.abs().max() < 100 * targets.abs().max()
    exact = targets @ torch.linalg.pinv(draw(3, 8)) @ draw(3, 8)  # all that three directions can say
    torch.testing.assert_close(dense(places, weights, 8) @ atoms, exact, atol=1e-7, rtol=0)
    assert (weights[4] == 0).all()


def test_nearly_alike_atoms_do_not_explode() -> None:
    base = draw(1, 8)
    atoms = base + 1e-9 * draw(20, 8, seed=1)
    _, weights = matching_pursuit(draw(4, 8, seed=2), atoms, 10)
    assert torch.isfinite(weights).all() and weights.abs().max() < 100


def test_the_same_input_gives_the_same_bits() -> None:
    one, two = (matching_pursuit(draw(5, 12, seed=1), draw(40, 12), 4) for _ in range(2))
    assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])
