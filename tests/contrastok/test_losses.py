from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from contrastok.losses import anchored_info_nce, close_keys


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_the_parts_add_up() -> None:
    q, t, keys = unit(3, 8).double(), unit(3, 8, seed=1).double(), unit(6, 8, seed=2).double()
    pair_query, targets = torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 2, 5])
    mask = torch.zeros(3, 6, dtype=torch.bool)
    mask[0, [0, 1]] = True
    weights = {"temperature": 0.1, "contrast_weight": 2.0, "distill_weight": 3.0}
    loss = anchored_info_nce(q, t, pair_query, keys, targets, mask, **weights)
    nce = []
    for query, target in zip(pair_query.tolist(), targets.tolist(), strict=True):
        keep = [j for j in range(6) if j == target or not mask[query, j]]
        scores = torch.stack([q[query] @ keys[j] / 0.1 for j in keep])
        nce.append(torch.logsumexp(scores, 0) - q[query] @ keys[target] / 0.1)
    torch.testing.assert_close(loss.contrast, torch.stack(nce).mean())
    torch.testing.assert_close(loss.distill, torch.stack([1 - q[i] @ t[i] for i in range(3)]).mean())
    torch.testing.assert_close(loss.total, 2 * loss.contrast + 3 * loss.distill)


def test_many_keys_are_read_once_and_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """With positives that stand among the keys, masked ones, and a temperature that learns."""
    found = []
    for least in (2**15, 4):
        monkeypatch.setattr("contrastok.losses.LARGE_BANK", least)
        q, scale = unit(3, 8).requires_grad_(), torch.tensor(1.5, requires_grad=True)
        keys, mask = unit(9, 8, seed=2), torch.rand(3, 9, generator=torch.Generator().manual_seed(0)) > 0.7
        pairs, targets = torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 2, 5])
        weights = {"temperature": 0.1, "contrast_weight": 2.0, "distill_weight": 3.0}
        loss = anchored_info_nce(q, unit(3, 8, seed=1), pairs, keys, targets, mask, **weights, scale=scale)
        found.append([loss.total.detach(), loss.accuracy, *torch.autograd.grad(loss.total, (q, scale))])
        assert close_keys(keys, keys, 0.95).equal(torch.eye(9, dtype=torch.bool))
    for ours, before in zip(*found, strict=True):
        torch.testing.assert_close(ours, before)
