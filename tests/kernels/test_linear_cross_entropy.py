from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastok.kernels import linear_cross_entropy as module
from contrastok.kernels import reference
from contrastok.kernels.linear_cross_entropy import frozen_linear_cross_entropy, linear_cross_entropy_op, row_grad_op

Draw = Callable[..., torch.Tensor]
Close = Callable[[torch.Tensor, torch.Tensor, float], None]
Case = tuple[Any, ...]
FORMS = [(1.0, 0.0), (0.25, 0.0), (1.0, 3.0), (2.0, 5.0)]
"""Scale and cap."""


@pytest.fixture(autouse=True)
def small_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every problem takes several blocks of positions and runs of classes, and none of them ends where a run does."""
    monkeypatch.setattr(module, "POSITIONS", 4)
    monkeypatch.setattr(module, "CLASSES", 3)


def problem(random: Draw, n: int, v: int, new: int, d: int, dtype: torch.dtype = torch.float64) -> Case:
    """States, table, rows, targets of all sorts, bias, and which frozen classes are absent (a whole run, and one more)."""
    states, table, rows = (random(k, d, dtype=dtype) for k in (n, v, new))
    absent = torch.zeros(v, dtype=torch.bool)
    if v > 7:
        absent[3:6] = absent[-1] = True
    present = torch.cat([(~absent).nonzero().squeeze(1), torch.arange(v, v + new)])
    targets = present[random(n).mul(1000).long() % len(present)]
    targets[1::5] = -1
    return states, table, rows, targets, random(v, dtype=dtype), absent


def ours(case: Case, weights: torch.Tensor, scale: float, cap: float) -> tuple[torch.Tensor, ...]:
    states, table, rows, targets, bias, absent = case
    states, rows = states.detach().requires_grad_(), rows.detach().requires_grad_()
    loss, hits = frozen_linear_cross_entropy(
        states, table, rows, targets, bias=bias, absent=absent, scale=scale, cap=cap
    )
    dx, dr = torch.autograd.grad((loss * weights).sum(), (states, rows))
    return loss.detach(), dx, dr, hits


def plain(case: Case, weights: torch.Tensor, scale: float, cap: float) -> tuple[torch.Tensor, ...]:
    states, table, rows, bias = (case[i].detach().double() for i in (0, 1, 2, 4))
    states.requires_grad_(), rows.requires_grad_()
    loss = reference.frozen_linear_cross_entropy(states, table, rows, case[3], bias, case[5], scale, cap)
    return loss.detach(), *torch.autograd.grad((loss * weights.double()).sum(), (states, rows))


@pytest.mark.parametrize(("scale", "cap"), FORMS)
@pytest.mark.parametrize("shape", [(1, 2, 1, 1), (11, 17, 5, 8), (9, 8, 1, 4)])
def test_against_float64(shape: tuple[int, ...], scale: float, cap: float, random: Draw, close: Close) -> None:
    case, weights = problem(random, *shape), random(shape[0], dtype=torch.float64)
    for mine, true in zip(ours(case, weights, scale, cap), plain(case, weights, scale, cap), strict=False):
        close(mine, true, 1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 2e-2)])
def test_lower_precision_is_near_the_truth(dtype: torch.dtype, tolerance: float, random: Draw, close: Close) -> None:
    """Rows stay in float32 whatever the body's precision; what they are rounded to is compared."""
    states, table, rows, targets, bias, absent = problem(random, 13, 19, 4, 16, dtype)
    case = (states / 4, table, rows.float(), targets, bias, absent)
    got, truth = ours(case, random(13), 1.0, 0.0), plain(case, torch.ones(13), 1.0, 0.0)
    close(got[0], truth[0], 1e-5)
    assert got[0].dtype == got[2].dtype == torch.float32 and got[1].dtype == dtype
    weights = torch.ones(13)
    for mine, true in zip(ours(case, weights, 1.0, 0.0), plain(case, weights, 1.0, 0.0), strict=False):
        close(mine, true, tolerance)


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 9), v=st.integers(1, 20), new=st.integers(0, 7), form=st.sampled_from(FORMS),
    seed=st.integers(0, 2**31), size=st.sampled_from([0.01, 1.0, 60.0]),
)  # fmt: skip
def test_any_shape_and_size_of_logits(
    n: int, v: int, new: int, form: tuple[float, float], seed: int, size: float
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    states, *rest = problem(draw, n, v, new, 3)
    case, weights = (states * size, *rest), torch.ones(n, dtype=torch.float64)
    for mine, true in zip(ours(case, weights, *form), plain(case, weights, *form), strict=False):
        torch.testing.assert_close(mine, true, rtol=1e-9, atol=1e-9)


def test_gradcheck(random: Draw) -> None:
    states, table, rows, targets, bias, absent = problem(random, 6, 8, 3, 4)

    def loss(states: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        given = {"bias": bias, "absent": absent, "scale": 1.5, "cap": 2.0}
        return frozen_linear_cross_entropy(states, table, rows, targets, **given)[0]

    assert torch.autograd.gradcheck(loss, (states.requires_grad_(), rows.requires_grad_()))


def test_a_hit_is_a_class_that_no_other_beats(random: Draw) -> None:
    states, table, rows, targets, bias, absent = problem(random, 40, 9, 3, 4)
    _, hits = frozen_linear_cross_entropy(states, table, rows, targets, bias=bias, absent=absent)
    logits = torch.cat([(states @ table.T + bias).masked_fill(absent, -torch.inf), states @ rows.T], dim=1)
    assert hits.tolist() == ((logits.argmax(dim=1) == targets) & (targets >= 0)).tolist()
    assert 0 < hits.sum() < 40


def test_a_class_that_is_absent_changes_nothing(random: Draw) -> None:
    case, weights = problem(random, 12, 17, 4, 8), torch.ones(12, dtype=torch.float64)
    table = case[1].clone()
    table[case[5]] = 1e6
    assert all(torch.equal(a, b) for a, b in zip(ours(case, weights, 1.0, 0.0),
                                                ours((case[0], table, *case[2:]), weights, 1.0, 0.0), strict=True))  # fmt: skip


def test_the_table_gets_no_gradient_and_a_frozen_side_costs_nothing(random: Draw) -> None:
    states, table, rows, targets, *_ = problem(random, 6, 8, 3, 4)
    loss, _ = frozen_linear_cross_entropy(states, table.requires_grad_(), rows, targets)
    assert not loss.requires_grad
    *_, towards = linear_cross_entropy_op(states, table, rows, targets, None, None, 1.0, 0.0, False)
    assert towards.shape == (0, 4)
    loss, _ = frozen_linear_cross_entropy(states, table, rows.requires_grad_(), targets)
    loss.sum().backward()
    assert table.grad is None and states.grad is None and rows.grad is not None


def test_nothing_as_large_as_all_logits_is_made(random: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.profiler import ProfilerActivity, profile

    monkeypatch.setattr(module, "POSITIONS", 16)
    monkeypatch.setattr(module, "CLASSES", 32)
    states, table, rows, targets, *_ = problem(random, 40, 300, 5, 4, torch.float32)
    states.requires_grad_(), rows.requires_grad_()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        frozen_linear_cross_entropy(states, table, rows, targets)[0].sum().backward()
    assert 0 < max(event.self_cpu_memory_usage for event in seen.events()) <= 4 * 16 * 32


def test_same_bits_in_every_run_and_under_autocast(random: Draw) -> None:
    case, weights = problem(random, 20, 33, 4, 16, torch.float32), random(20)
    first = ours(case, weights, 1.0, 4.0)
    for _ in range(10):
        assert all(torch.equal(a, b) for a, b in zip(ours(case, weights, 1.0, 4.0), first, strict=True))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(torch.equal(a, b) for a, b in zip(ours(case, weights, 1.0, 4.0), first, strict=True))


def test_registered_as_torch_asks_and_compiles_whole(random: Draw) -> None:
    states, table, rows, targets, bias, absent = problem(random, 6, 8, 3, 4, torch.float32)
    states.requires_grad_(), rows.requires_grad_()
    torch.library.opcheck(linear_cross_entropy_op, (states, table, rows, targets, bias, absent, 1.0, 3.0, True))
    torch.library.opcheck(linear_cross_entropy_op, (states.detach(), table, rows, targets, None, None, 1.0, 0.0, False))
    _, _, lse, _ = linear_cross_entropy_op(states, table, rows, targets, bias, absent, 1.0, 3.0, True)
    fixed = [t.detach() for t in (torch.ones(6), lse, states, rows, targets)]
    torch.library.opcheck(row_grad_op, (*fixed, 8, 1.0, 3.0))

    def total(states: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return frozen_linear_cross_entropy(states, table, rows, targets, bias=bias, absent=absent, cap=3.0)[0].sum()

    compiled = torch.compile(total, fullgraph=True, backend="aot_eager")
    for mine, eager in zip(
        *(torch.autograd.grad(f(states, rows), (states, rows)) for f in (compiled, total)), strict=True
    ):
        assert torch.equal(mine, eager)


def test_what_does_not_fit_is_refused(random: Draw) -> None:
    states, table, rows, targets, bias, _ = problem(random, 3, 8, 2, 4)
    with pytest.raises(ValueError, match="4 wide"):
        frozen_linear_cross_entropy(states, table[:, :3], rows, targets)
    with pytest.raises(ValueError, match="8 frozen classes"):
        frozen_linear_cross_entropy(states, table, rows, targets, bias=bias[:5])
