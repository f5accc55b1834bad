from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from contrastok.kernels import info_nce as module
from contrastok.kernels import reference
from contrastok.kernels.info_nce import info_nce, info_nce_backward_op, info_nce_op

Draw = Callable[..., torch.Tensor]
Close = Callable[[torch.Tensor, torch.Tensor, float], None]
TEMPERATURE = 0.05
TOLERANCES = {torch.float32: (2e-7, 1e-6), torch.float16: (2e-7, 1e-3), torch.bfloat16: (2e-7, 6e-3)}
"""Relative norms of loss and gradients; gradients of half precision are rounded at the end, and in their product."""


@pytest.fixture(autouse=True)
def tiles_whatever_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TILED_FROM", 0)


def problem(random: Draw, b: int, k: int, d: int, dtype: torch.dtype, hidden: str) -> tuple[Any, ...]:
    """Queries, keys, targets with one that has none, explicit mask, groups of rows and of keys, and the whole mask."""
    q, keys = (F.normalize(random(n, d, dtype=torch.float64), dim=-1).to(dtype) for n in (b, k))
    targets = random(b).mul(1000).long() % k
    targets[b // 2 :: 7] = -1
    mask = random(b, k) > 0.5 if "mask" in hidden else None
    rows, columns = (random(n).mul(100).long() % 4 for n in (b, k))
    whole = torch.zeros(b, k, dtype=torch.bool) if mask is None else mask
    if "groups" in hidden:
        return q, keys, targets, mask, rows, columns, whole | (rows[:, None] == columns)
    return q, keys, targets, mask, None, None, whole


def ours(device: torch.device, case: tuple[Any, ...], weights: torch.Tensor) -> tuple[torch.Tensor, ...]:
    q, k, targets, mask, rows, columns = (None if t is None else t.to(device) for t in case[:6])
    q.requires_grad_(), k.requires_grad_()
    loss, hits = info_nce(q, k, targets, mask, TEMPERATURE, row_groups=rows, key_groups=columns)
    dq, dk = torch.autograd.grad((loss * weights.to(device)).sum(), (q, k))
    return loss.detach().cpu(), dq.cpu(), dk.cpu(), hits.cpu()


def plain(case: tuple[Any, ...], weights: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    q, k = (t.detach().cpu().to(dtype).requires_grad_() for t in case[:2])
    loss = reference.info_nce(q, k, case[2], case[6], TEMPERATURE)
    return loss.detach(), *torch.autograd.grad((loss * weights.to(dtype)).sum(), (q, k))


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 11, 8), (70, 130, 48), (33, 67, 17)])
@pytest.mark.parametrize("hidden", ["", "mask and groups"])
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_against_float64(
    device: torch.device, shape: tuple[int, int, int], hidden: str, dtype: torch.dtype, random: Draw, close: Close
) -> None:
    """Near the truth, and no farther from it than plain torch in the same dtype."""
    case, weights = problem(random, *shape, dtype, hidden), random(shape[0])
    got, truth, same = ours(device, case, weights), plain(case, weights, torch.float64), plain(case, weights, dtype)
    for mine, true, torchs, tolerance in zip(got[:3], truth, same, TOLERANCES[dtype][:1] + TOLERANCES[dtype][1:] * 2):  # noqa: B905
        close(mine, true, tolerance)
        away, limit = (float((t.double() - true).norm()) for t in (mine, torchs))
        assert away <= limit + tolerance * float(true.norm())


def test_loss_and_hits_by_the_formula(device: torch.device, random: Draw) -> None:
    """-log exp(s+/T) / sum over unmasked keys exp(s/T); a hit if no unmasked key is nearer than the positive."""
    case = problem(random, 9, 11, 8, torch.float32, "mask")
    q, k, targets, mask = (t.to(device) for t in case[:4])
    loss, hits = info_nce(q, k, targets, mask, TEMPERATURE)
    for i, target in enumerate(targets.tolist()):
        if target < 0:
            continue
        scores = torch.stack([q[i] @ k[j] / TEMPERATURE for j in range(11) if j == target or not mask[i, j]])
        own = q[i] @ k[target] / TEMPERATURE
        torch.testing.assert_close(loss[i], torch.logsumexp(scores, 0) - own)
        assert bool(hits[i]) == bool(own >= scores.max() - 1e-5)


def test_a_duplicate_of_the_positive_shares_with_it(device: torch.device, random: Draw) -> None:
    q = F.normalize(random(3, 16), dim=-1).to(device)
    loss, hits = info_nce(q, q.repeat_interleave(2, dim=0), torch.tensor([0, 3, 4], device=device), None, 1e-3)
    torch.testing.assert_close(loss, torch.full_like(loss, 2.0).log())
    assert hits.all()


def test_with_every_negative_masked_loss_and_gradient_are_zero(device: torch.device, random: Draw) -> None:
    q = F.normalize(random(4, 16), dim=-1).to(device).requires_grad_()
    k = F.normalize(random(70, 16), dim=-1).to(device).requires_grad_()
    targets = torch.tensor([0, 69, 65, -1], device=device)
    loss, hits = info_nce(q, k, targets, torch.ones(4, 70, dtype=torch.bool, device=device), 0.01)
    dq, dk = torch.autograd.grad(loss.sum(), (q, k))
    assert not loss.any() and not dq.any() and not dk.any()
    assert hits.tolist() == [True, True, True, False]


def test_logits_of_minus_two_hundred(device: torch.device) -> None:
    """exp(-200) is 0 in float32; padding must not count as a logit of 0 either."""
    q = torch.zeros(2, 16, device=device)
    q[:, 0] = 1.0
    loss, _ = info_nce(q, -q[:1].expand(67, 16), torch.tensor([3, 66], device=device), None, 0.005)
    torch.testing.assert_close(loss, torch.full_like(loss, 67.0).log())


def test_a_frozen_side_costs_nothing(device: torch.device, random: Draw) -> None:
    case = problem(random, 5, 11, 16, torch.float32, "mask")
    _, dq, dk, _ = ours(device, case, torch.ones(5))
    q, k, targets, mask = (t.detach().to(device) for t in case[:4])
    for learns, gradient in ((q, dq), (k, dk)):
        learns.requires_grad_()
        loss, _ = info_nce(q, k, targets, mask, TEMPERATURE)
        loss.sum().backward()
        assert learns.grad is not None and torch.equal(learns.grad.cpu(), gradient)
        learns.requires_grad_(False)
    loss, lse, _ = info_nce_op(q, k, targets, mask, None, None, TEMPERATURE)
    sides = info_nce_backward_op(torch.ones_like(loss), lse, q, k, targets, mask, None, None, TEMPERATURE, True, False)
    assert [len(side) for side in sides] == [5, 0]


def test_chunks_change_nothing_but_memory(random: Draw, close: Close, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that is made, forward or backward, is larger than a chunk or an input."""
    from torch.profiler import ProfilerActivity, profile

    case, weights = problem(random, 300, 200, 8, torch.float32, ""), random(300)
    whole = ours(torch.device("cpu"), case, weights)
    monkeypatch.setattr(module, "CHUNK", 3000)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        parts = ours(torch.device("cpu"), case, weights)
    for part, one in zip(parts[:3], whole, strict=False):
        close(part, one, 1e-6)
    assert 0 < max(event.self_cpu_memory_usage for event in seen.events()) <= 4 * 3000


def test_no_queries_and_strided_inputs(device: torch.device, random: Draw) -> None:
    wide = F.normalize(random(12, 16), dim=-1).to(device)
    k, targets = wide[::2], torch.tensor([0, 5], device=device)
    loss, hits = info_nce(wide[:0], k, targets[:0], None, 1.0)
    assert loss.shape == hits.shape == (0,)
    strided, _ = info_nce(wide[1:12:10], k, targets, None, 1.0)
    packed, _ = info_nce(wide[1:12:10].contiguous(), k.contiguous(), targets, None, 1.0)
    assert torch.equal(strided, packed)


def test_without_keys_nobody_has_a_positive(device: torch.device, random: Draw) -> None:
    q = random(3, 16).to(device).requires_grad_()
    loss, hits = info_nce(q, q.detach()[:0], torch.full((3,), -1, device=device), None, 1.0)
    assert not loss.any() and not hits.any() and not torch.autograd.grad(loss.sum(), q)[0].any()


def test_same_bits_in_twenty_runs(device: torch.device, random: Draw) -> None:
    case, weights = problem(random, 20, 33, 16, torch.float32, "groups"), random(20)
    first = ours(device, case, weights)
    for _ in range(20):
        assert all(torch.equal(a, b) for a, b in zip(ours(device, case, weights), first, strict=True))


def test_autocast_changes_no_bit(device: torch.device, random: Draw) -> None:
    q, k, targets = (t.to(device) for t in problem(random, 5, 11, 16, torch.float32, "")[:3])
    q.requires_grad_()
    plain = info_nce(q, k, targets, None, TEMPERATURE)[0]
    with torch.autocast(device.type, dtype=torch.bfloat16):
        cast = info_nce(q, k, targets, None, TEMPERATURE)[0]
        gradient = torch.autograd.grad(cast.sum(), q)[0]
    assert torch.equal(cast, plain) and torch.equal(gradient, torch.autograd.grad(plain.sum(), q)[0])


def test_gradcheck(random: Draw) -> None:
    q, k, targets, mask, rows, columns, _ = problem(random, 4, 6, 3, torch.float64, "mask and groups")

    def loss(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return info_nce(q, k, targets, mask, 0.5, row_groups=rows, key_groups=columns)[0]

    assert torch.autograd.gradcheck(loss, (q.requires_grad_(), k.requires_grad_()))


def test_registered_as_torch_asks_and_compiles_whole(device: torch.device, random: Draw) -> None:
    given = [t.to(device) for t in problem(random, 5, 11, 16, torch.float32, "mask and groups")[:6]]
    q, k, targets, mask, *groups = given
    q.requires_grad_()
    torch.library.opcheck(info_nce_op, (q, k, targets, mask, *groups, TEMPERATURE))
    torch.library.opcheck(info_nce_op, (q, k, targets, None, None, None, TEMPERATURE))
    eager, lse, _ = info_nce_op(q, k, targets, mask, *groups, TEMPERATURE)
    rest = [t.detach() for t in (torch.ones_like(eager), lse, *given)]
    torch.library.opcheck(info_nce_backward_op, (*rest, TEMPERATURE, True, False))
    compiled = torch.compile(
        lambda q: info_nce(q, k, targets, mask, TEMPERATURE, row_groups=groups[0], key_groups=groups[1])[0].sum(),
        fullgraph=True,
        backend="aot_eager",
    )
    assert torch.equal(torch.autograd.grad(compiled(q), q)[0], torch.autograd.grad(eager.sum(), q)[0])


def test_what_does_not_fit_is_refused(random: Draw) -> None:
    q, k, targets = random(2, 4), random(3, 4), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="float64"):
        info_nce(q, k.double(), targets, None, 1.0)
    with pytest.raises(ValueError, match="groups"):
        info_nce(q, k, targets, None, 1.0, row_groups=targets)
    with pytest.raises(ValueError, match="fit"):
        info_nce(q, k[:, :3], targets, None, 1.0)
    with pytest.raises(ValueError, match=r"\[3, 2\] and have to be \[2, 3\]"):
        info_nce(q, k, targets, torch.zeros(3, 2, dtype=torch.bool), 1.0)
