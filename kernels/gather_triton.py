# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
"""Triton kernel of `gather`."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

WORK = 2048
"""Elements a program copies: enough loads in flight to hide memory, and enough programs for short batches."""


@triton.jit(do_not_specialize=["N"])
def gather_kernel(
    ids, slots, frozen, rows, out, N, stride, scale,
    SCALED: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    """Of the two loads each position makes only one: the masks exclude each other."""
    token = tl.program_id(0).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)  # rows x width passes 2^31
    cols = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    slot = tl.load(slots + token, token < N, 0).to(tl.int64)
    new = (slot >= 0) & (token < N)
    old = slot < 0
    id = tl.load(ids + token, old, 0).to(tl.int64)
    inside = (cols < D)[None, :]
    kept = tl.load(frozen + id[:, None] * stride + cols[None, :], old[:, None] & inside, 0.0)
    learned = tl.load(rows + slot[:, None] * D + cols[None, :], new[:, None] & inside, 0.0)
    to = out.dtype.element_ty
    if SCALED:
        value = (tl.where(new[:, None], learned, kept.to(tl.float32)) * scale).to(to)
    else:
        value = tl.where(new[:, None], learned.to(to), kept)  # no arithmetic: frozen bits stay as they are
    tl.store(out + token[:, None] * D + cols[None, :], value, (token < N)[:, None] & inside)


def gather(
    ids: torch.Tensor, slots: torch.Tensor, frozen: torch.Tensor, rows: torch.Tensor, scale: float
) -> torch.Tensor:
    """See `gather.gather_op`; the rows of the table may be apart (`stride(0)`), not their elements."""
    n, d = ids.shape[0], frozen.shape[1]
    out = torch.empty(n, d, dtype=frozen.dtype, device=frozen.device)
    if not out.numel():
        return out
    if frozen.stride(1) != 1:
        raise ValueError("the elements of a row of the table have to stand side by side")
    block = min(triton.next_power_of_2(d), 1024)
    tokens = max(1, WORK // block)
    gather_kernel[(triton.cdiv(n, tokens), triton.cdiv(d, block))](
        ids,
        slots,
        frozen,
        rows.contiguous(),
        out,
        n,
        frozen.stride(0),
        scale,
        scale != 1.0,
        d,
        block,
        tokens,
        num_warps=4,
    )
    return out
