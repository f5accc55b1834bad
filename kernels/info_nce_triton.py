# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
"""Triton kernels of `info_nce`: tiles of similarities that never leave the chip.

Each program owns what it writes: its queries' losses, or a tile of one gradient. There are no atomics.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from contrastok.kernels.runtime import interpreting

OWN = 64
"""Rows of a tile, the program's own: what one tensor core instruction takes."""


@triton.jit
def block(source, at, count, cols, D: tl.constexpr, UP: tl.constexpr):
    """Some columns of some rows, zero outside; rows x width passes 2^31."""
    inside = (at < count)[:, None] & (cols < D)[None, :]
    value = tl.load(source + at[:, None].to(tl.int64) * D + cols[None, :], inside, 0.0)
    if UP:
        value = value.to(tl.float32)
    return value


@triton.jit
def similarities(
    a, b, a_at, b_at, A, B, D: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr, UP: tl.constexpr
):
    """Products of some rows of a with some rows of b, float32."""
    tile = tl.zeros((a_at.shape[0], b_at.shape[0]), tl.float32)
    for start in range(0, D, DEPTH):
        cols = start + tl.arange(0, DEPTH)
        left, right = block(a, a_at, A, cols, D, UP), block(b, b_at, B, cols, D, UP)
        tile = tl.dot(left, tl.trans(right), tile, input_precision=PRECISION)
    return tile


@triton.jit
def shown(rows, keys, own, row_group, key_group, mask, B, K, GROUPED: tl.constexpr, MASKED: tl.constexpr):
    """Where a key takes part in a query's softmax; rows and keys lie along different axes of the tile."""
    inside = (rows < B) & (keys < K)
    hidden = keys < 0
    if GROUPED:
        hidden = hidden | (row_group == key_group)
    if MASKED:
        hidden = hidden | (tl.load(mask + rows.to(tl.int64) * K + keys, inside, 0) != 0)
    return inside & (own | (hidden == 0))


@triton.jit(do_not_specialize=["B", "K"])
def loss_kernel(
    queries, keys, targets, mask, row_groups, key_groups, loss, lse, hits, B, K, scale,
    D: tl.constexpr, GROUPED: tl.constexpr, MASKED: tl.constexpr, PRECISION: tl.constexpr, UP: tl.constexpr,
    ROWS: tl.constexpr, KEYS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """Loss, log-sum-exp and hits of ROWS queries: one look at all keys with an online softmax."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    target = tl.load(targets + rows, rows < B, -1)
    group = tl.load(row_groups + rows, rows < B, 0) if GROUPED else rows
    top = tl.full((ROWS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    positive = tl.zeros((ROWS,), tl.float32)
    for start in range(0, K, KEYS):
        at = start + tl.arange(0, KEYS)
        tile = similarities(queries, keys, rows, at, B, K, D, DEPTH, PRECISION, UP) * scale
        own = target[:, None] == at[None, :]
        key_group = tl.load(key_groups + at, at < K, 0) if GROUPED else at
        part = shown(rows[:, None], at[None, :], own, group[:, None], key_group[None, :], mask, B, K, GROUPED, MASKED)
        tile = tl.where(part, tile, float("-inf"))
        new = tl.maximum(top, tl.max(tile, axis=1))
        safe = tl.where(new == float("-inf"), 0.0, new)  # all masked so far: -inf less -inf is NaN
        total = total * tl.exp(top - safe) + tl.sum(tl.exp(tile - safe[:, None]), axis=1)
        positive += tl.sum(tl.where(own, tile, 0.0), axis=1)
        top = new
    active = target >= 0
    log = tl.log(tl.where(active, total, 1.0))
    tl.store(lse + rows, tl.where(active, top + log, float("inf")), rows < B)
    tl.store(loss + rows, tl.where(active, (top - positive) + log, 0.0), rows < B)
    tl.store(hits + rows, (active & (positive >= top)).to(tl.int8), rows < B)


@triton.jit(do_not_specialize=["B", "K"])
def query_grad_kernel(
    queries, keys, targets, mask, row_groups, key_groups, lse, grad, out, B, K, scale,
    D: tl.constexpr, GROUPED: tl.constexpr, MASKED: tl.constexpr, PRECISION: tl.constexpr, UP: tl.constexpr,
    ROWS: tl.constexpr, KEYS: tl.constexpr, DEPTH: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """WIDTH columns of the gradient of ROWS queries: shares less one for the positive, times the keys."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    cols = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    target = tl.load(targets + rows, rows < B, -1)
    group = tl.load(row_groups + rows, rows < B, 0) if GROUPED else rows
    norm = tl.load(lse + rows, rows < B, float("inf"))
    pulled = tl.zeros((ROWS, WIDTH), tl.float32)
    for start in range(0, K, KEYS):
        at = start + tl.arange(0, KEYS)
        tile = similarities(queries, keys, rows, at, B, K, D, DEPTH, PRECISION, UP) * scale
        own = target[:, None] == at[None, :]
        key_group = tl.load(key_groups + at, at < K, 0) if GROUPED else at
        part = shown(rows[:, None], at[None, :], own, group[:, None], key_group[None, :], mask, B, K, GROUPED, MASKED)
        pull = tl.exp(tl.where(part, tile, float("-inf")) - norm[:, None]) - own.to(tl.float32)
        held = block(keys, at, K, cols, D, UP)
        pulled = tl.dot(pull.to(held.dtype), held, pulled, input_precision=PRECISION)
    pulled *= (tl.load(grad + rows, rows < B, 0.0) * scale)[:, None]
    inside = (rows < B)[:, None] & (cols < D)[None, :]
    tl.store(out + rows[:, None].to(tl.int64) * D + cols[None, :], pulled.to(out.dtype.element_ty), inside)


@triton.jit(do_not_specialize=["B", "K"])
def key_grad_kernel(
    queries, keys, targets, mask, row_groups, key_groups, lse, grad, out, B, K, scale,
    D: tl.constexpr, GROUPED: tl.constexpr, MASKED: tl.constexpr, PRECISION: tl.constexpr, UP: tl.constexpr,
    ROWS: tl.constexpr, KEYS: tl.constexpr, DEPTH: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """WIDTH columns of the gradient of KEYS keys: the same tiles, keys down and queries across."""
    at = tl.program_id(0) * KEYS + tl.arange(0, KEYS)
    cols = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    key_group = tl.load(key_groups + at, at < K, 0) if GROUPED else at
    pulled = tl.zeros((KEYS, WIDTH), tl.float32)
    for start in range(0, B, ROWS):
        rows = start + tl.arange(0, ROWS)
        target = tl.load(targets + rows, rows < B, -1)
        group = tl.load(row_groups + rows, rows < B, 0) if GROUPED else rows
        norm = tl.load(lse + rows, rows < B, float("inf"))
        weight = tl.load(grad + rows, rows < B, 0.0) * scale
        tile = similarities(keys, queries, at, rows, K, B, D, DEPTH, PRECISION, UP) * scale
        own = target[None, :] == at[:, None]
        part = shown(rows[None, :], at[:, None], own, group[None, :], key_group[:, None], mask, B, K, GROUPED, MASKED)
        pull = tl.exp(tl.where(part, tile, float("-inf")) - norm[None, :]) - own.to(tl.float32)
        held = block(queries, rows, B, cols, D, UP)
        pulled = tl.dot((pull * weight[None, :]).to(held.dtype), held, pulled, input_precision=PRECISION)
    inside = (at < K)[:, None] & (cols < D)[None, :]
    tl.store(out + at[:, None].to(tl.int64) * D + cols[None, :], pulled.to(out.dtype.element_ty), inside)


def launch_options(dtype: torch.dtype, d: int, own: str, other: str) -> dict[str, Any]:
    """Sizes of tiles: similarities are made anew for each WIDTH columns of a gradient, so WIDTH fills the registers.

    Nothing may spill, with masks and groups: tests/kernels/test_compile.py.
    """
    wide = dtype == torch.float32
    least = max(16, triton.next_power_of_2(d))
    sizes = {own: OWN, other: 32 if wide else 64, "DEPTH": min(least, 32 if wide else 64)}
    # three products of a split float32 keep its accuracy on tensor cores, which would cut it to 10 bits
    precision = "tf32x3" if wide else "ieee"
    return {**sizes, "WIDTH": min(least, 128 if wide else 256), "PRECISION": precision, "num_warps": 8}


def _arguments(
    queries: torch.Tensor,
    keys: torch.Tensor,
    targets: torch.Tensor,
    mask: torch.Tensor | None,
    row_groups: torch.Tensor | None,
    key_groups: torch.Tensor | None,
) -> tuple[list[torch.Tensor | None], dict[str, Any]]:
    """What all kernels take: tensors in their order, and constants."""
    whole = [None if t is None else t.int() for t in (targets, row_groups, key_groups)]
    given = (queries, keys, whole[0], None if mask is None else mask.view(torch.uint8), *whole[1:])
    constants = {"D": queries.shape[1], "GROUPED": row_groups is not None, "MASKED": mask is not None}
    return [None if t is None else t.contiguous() for t in given], {**constants, "UP": interpreting()}


def forward(
    queries: torch.Tensor,
    keys: torch.Tensor,
    targets: torch.Tensor,
    mask: torch.Tensor | None,
    row_groups: torch.Tensor | None,
    key_groups: torch.Tensor | None,
    temperature: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """See `info_nce.info_nce_op`."""
    loss = torch.empty(len(queries), dtype=torch.float32, device=queries.device)
    lse, hits = torch.empty_like(loss), torch.empty_like(loss, dtype=torch.int8)
    tensors, constants = _arguments(queries, keys, targets, mask, row_groups, key_groups)
    options = launch_options(queries.dtype, queries.shape[1], "ROWS", "KEYS")
    del options["WIDTH"]
    if len(queries):
        loss_kernel[(triton.cdiv(len(queries), OWN),)](
            *tensors, loss, lse, hits, len(queries), len(keys), 1 / temperature, **constants, **options
        )
    return loss, lse, hits.bool()


def backward(
    grad: torch.Tensor,
    lse: torch.Tensor,
    queries: torch.Tensor,
    keys: torch.Tensor,
    targets: torch.Tensor,
    mask: torch.Tensor | None,
    row_groups: torch.Tensor | None,
    key_groups: torch.Tensor | None,
    temperature: float,
    query_grad: bool,
    key_grad: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """See `info_nce.info_nce_backward_op`."""
    tensors, constants = _arguments(queries, keys, targets, mask, row_groups, key_groups)
    sides = []
    for kernel, side, wanted, axes in (
        (query_grad_kernel, queries, query_grad, ("ROWS", "KEYS")),
        (key_grad_kernel, keys, key_grad, ("KEYS", "ROWS")),
    ):
        out = torch.empty_like(side if wanted else side[:0], memory_format=torch.contiguous_format)
        options = launch_options(side.dtype, side.shape[1], *axes)
        if len(out):
            kernel[(triton.cdiv(len(side), OWN), triton.cdiv(side.shape[1], options["WIDTH"]))](
                *tensors, lse, grad.contiguous(), out, len(queries), len(keys), 1 / temperature, **constants, **options
            )
        sides.append(out)
    return sides[0], sides[1]
