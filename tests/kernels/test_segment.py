from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastok.kernels import reference
from contrastok.kernels.plan import CHUNK, RowPlan
from contrastok.kernels.segment import segment_sum_op, segment_sum_rows, slot_sum_op

Draw = Callable[..., torch.Tensor]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
HOT = [2] * (3 * CHUNK + 5) + [0, -1, 4, 0, 2]
SLOTS = {"scattered": [3, -1, 0, 3, -1, 1], "hot": HOT, "one": [1], "none": [-1, -1]}


@pytest.mark.parametrize("name", SLOTS)
@pytest.mark.parametrize("d", [1, 17, 48])
@pytest.mark.parametrize("dtype", DTYPES)
def test_against_float64(device: torch.device, name: str, d: int, dtype: torch.dtype, random: Draw) -> None:
    """Each element is as near as the sizes of what was added allow."""
    slots = torch.tensor(SLOTS[name], dtype=torch.int32)
    grad = random(len(slots), d, dtype=dtype)
    ours = segment_sum_rows(grad.to(device), RowPlan.of(slots, 5).to(device)).cpu()
    assert ours.dtype == torch.float32
    truth, size = (reference.segment_sum_rows(g, slots, 5) for g in (grad.double(), grad.double().abs()))
    assert ((ours - truth).abs() <= 2e-7 * size).all()
    assert not ours[[row not in SLOTS[name] for row in range(5)]].any()


def test_wide_rows_take_several_programs(device: torch.device, random: Draw, close: Callable[..., None]) -> None:
    slots, grad = torch.tensor([1, 0, 1], dtype=torch.int32), random(3, 1100)
    ours = segment_sum_rows(grad.to(device), RowPlan.of(slots, 2).to(device)).cpu()
    close(ours, reference.segment_sum_rows(grad.double(), slots, 2), 1e-7)


def test_a_hot_row_in_half_precision_counts_to_its_end(device: torch.device) -> None:
    """Added up in bfloat16, so many ones would stop at 256."""
    ones = torch.ones(4, 128, 16, dtype=torch.bfloat16, device=device)
    plan = RowPlan.of(torch.zeros(4, 128, dtype=torch.int32), 1).to(device)
    assert torch.equal(segment_sum_rows(ones, plan).cpu(), torch.full((1, 16), 512.0))


def test_same_bits_in_twenty_runs_and_for_any_threads(device: torch.device, random: Draw) -> None:
    slots = torch.tensor([2] * (CHUNK + 1))
    grad, plan = random(len(slots), 384).to(device), RowPlan.of(slots, 5).to(device)
    first, threads = segment_sum_rows(grad, plan), torch.get_num_threads()
    try:
        for run in range(20):
            torch.set_num_threads(1 + run % 4)
            assert torch.equal(segment_sum_rows(grad, plan), first)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(("at", "ones", "expected"), [(CHUNK - 1, CHUNK + 8, 1.0), (CHUNK, CHUNK + 8, 0.0)])
def test_a_chunk_is_added_up_before_it_meets_another(device: torch.device, at: int, ones: int, expected: float) -> None:
    """1e8 + 1 is 1e8 in float32: the 1 is lost where -1e8 stands in its own chunk, and kept where it does not."""
    grad = torch.zeros(2 * CHUNK, 16)
    grad[0], grad[at], grad[ones] = 1e8, -1e8, 1.0
    ours = segment_sum_rows(grad.to(device), RowPlan.of(torch.zeros(2 * CHUNK).int(), 1).to(device))
    assert torch.equal(ours.cpu(), torch.full((1, 16), expected))


@settings(max_examples=40)
@given(st.lists(st.integers(-1, 4), max_size=120), st.integers(1, 5))
def test_whole_numbers_add_up_exactly(slots: list[int], d: int) -> None:
    held = torch.tensor(slots, dtype=torch.int32)
    grad = torch.arange(len(slots) * d, dtype=torch.float32).view(len(slots), d)
    assert torch.equal(segment_sum_rows(grad, RowPlan.of(held, 5)), reference.segment_sum_rows(grad, held, 5))


def test_the_sum_without_a_plan_is_the_same(device: torch.device, random: Draw) -> None:
    slots, grad = torch.tensor(HOT, dtype=torch.int32), random(len(HOT), 8).to(device)
    planned = segment_sum_rows(grad, RowPlan.of(slots, 5).to(device))
    assert torch.equal(slot_sum_op(grad, slots.to(device), 5), planned)


def test_registered_as_torch_asks(device: torch.device, random: Draw) -> None:
    slots = torch.tensor(SLOTS["scattered"], dtype=torch.int32)
    grad, plan = random(6, 8).to(device).requires_grad_(), RowPlan.of(slots, 4).to(device)
    torch.library.opcheck(segment_sum_op, (grad, plan.tensors(), 4))
    torch.library.opcheck(slot_sum_op, (grad, slots.to(device), 4))


@pytest.mark.parametrize("name", SLOTS)
def test_gradcheck(name: str, random: Draw) -> None:
    slots = torch.tensor(SLOTS[name], dtype=torch.int32)
    grad, plan = random(len(slots), 2).double().requires_grad_(), RowPlan.of(slots, 5)
    assert torch.autograd.gradcheck(lambda g: segment_sum_rows(g, plan), (grad,))
    assert torch.autograd.gradcheck(lambda g: slot_sum_op(g, slots, 5), (grad,))
