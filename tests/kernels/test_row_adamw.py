from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from contrastok.kernels import reference
from contrastok.kernels.gather import gather_rows
from contrastok.kernels.plan import CHUNK, RowPlan
from contrastok.kernels.row_adamw import row_adamw_, row_adamw_op

Draw = Callable[..., torch.Tensor]
OPTIONS: dict[str, Any] = {"lr": 0.01, "betas": (0.9, 0.999), "eps": 1e-12, "weight_decay": 0.1}
HOT = [2] * (2 * CHUNK + 5) + [0, -1, 4, 0]


class State:
    """Rows with their moments and step counts."""

    def __init__(self, rows: torch.Tensor, device: torch.device) -> None:
        self.rows = rows.clone().to(device)
        self.moments = torch.zeros_like(self.rows), torch.zeros_like(self.rows)
        self.steps = torch.zeros(len(rows), dtype=torch.int32, device=device)

    def all(self) -> tuple[torch.Tensor, ...]:
        return (self.rows, *self.moments, self.steps)


@pytest.mark.parametrize("d", [1, 17, 600])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_against_the_algorithm_in_float64(
    device: torch.device, d: int, dtype: torch.dtype, random: Draw, close: Callable[..., None]
) -> None:
    """Five batches, some with a hot row; rows that do not occur keep every bit, theirs and their moments'."""
    start = random(5, d)
    ours, truth = State(start, device), State(start.double(), torch.device("cpu"))
    for batch in (HOT, [3, 0], [-1], [0, 0, 3], HOT):
        slots, grad = torch.tensor(batch, dtype=torch.int32), random(len(batch), d, dtype=dtype)
        before = [t.clone() for t in ours.all()]
        row_adamw_(*ours.all(), grad.to(device), RowPlan.of(slots, 5).to(device), **OPTIONS, scale=2.0)
        summed = 2 * reference.segment_sum_rows(grad.double(), slots, 5)
        reference.row_adamw(*truth.all(), summed, sorted(set(batch) - {-1}), **OPTIONS)
        untouched = [row for row in range(5) if row not in batch]
        assert all(torch.equal(a[untouched], b[untouched]) for a, b in zip(ours.all(), before, strict=True))
    close(ours.rows.cpu() - start, truth.rows - start.double(), 2e-5)  # what is left of the rows' own rounding
    for mine, true in zip(ours.moments, truth.moments, strict=True):
        close(mine.cpu(), true, 1e-6)
    assert torch.equal(ours.steps.cpu(), truth.steps)


def test_first_steps_lose_nothing_to_cancellation(
    device: torch.device, random: Draw, close: Callable[..., None]
) -> None:
    """1 - 0.999^k is small for small k; rows at zero show every digit of the update."""
    ours, truth = State(torch.zeros(1, 64), device), State(torch.zeros(1, 64).double(), torch.device("cpu"))
    for _ in range(5):
        grad = random(1, 64)
        row_adamw_(*ours.all(), grad.to(device), RowPlan.of(torch.tensor([0]), 1).to(device), **OPTIONS)
        reference.row_adamw(*truth.all(), grad.double(), [0], **OPTIONS)
    close(ours.rows.cpu(), truth.rows, 1e-6)


@pytest.mark.parametrize("batches", [1, 7])
def test_is_torchs_adamw_in_float64_when_every_row_occurs(
    batches: int, random: Draw, close: Callable[..., None]
) -> None:
    slots = torch.tensor([0, 1, 2, 1, -1, 0], dtype=torch.int32)
    plan, frozen, ids = RowPlan.of(slots, 3), random(4, 8).double(), torch.tensor([0, 1, 2, 3, 3, 0])
    ours = State(random(3, 8).double(), torch.device("cpu"))
    theirs = ours.rows.clone().requires_grad_()
    optimizer = torch.optim.AdamW([theirs], **OPTIONS)
    for _ in range(batches):
        grad = random(6, 8).double()
        optimizer.zero_grad()
        gather_rows(ids, slots, frozen, theirs, scale=3.0).backward(grad)
        optimizer.step()
        row_adamw_(*ours.all(), grad, plan, **OPTIONS, scale=3.0)
    close(ours.rows, theirs.detach(), 1e-14)
    close(ours.moments[1], optimizer.state[theirs]["exp_avg_sq"], 1e-14)


def test_an_empty_batch_changes_nothing_and_betas_may_be_zero(device: torch.device, random: Draw) -> None:
    state = State(random(2, 16), device)
    before = [t.clone() for t in state.all()]
    row_adamw_(*state.all(), random(1, 16).to(device), RowPlan.of(torch.tensor([-1]), 2).to(device), **OPTIONS)
    assert all(torch.equal(a, b) for a, b in zip(state.all(), before, strict=True))
    grad = random(1, 16).to(device)
    row_adamw_(*state.all(), grad, RowPlan.of(torch.tensor([1]), 2).to(device), lr=0.5, betas=(0.0, 0.0))
    torch.testing.assert_close(state.rows[1], before[0][1] - 0.5 * grad[0].sign())


def test_same_bits_in_twenty_runs(device: torch.device, random: Draw) -> None:
    start, grad = random(5, 64), random(len(HOT), 64).to(device)
    plan, found = RowPlan.of(torch.tensor(HOT, dtype=torch.int32), 5).to(device), []
    for _ in range(20):
        state = State(start, device)
        row_adamw_(*state.all(), grad, plan, **OPTIONS)
        found.append(state.rows)
    assert all(torch.equal(rows, found[0]) for rows in found)


def test_registered_as_torch_asks_and_compiles_whole(device: torch.device, random: Draw) -> None:
    slots, grad, start = torch.tensor([0, 2, 0], dtype=torch.int32), random(3, 16).to(device), random(3, 16)
    plan, numbers = RowPlan.of(slots, 3).to(device), (0.1, 0.9, 0.99, 1e-8, 0.1, 1.0)
    torch.library.opcheck(row_adamw_op, (*State(start, device).all(), grad, plan.tensors(), *numbers))
    eager, whole = State(start, device), State(start, device)
    row_adamw_(*eager.all(), grad, plan, **OPTIONS)
    torch.compile(lambda g: row_adamw_(*whole.all(), g, plan, **OPTIONS), fullgraph=True, backend="aot_eager")(grad)
    assert all(torch.equal(a, b) for a, b in zip(eager.all(), whole.all(), strict=True))
