# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
"""Triton kernel of `segment`: sums of listed rows, each by one program."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

TILE = 8
"""Rows added as a tree; the tiles of a segment follow one another."""


@triton.jit
def listed_sum(src, order, begin, end, cols, inside, D: tl.constexpr, ORDERED: tl.constexpr, TILE: tl.constexpr):
    """The sum of src[order[begin:end]] (or of src[begin:end]) in some columns, float32."""
    total = tl.zeros(cols.shape, tl.float32)
    for start in range(begin, end, TILE):
        at = start + tl.arange(0, TILE)
        row = (tl.load(order + at, at < end, 0) if ORDERED else at).to(tl.int64)  # rows x width passes 2^31
        tile = tl.load(src + row[:, None] * D + cols[None, :], (at < end)[:, None] & inside[None, :], 0.0)
        total += tl.sum(tile.to(tl.float32), axis=0)
    return total


@triton.jit
def segment_sum_kernel(
    src, order, offsets, place, out,
    D: tl.constexpr, ORDERED: tl.constexpr, PLACED: tl.constexpr, BLOCK: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """out[place[s]] = sum of the rows of src that segment s lists."""
    segment = tl.program_id(0)
    cols = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    total = listed_sum(
        src, order, tl.load(offsets + segment), tl.load(offsets + segment + 1), cols, cols < D, D, ORDERED, TILE
    )
    row = (tl.load(place + segment) if PLACED else segment).to(tl.int64)
    tl.store(out + row * D + cols, total, cols < D)


def sum_segments(
    src: torch.Tensor, order: torch.Tensor | None, offsets: torch.Tensor, place: torch.Tensor | None, out: torch.Tensor
) -> torch.Tensor:
    """Fill `out` `[.., d]` with the sums of segments of `src` `[.., d]`.

    Args:
        src: what is added up.
        order: rows of `src`, int32; None for all as they stand.
        offsets: int32 `[S + 1]`, where each segment starts in `order`.
        place: the row of `out` of each segment, int32 `[S]`; None for its own number.
        out: float32; other rows stay as they are.

    Returns:
        `out`.
    """
    src, d = src.contiguous(), src.shape[1]
    block = min(triton.next_power_of_2(d), 512)
    segment_sum_kernel[(len(offsets) - 1, triton.cdiv(d, block))](
        src, order, offsets, place, out, d, order is not None, place is not None, block, TILE, num_warps=4
    )
    return out
