from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastok.kernels import reference
from contrastok.kernels.gather import gather_op, gather_rows
from contrastok.kernels.plan import RowPlan
from contrastok.kernels.runtime import interpreting

Draw = Callable[..., torch.Tensor]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
IDS = torch.tensor([[4, 99, 0, 2], [99, 4, 1, 99]])
SLOTS = torch.tensor([[-1, 2, -1, -1], [0, -1, -1, 2]], dtype=torch.int32)


def same(ours: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal bits; the interpreter cuts bfloat16 off where hardware rounds, so there one unit in the last place."""
    ours, expected = ours.cpu(), expected.cpu()
    if ours.dtype == torch.bfloat16 and interpreting():
        assert ours.dtype == expected.dtype
        assert (ours.view(torch.int16).int() - expected.view(torch.int16).int()).abs().max() <= 1
    else:
        assert torch.equal(ours, expected)


@pytest.mark.parametrize("d", [1, 17, 48, 1100])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1.0, 5.5])
def test_against_a_plain_loop(device: torch.device, d: int, dtype: torch.dtype, scale: float, random: Draw) -> None:
    frozen, rows = random(5, d, dtype=dtype), random(3, d)
    ours = gather_rows(IDS.to(device), SLOTS.to(device), frozen.to(device), rows.to(device), scale=scale)
    same(ours, reference.gather_rows(IDS, SLOTS, frozen, rows, scale))


@pytest.mark.parametrize("dtype", DTYPES)
def test_frozen_rows_come_out_bit_by_bit(device: torch.device, dtype: torch.dtype, random: Draw) -> None:
    """Every bit pattern that is a number, in the interpreter too: without a scale nothing is rounded."""
    patterns = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    frozen = random(2**16) if dtype == torch.float32 else patterns.view(dtype)
    frozen = torch.where(frozen.isfinite(), frozen, 1.0).view(-1, 1024).to(device)
    ids = torch.arange(len(frozen), device=device)
    ours = gather_rows(ids, torch.full_like(ids, -1, dtype=torch.int32), frozen, torch.zeros(0, 1024, device=device))
    assert torch.equal(ours, frozen)


def test_a_table_with_wider_rows_and_an_empty_batch(device: torch.device, random: Draw) -> None:
    wide, rows = random(5, 24).to(device), random(3, 16).to(device)
    ours = gather_rows(IDS.to(device), SLOTS.to(device), wide[:, 8:], rows)
    same(ours, reference.gather_rows(IDS, SLOTS, wide[:, 8:].cpu(), rows.cpu()))
    assert gather_rows(IDS[:0].to(device), SLOTS[:0].to(device), wide, random(3, 24).to(device)).shape == (0, 4, 24)


def test_nan_in_what_is_not_picked_stays_there(device: torch.device, random: Draw) -> None:
    frozen, rows = random(5, 16), random(3, 16)
    frozen[3], rows[1] = float("nan"), float("nan")
    assert gather_rows(IDS.to(device), SLOTS.to(device), frozen.to(device), rows.to(device)).isfinite().all()


def test_addresses_beyond_32_bits(device: torch.device) -> None:
    """Row 5 starts at element 5 * 2^29 > 2^31: its address overflows 32 bits. Only the rows' starts are ever touched."""
    stride = 2**29
    storage = torch.empty(0, dtype=torch.bfloat16, device=device)
    try:
        torch.use_deterministic_algorithms(False)  # filling 5 GB with NaN would make every page real
        storage = torch.empty(5 * stride + 16, dtype=torch.bfloat16, device=device)
    except RuntimeError:
        pytest.skip("no address space for 5 GB")
    table = torch.as_strided(storage, (6, 16), (stride, 1))
    table.copy_(torch.arange(96, device=device).view(6, 16))
    ids = torch.tensor([5, 0, 4], device=device)
    ours = gather_rows(ids, torch.full_like(ids, -1, dtype=torch.int32), table, torch.zeros(1, 16, device=device))
    assert torch.equal(ours.cpu(), torch.arange(96).view(6, 16)[[5, 0, 4]].bfloat16())


@pytest.mark.parametrize("planned", [True, False])
def test_gradient_is_the_segment_sum_with_the_scale(
    device: torch.device, planned: bool, random: Draw, close: Callable[..., None]
) -> None:
    rows, grad = random(3, 16).to(device).requires_grad_(), random(2, 4, 16, dtype=torch.bfloat16)
    plan = RowPlan.of(SLOTS, 3).to(device) if planned else None
    frozen = random(5, 16, dtype=torch.bfloat16).to(device)
    gather_rows(IDS.to(device), SLOTS.to(device), frozen, rows, scale=5.5, plan=plan).backward(grad.to(device))
    assert rows.grad is not None and rows.grad.dtype == torch.float32
    close(rows.grad.cpu(), 5.5 * reference.segment_sum_rows(grad.view(-1, 16).double(), SLOTS.view(-1), 3), 1e-7)


@settings(max_examples=40)
@given(st.integers(1, 7), st.integers(1, 5), st.integers(0, 9), st.integers(0, 10_000))
def test_rows_are_the_gradient_of_their_count(n: int, d: int, length: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    slots = torch.randint(-1, n, (length,), generator=generator, dtype=torch.int32)
    rows = torch.randn(n, d, generator=generator, dtype=torch.float64, requires_grad=True)
    gather_rows(torch.zeros(length).long(), slots, torch.zeros(1, d).double(), rows, scale=2.0).sum().backward()
    counts = torch.bincount(slots[slots >= 0].long(), minlength=n).double()
    assert rows.grad is not None and torch.equal(rows.grad, (counts * 2.0)[:, None].expand(n, d))


def test_nothing_of_the_tables_size_is_made() -> None:
    """Forward and backward make fewer bytes than a thousandth of the table."""
    from torch.profiler import ProfilerActivity, profile

    frozen, rows = torch.zeros(200_000, 16), torch.zeros(3, 16, requires_grad=True)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        gather_rows(IDS, SLOTS, frozen, rows, plan=RowPlan.of(SLOTS, 3)).sum().backward()
    made = sum(event.self_cpu_memory_usage for event in seen.key_averages() if event.self_cpu_memory_usage > 0)
    assert 0 < made < frozen.nbytes / 1000


def test_gradcheck(random: Draw) -> None:
    rows, frozen = random(3, 4).double().requires_grad_(), random(5, 4).double()
    for plan in (None, RowPlan.of(SLOTS, 3)):
        given = functools.partial(gather_rows, IDS, SLOTS, frozen, scale=0.5, plan=plan)
        assert torch.autograd.gradcheck(given, (rows,)) and torch.autograd.gradgradcheck(given, (rows,))


def test_what_does_not_fit_is_refused(random: Draw) -> None:
    for slots, rows in ((SLOTS[:1], random(3, 4)), (SLOTS, random(3, 5))):
        with pytest.raises(ValueError, match="fit"):
            gather_rows(IDS, slots, random(5, 4), rows)


def test_registered_as_torch_asks_and_compiles_whole(device: torch.device, random: Draw) -> None:
    rows, frozen = random(3, 8).to(device).requires_grad_(), random(5, 8).to(device)
    ids, slots, plan = IDS.to(device), SLOTS.to(device), RowPlan.of(SLOTS, 3).to(device)
    for parts in ([], plan.tensors()):
        torch.library.opcheck(gather_op, (ids.view(-1), slots.view(-1), frozen, rows, 2.0, parts))
    compiled = torch.compile(
        lambda r: gather_rows(ids, slots, frozen, r, plan=plan).square().sum(), fullgraph=True, backend="aot_eager"
    )
    eager = torch.autograd.grad(gather_rows(ids, slots, frozen, rows).square().sum(), rows)
    assert torch.equal(torch.autograd.grad(compiled(rows), rows)[0], eager[0])
