"""What each kernel computes, in plain torch: slow, any float dtype, obviously right. The tests compare with it."""

from __future__ import annotations

import torch


def gather_rows(
    ids: torch.Tensor, slots: torch.Tensor, frozen: torch.Tensor, rows: torch.Tensor, scale: float = 1.0
) -> torch.Tensor:
    """`[..., d]`: scale x rows[slot] where there is a slot, else scale x frozen[id]; in the dtype of `frozen`."""
    d = frozen.shape[1]
    picked = [
        rows[slot] if slot >= 0 else frozen[id].to(rows.dtype)
        for id, slot in zip(ids.flatten().tolist(), slots.flatten().tolist(), strict=True)
    ]
    stacked = torch.stack(picked) if picked else rows.new_empty(0, d)
    return (stacked * scale).to(frozen.dtype).reshape(*ids.shape, d)


def segment_sum_rows(grad: torch.Tensor, slots: torch.Tensor, n: int) -> torch.Tensor:
    """`[n, d]`: for each row the sum of the gradients `[N, d]` at its positions, in the dtype of `grad`."""
    rows = [grad[slots == row].sum(dim=0) for row in range(n)]
    return torch.stack(rows) if rows else grad.new_zeros(0, grad.shape[1])


def info_nce(
    queries: torch.Tensor, keys: torch.Tensor, targets: torch.Tensor, masked: torch.Tensor, temperature: float
) -> torch.Tensor:
    """`[B]`: -log of the target's share of exp(q.k / temperature) among the keys not masked; 0 for target -1."""
    own = torch.arange(len(keys), device=keys.device) == targets[:, None]
    logits = (queries @ keys.T / temperature).masked_fill(masked & ~own, float("-inf"))
    active = targets >= 0
    logits = torch.where(active[:, None], logits, 0.0)
    loss = logits.logsumexp(dim=-1) - torch.where(own, logits, 0.0).sum(dim=-1)
    return torch.where(active, loss, 0.0)


def bank_info_nce(
    queries: torch.Tensor, positives: torch.Tensor, bank: torch.Tensor, masked: torch.Tensor, temperature: float
) -> torch.Tensor:
    """`[B]`: InfoNCE of each query with its own positive against the rows of the bank that are not masked."""
    own = (queries * positives).sum(dim=-1, keepdim=True)
    others = (queries @ bank.T.to(queries.dtype)).masked_fill(masked, float("-inf"))
    logits = torch.cat([own, others], dim=-1) / temperature
    return logits.logsumexp(dim=-1) - logits[:, 0]


def frozen_linear_cross_entropy(
    states: torch.Tensor,
    table: torch.Tensor,
    rows: torch.Tensor,
    targets: torch.Tensor,
    bias: torch.Tensor,
    absent: torch.Tensor,
    scale: float,
    cap: float,
) -> torch.Tensor:
    """`[N]`: -log of the target's share among frozen classes that are not absent and the trainable ones; 0 for -1."""
    new = len(rows)
    logits = (states @ torch.cat([table, rows]).T + torch.cat([bias, bias.new_zeros(new)])) * scale
    logits = cap * torch.tanh(logits / cap) if cap else logits
    logits = logits.masked_fill(torch.cat([absent, absent.new_zeros(new)]), float("-inf"))
    shares = logits.log_softmax(dim=-1).gather(1, targets[:, None].clamp_min(0)).squeeze(1)
    return torch.where(targets >= 0, -shares, 0.0)


def row_adamw(
    rows: torch.Tensor,
    exp_avg: torch.Tensor,
    exp_avg_sq: torch.Tensor,
    steps: torch.Tensor,
    grad: torch.Tensor,
    touched: list[int],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> None:
    """AdamW (Loshchilov & Hutter 2019, algorithm 2) on touched rows alone, in place, each with its own step count."""
    for r in touched:
        steps[r] += 1
        k = int(steps[r])
        exp_avg[r] = betas[0] * exp_avg[r] + (1 - betas[0]) * grad[r]
        exp_avg_sq[r] = betas[1] * exp_avg_sq[r] + (1 - betas[1]) * grad[r] ** 2
        first = exp_avg[r] / (1 - betas[0] ** k)
        second = exp_avg_sq[r] / (1 - betas[1] ** k)
        rows[r] = rows[r] * (1 - lr * weight_decay) - lr * first / (second.sqrt() + eps)
