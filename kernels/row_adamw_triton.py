# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
"""Triton kernel of `row_adamw`."""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl

from contrastok.kernels.segment_triton import TILE, listed_sum, sum_segments


@triton.jit
def row_adamw_kernel(
    src, order, offsets, place, rows, exp_avg, exp_avg_sq, steps,
    lr, fresh1, fresh2, log1, log2, eps, keep, scale,
    D: tl.constexpr, ORDERED: tl.constexpr, BLOCK: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Sum one row's gradient and update it. A program owns the whole row: its step count is read and written once."""
    segment = tl.program_id(0)
    begin, end = tl.load(offsets + segment), tl.load(offsets + segment + 1)
    row = tl.load(place + segment).to(tl.int64)
    step = tl.load(steps + row) + 1
    # 1 - beta^step cancels where the step is small: in float64 the float32 logarithm is all that is lost
    bias1 = (1 - tl.exp(step.to(tl.float64) * log1)).to(tl.float32)
    bias2 = (1 - tl.exp(step.to(tl.float64) * log2)).to(tl.float32)
    for left in range(0, D, BLOCK):
        cols = left + tl.arange(0, BLOCK)
        inside = cols < D
        at = row * D + cols
        grad = listed_sum(src, order, begin, end, cols, inside, D, ORDERED, TILE) * scale
        first = tl.load(exp_avg + at, inside, 0.0)
        first += fresh1 * (grad - first)
        second = tl.load(exp_avg_sq + at, inside, 0.0)
        second += fresh2 * (grad * grad - second)
        away = tl.sqrt(second) / tl.sqrt(bias2) + eps
        value = tl.load(rows + at, inside, 0.0)
        value = value * keep - (lr / bias1) * (first / away)
        tl.store(rows + at, value, inside)
        tl.store(exp_avg + at, first, inside)
        tl.store(exp_avg_sq + at, second, inside)
    tl.store(steps + row, step)


def update(
    rows: torch.Tensor,
    exp_avg: torch.Tensor,
    exp_avg_sq: torch.Tensor,
    steps: torch.Tensor,
    grad: torch.Tensor,
    plan: list[torch.Tensor],
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    scale: float,
) -> None:
    """See `row_adamw.row_adamw_op`: one launch, and one more before it where a row has several chunks."""
    order, chunks, touched, row_chunks = plan
    if not all(state.is_contiguous() for state in (rows, exp_avg, exp_avg_sq)):
        raise ValueError("rows and moments have to be contiguous")
    source: tuple[torch.Tensor | None, ...] = (grad.contiguous(), order, chunks)
    if len(chunks) != len(row_chunks):
        partial = torch.empty(len(chunks) - 1, grad.shape[1], dtype=torch.float32, device=grad.device)
        source = (sum_segments(grad, order, chunks, None, partial), None, row_chunks)
    d = grad.shape[1]
    row_adamw_kernel[(len(touched),)](
        *source, touched, rows, exp_avg, exp_avg_sq, steps,
        lr, 1 - beta1, 1 - beta2, log_of(beta1), log_of(beta2), eps, 1 - lr * weight_decay, scale,
        D=d, ORDERED=source[1] is not None, BLOCK=min(triton.next_power_of_2(d), 512), TILE=TILE, num_warps=4,
    )  # fmt: skip


def log_of(beta: float) -> float:
    """Its logarithm; for 0 a number whose exponential is 0."""
    return math.log(beta) if beta else -1e30
