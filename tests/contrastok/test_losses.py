from __future__ import annotations

import torch
import torch.nn.functional as F

from contrastok.losses import anchored_info_nce


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
