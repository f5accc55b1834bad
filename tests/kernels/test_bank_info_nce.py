from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from contrastok.kernels import bank_info_nce as module
from contrastok.kernels import reference
from contrastok.kernels.bank_info_nce import bank_info_nce, bank_info_nce_op
from contrastok.kernels.info_nce import info_nce
from contrastok.kernels.runtime import use_triton

Draw = Callable[..., torch.Tensor]
Close = Callable[[torch.Tensor, torch.Tensor, float], None]
TEMPERATURE = 0.05
DTYPES = [
    (torch.float32, torch.float32), (torch.float32, torch.bfloat16), (torch.float32, torch.float16),
    (torch.bfloat16, torch.bfloat16), (torch.float16, torch.float16),
]  # fmt: skip


@pytest.fixture(autouse=True)
def many_slices_and_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that small banks are cut too."""
    monkeypatch.setattr(module, "CHUNK", 40)
    if find_spec("triton"):
        monkeypatch.setattr("contrastok.kernels.bank_info_nce_triton.SHORTEST", 64)


def unit(random: Draw, n: int, d: int, dtype: torch.dtype) -> torch.Tensor:
    return F.normalize(random(n, d, dtype=torch.float64), dim=-1).to(dtype)


def problem(random: Draw, b: int, k: int, d: int, dtype: torch.dtype, bank: torch.dtype) -> tuple[Any, ...]:
    """Queries, positives, bank, mask, and groups; the last query's group takes a whole slice of the bank."""
    rows, columns = (random(n).mul(100).long() % 5 for n in (b, k))
    rows[-1] = 9
    columns[:64] = 9
    mask = random(b, k) > 1.0
    return unit(random, b, d, dtype), unit(random, b, d, dtype), unit(random, k, d, bank), mask, rows, columns


def ours(device: torch.device, case: tuple[Any, ...], weights: torch.Tensor) -> tuple[torch.Tensor, ...]:
    q, p, bank, mask, rows, columns = (t.detach().to(device) for t in case)
    q.requires_grad_(), p.requires_grad_()
    loss, hits = bank_info_nce(q, p, bank, TEMPERATURE, mask=mask, row_groups=rows, bank_groups=columns)
    grads = torch.autograd.grad((loss * weights.to(device)).sum(), (q, p))
    return loss.detach().cpu(), *(g.cpu() for g in grads), hits.cpu()


def plain(case: tuple[Any, ...], weights: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    q, p = (t.detach().to(dtype).requires_grad_() for t in case[:2])
    loss = reference.bank_info_nce(q, p, case[2].to(dtype), case[3] | (case[4][:, None] == case[5]), TEMPERATURE)
    return loss.detach(), *torch.autograd.grad((loss * weights.to(dtype)).sum(), (q, p))


@pytest.mark.parametrize("shape", [(1, 3, 1), (5, 90, 17), (70, 300, 48), (3, 190, 100)])
@pytest.mark.parametrize(("dtype", "bank"), DTYPES)
def test_against_float64(
    device: torch.device, shape: tuple[int, int, int], dtype: torch.dtype, bank: torch.dtype, random: Draw, close: Close
) -> None:
    """Near the truth, and no farther from it than plain torch in the dtype of the bank."""
    case, weights = problem(random, *shape, dtype, bank), random(shape[0])
    exact = dtype == torch.float32 and (bank == torch.float32 or not use_triton(case[0]))
    tolerance = 1e-6 if exact else 4e-3
    got, truth, same = ours(device, case, weights), plain(case, weights, torch.float64), plain(case, weights, bank)
    for mine, true, torchs in zip(got[:3], truth, same, strict=True):
        close(mine, true, tolerance)
        away, limit = (float((t.double() - true).norm()) for t in (mine, torchs))
        assert away <= limit + 1e-6 * float(true.norm()) + (0 if exact else 2e-3 * float(true.norm()))


@pytest.mark.parametrize(("bank_dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_the_same_as_info_nce_with_the_positive_among_the_keys(
    device: torch.device, bank_dtype: torch.dtype, tolerance: float, random: Draw
) -> None:
    case = problem(random, 6, 90, 16, torch.float32, torch.float32)
    q, p, bank, hidden, rows, columns = (t.to(device) for t in case)
    targets, own = torch.arange(6, device=device), torch.ones(6, 6, dtype=torch.bool, device=device)
    keys, groups = torch.cat([p, bank]), {"row_groups": rows, "key_groups": torch.cat([rows, columns])}
    for mask, bank_groups in ((None, columns), (hidden, None), (hidden, columns)):
        shared = {} if bank_groups is None else {"row_groups": rows, "bank_groups": columns}
        loss, hits = bank_info_nce(q, p, bank.to(bank_dtype), TEMPERATURE, mask=mask, **shared)
        whole = torch.cat([own, torch.zeros_like(hidden) if mask is None else mask], dim=1)
        other, other_hits = info_nce(q, keys, targets, whole, TEMPERATURE, **(groups if shared else {}))
        torch.testing.assert_close(loss, other, rtol=tolerance, atol=tolerance)
        assert torch.equal(hits, other_hits)


@pytest.mark.parametrize("bank_dtype", [torch.float32, torch.bfloat16])
def test_with_every_negative_masked_loss_and_gradient_are_zero(
    device: torch.device, bank_dtype: torch.dtype, random: Draw
) -> None:
    q, p = (unit(random, 3, 16, torch.float32).to(device).requires_grad_() for _ in range(2))
    same = {"row_groups": torch.ones(3, device=device).int(), "bank_groups": torch.ones(130, device=device).int()}
    loss, hits = bank_info_nce(q, p, unit(random, 130, 16, bank_dtype).to(device), TEMPERATURE, **same)
    dq, dp = torch.autograd.grad(loss.sum(), (q, p))
    assert not loss.any() and not dq.any() and not dp.any() and hits.all()


@pytest.mark.parametrize("bank_dtype", [torch.float32, torch.bfloat16])
def test_logits_of_two_hundred(device: torch.device, bank_dtype: torch.dtype) -> None:
    """All logits -200: the loss is the log of their number. The positive at +200: 0. The negatives at +200: 400 more."""
    one = torch.zeros(1, 16, device=device)
    one[:, 0] = 1.0
    for positive, bank, expected in ((-one, -one, 68.0), (one, -one, 1.0), (-one, one, 67.0)):
        loss, _ = bank_info_nce(one, positive, bank.to(bank_dtype).repeat(67, 1), 0.005)
        apart = 400.0 if expected == 67.0 else 0.0
        torch.testing.assert_close(loss, torch.full_like(loss, expected).log() + apart)


def test_memory_does_not_grow_with_the_bank(random: Draw) -> None:
    """Nothing that is made is larger than queries x chunk or a chunk of the bank."""
    from torch.profiler import ProfilerActivity, profile

    q, p = (unit(random, 20, 16, torch.float32).requires_grad_() for _ in range(2))
    bank = unit(random, 5000, 16, torch.bfloat16)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        bank_info_nce(q, p, bank, TEMPERATURE)[0].sum().backward()
    assert 0 < max(event.self_cpu_memory_usage for event in seen.events()) <= 4 * 40 * 20


def test_no_queries_and_no_bank(device: torch.device, random: Draw) -> None:
    q = unit(random, 3, 16, torch.bfloat16).to(device)
    loss, hits = bank_info_nce(q[:0], q[:0], q, TEMPERATURE)
    assert loss.shape == hits.shape == (0,)
    loss, hits = bank_info_nce(q, q, q[:0], TEMPERATURE)
    assert not loss.any() and hits.all()


def test_same_bits_in_twenty_runs(device: torch.device, random: Draw) -> None:
    case, weights = problem(random, 3, 130, 16, torch.float32, torch.bfloat16), random(3)
    first = ours(device, case, weights)
    for _ in range(20):
        assert all(torch.equal(a, b) for a, b in zip(ours(device, case, weights), first, strict=True))


def test_autocast_changes_no_bit(device: torch.device, random: Draw) -> None:
    q, p, bank = (t.to(device) for t in problem(random, 5, 90, 16, torch.float32, torch.bfloat16)[:3])
    q.requires_grad_()
    plain = bank_info_nce(q, p, bank, TEMPERATURE)[0]
    with torch.autocast(device.type, dtype=torch.bfloat16):
        cast = bank_info_nce(q, p, bank, TEMPERATURE)[0]
        gradient = torch.autograd.grad(cast.sum(), q)[0]
    assert torch.equal(cast, plain) and torch.equal(gradient, torch.autograd.grad(plain.sum(), q)[0])


def test_gradcheck(random: Draw) -> None:
    q, p, bank, mask, rows, columns = problem(random, 3, 90, 4, torch.float64, torch.float64)
    groups = {"mask": mask, "row_groups": rows, "bank_groups": columns}
    assert torch.autograd.gradcheck(
        lambda q, p: bank_info_nce(q, p, bank, 0.5, **groups)[0], (q.requires_grad_(), p.requires_grad_())
    )


def test_registered_as_torch_asks_and_compiles_whole(device: torch.device, random: Draw) -> None:
    given = [t.to(device) for t in problem(random, 5, 90, 16, torch.float32, torch.bfloat16)]
    q, p, bank, *_ = given
    q.requires_grad_(), p.requires_grad_()
    torch.library.opcheck(bank_info_nce_op, (*given, TEMPERATURE))
    turned = (t.detach().T.contiguous().T for t in (q, p, bank))  # columns side by side
    torch.library.opcheck(bank_info_nce_op, (*turned, None, None, None, TEMPERATURE))
    compiled = torch.compile(
        lambda q, p: bank_info_nce(q, p, bank, TEMPERATURE)[0].sum(), fullgraph=True, backend="aot_eager"
    )
    eager = torch.autograd.grad(bank_info_nce(q, p, bank, TEMPERATURE)[0].sum(), (q, p))
    assert all(torch.equal(a, b) for a, b in zip(torch.autograd.grad(compiled(q, p), (q, p)), eager, strict=True))


def test_what_does_not_fit_is_refused(random: Draw) -> None:
    q, bank = random(2, 4), random(3, 4)
    with pytest.raises(ValueError, match="float64"):
        bank_info_nce(q, q.double(), bank, 1.0)
    with pytest.raises(ValueError, match="groups"):
        bank_info_nce(q, q, bank, 1.0, row_groups=torch.tensor([0, 1]))
    for positives, rows in ((q[:1], bank), (q, bank[:, :3])):
        with pytest.raises(ValueError, match="fit"):
            bank_info_nce(q, positives, rows, 1.0)
    with pytest.raises(ValueError, match=r"\[2, 2\] and have to be \[2, 3\]"):
        bank_info_nce(q, q, bank, 1.0, mask=torch.zeros(2, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"\[2\] and have to be \[3\]"):
        bank_info_nce(q, q, bank, 1.0, row_groups=torch.tensor([0, 1]), bank_groups=torch.tensor([0, 1]))
