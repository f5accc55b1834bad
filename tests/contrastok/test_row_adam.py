from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch

from contrastok.config import TrainConfig
from contrastok.row_adam import RowAdam

from .test_loop import make_loop

EPS = 1e-12


def gradients(steps: int) -> torch.Tensor:
    return torch.randn(steps, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def made() -> tuple[RowAdam, torch.nn.Parameter, torch.nn.Parameter]:
    rows = torch.nn.Parameter(torch.linspace(-1, 1, 35, dtype=torch.float64).view(5, 7))
    other = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    groups = [{"params": [rows], "lr": 0.1}, {"params": [other], "lr": 0.01}]
    return RowAdam(groups, rows, eps=EPS), rows, other


def test_where_every_row_is_touched_it_is_torch_adam() -> None:
    lazy, rows, other = made()
    plain = torch.nn.Parameter(rows.detach().clone())
    adam = torch.optim.Adam([plain], lr=0.1, eps=EPS)
    for gradient in gradients(12):
        rows.grad, plain.grad = gradient.clone(), gradient.clone()
        lazy.touch(range(5))
        lazy.step()
        adam.step()
    assert (rows - plain).norm() <= 1e-12 * plain.norm()
    assert torch.equal(other, torch.ones_like(other))


def test_a_row_moves_in_its_own_steps_alone() -> None:
    lazy, rows, other = made()
    seen = {0: [0, 1, 2, 3], 2: [1], 4: [0, 3]}
    alone = {row: torch.nn.Parameter(rows.detach()[row].clone()) for row in seen}
    adams = {row: torch.optim.Adam([parameter], lr=0.1, eps=EPS) for row, parameter in alone.items()}
    for step, gradient in enumerate(gradients(4)):
        touched = [row for row, steps in seen.items() if step in steps]
        rows.grad, other.grad = torch.zeros_like(rows), torch.ones_like(other)
        rows.grad[touched] = gradient[touched]
        before = rows.detach().clone()
        lazy.touch([*touched, *touched])  # as often as batches hold it
        lazy.step()
        for row in touched:
            alone[row].grad = gradient[row].clone()
            adams[row].step()
        still = [row for row in range(5) if row not in touched]
        assert torch.equal(rows[still], before[still])
    for row, parameter in alone.items():  # as if there were no other rows
        assert (rows[row] - parameter).norm() <= 1e-12 * parameter.norm()
    assert lazy.state[rows]["step"].tolist() == [4, 0, 1, 0, 2]
    assert torch.all(other < 1 - 0.03)  # all else goes on as with Adam


def test_the_state_of_a_saved_run_gives_the_same_bits() -> None:
    (first, rows, _), (second, again, _) = made(), made()
    for step, gradient in enumerate(gradients(6)):
        if step == 3:  # a killed run comes back
            again.data.copy_(rows)
            second.load_state_dict(copy.deepcopy(first.state_dict()))
        for optimizer, parameter in ((first, rows), (second, again))[: 1 if step < 3 else 2]:
            parameter.grad = gradient.clone()
            optimizer.touch([step % 5, 4])
            optimizer.step()
    assert torch.equal(rows, again)


@pytest.mark.parametrize("batches", [1, 2])
def test_a_step_of_the_loop_moves_the_rows_of_its_batches(
    make_config: Callable[..., TrainConfig], batches: int
) -> None:
    loop = make_loop(make_config(optimizer="lazy_adam", batch_size=1, gradient_accumulation=batches, epochs=2))
    for step in range(len(loop.feed)):
        held = loop.feed[step]
        assert len(held) <= batches
        seen = sorted({row for batch in held for row in batch.rows.tolist()})
        before = loop.overlay.rows.detach().clone()
        loop.step(step, held)
        moved = (loop.overlay.rows != before).any(dim=1).nonzero().squeeze(1).tolist()
        assert moved == seen, step
