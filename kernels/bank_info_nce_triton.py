# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
"""Triton kernel of `bank_info_nce`: each program streams one slice of the bank past its queries."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl

from contrastok.kernels.runtime import interpreting

ROWS = 64
"""Queries of a program: what one tensor core instruction takes."""
SHORTEST = 1024
"""Rows of the bank that make a slice of its own worth its sums."""


@triton.jit
def add_product(tile, left, right, UP: tl.constexpr):
    """tile + left @ right, in float32."""
    if UP:
        left, right = left.to(tl.float32), right.to(tl.float32)
    return tl.dot(left, right, tile)


@triton.jit(do_not_specialize=["B", "K", "length"])
def slice_kernel(
    queries, own, bank, mask, row_groups, bank_groups, tops, totals, pulls, B, K, length, scale,
    D: tl.constexpr, D0: tl.constexpr, D1: tl.constexpr, GROUPED: tl.constexpr, MASKED: tl.constexpr, UP: tl.constexpr,
    ROWS: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """Highest logit, sum of exponentials and weighted sum of rows, over one slice of the bank.

    The width is cut in two powers of two, D0 + D1 >= D: 384 is 256 + 128, without padding.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    here = rows < B
    c0, c1 = tl.arange(0, D0), D0 + tl.arange(0, D1 if D1 else 16)
    at_query = queries + rows[:, None].to(tl.int64) * D
    q0 = tl.load(at_query + c0[None, :], here[:, None] & (c0 < D)[None, :], 0.0)
    pulled0 = tl.zeros((ROWS, D0), tl.float32)
    if D1:
        q1 = tl.load(at_query + c1[None, :], here[:, None] & (c1 < D)[None, :], 0.0)
        pulled1 = tl.zeros((ROWS, D1), tl.float32)
    group = tl.load(row_groups + rows, here, 0) if GROUPED else rows
    top = tl.load(own + rows, here, 0.0)
    total = tl.zeros((ROWS,), tl.float32)
    begin = tl.program_id(1) * length
    for start in range(begin, tl.minimum(begin + length, K), KEYS):
        at = start + tl.arange(0, KEYS)
        row = bank + at[:, None].to(tl.int64) * D
        k0 = tl.load(row + c0[None, :], (at < K)[:, None] & (c0 < D)[None, :], 0.0)
        tile = add_product(tl.zeros((ROWS, KEYS), tl.float32), q0, tl.trans(k0), UP)
        if D1:
            k1 = tl.load(row + c1[None, :], (at < K)[:, None] & (c1 < D)[None, :], 0.0)
            tile = add_product(tile, q1, tl.trans(k1), UP)
        shown = (at < K)[None, :]
        if GROUPED:
            shown = shown & (group[:, None] != tl.load(bank_groups + at, at < K, 0)[None, :])
        if MASKED:
            word = tl.load(mask + rows.to(tl.int64) * tl.cdiv(K, 32) + start // 32, here, 0)
            shown = shown & ((word[:, None] >> (at - start)[None, :]) & 1 == 0)
        tile = tl.where(shown, tile * scale, float("-inf"))
        highest = tl.maximum(top, tl.max(tile, axis=1))
        weights, shrink = tl.exp(tile - highest[:, None]), tl.exp(top - highest)
        total = total * shrink + tl.sum(weights, axis=1)
        pulled0 = add_product(pulled0 * shrink[:, None], weights.to(k0.dtype), k0, UP)
        if D1:
            pulled1 = add_product(pulled1 * shrink[:, None], weights.to(k1.dtype), k1, UP)
        top = highest
    place = tl.program_id(1).to(tl.int64) * B + rows
    tl.store(tops + place, top, here)
    tl.store(totals + place, total, here)
    tl.store(pulls + place[:, None] * D + c0[None, :], pulled0, here[:, None] & (c0 < D)[None, :])
    if D1:
        tl.store(pulls + place[:, None] * D + c1[None, :], pulled1, here[:, None] & (c1 < D)[None, :])


def widths(d: int) -> tuple[int, int]:
    """Two powers of two, not below 16, that hold a width; the second is 0 where one holds it without much padding."""
    whole = max(16, triton.next_power_of_2(d))
    rest = max(16, triton.next_power_of_2(d - whole // 2))
    return (whole // 2, rest) if whole > 16 and whole // 2 + rest < whole else (whole, 0)


def launch_options(d: int, masked: bool) -> dict[str, Any]:
    """Sizes of tiles: nothing may spill (tests/kernels/test_compile.py). A mask is read 32 keys at once."""
    d0, d1 = widths(d)
    keys = 64 if d0 + d1 <= 384 and not masked else 32
    return {"D": d, "D0": d0, "D1": d1, "ROWS": ROWS, "KEYS": keys, "num_warps": 8, "num_stages": 2}


def slice_count(rows: int, keys: int, device: torch.device) -> int:
    """Slices that give every processor of the device a program, if the bank is long enough."""
    processors = torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 4
    fitting: int = triton.cdiv(processors, triton.cdiv(max(1, rows), ROWS))
    return max(1, min(fitting, -(-keys // SHORTEST)))


def packed(mask: torch.Tensor) -> torch.Tensor:
    """A bool mask `[B, K]` as bits, 32 in a word, the first lowest: int32 `[B, K / 32]`.

    A program then reads a word for each of its queries instead of a tile, for which there are no registers left.
    """
    bits = F.pad(mask.to(torch.uint8), (0, -mask.shape[1] % 32))
    for shift in (1, 2, 4):
        bits = bits[:, ::2] | (bits[:, 1::2] << shift)
    return bits.contiguous().view(torch.int32)


def slices(
    queries: torch.Tensor,
    own: torch.Tensor,
    bank: torch.Tensor,
    mask: torch.Tensor | None,
    row_groups: torch.Tensor | None,
    bank_groups: torch.Tensor | None,
    temperature: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What `bank_info_nce.combined` takes.

    Args:
        queries: `[B, d]`, any float dtype; multiplied in the bank's.
        own: the positives' logits, float32 `[B]`.
        bank: `[K, d]`, bfloat16 or float16.
        mask: bool `[B, K]` or None.
        row_groups: int `[B]` or None.
        bank_groups: int `[K]` or None.
        temperature: logits are cosines divided by it.
    """
    (b, d), k = queries.shape, len(bank)
    count, options = slice_count(b, k, queries.device), launch_options(d, mask is not None)
    length = triton.cdiv(triton.cdiv(k, count), options["KEYS"]) * options["KEYS"]
    tops = torch.empty(count, b, dtype=torch.float32, device=queries.device)
    totals = torch.empty_like(tops)
    pulls = torch.empty(count, b, d, dtype=torch.float32, device=queries.device)
    if mask is not None and row_groups is not None and bank_groups is not None:
        # one of them at a time fits the registers
        mask, row_groups, bank_groups = mask | (row_groups[:, None] == bank_groups), None, None
    groups = [None if g is None else g.int().contiguous() for g in (row_groups, bank_groups)]
    words = None if mask is None else packed(mask)
    if b:
        slice_kernel[(triton.cdiv(b, ROWS), count)](
            queries.to(bank.dtype).contiguous(), own, bank.contiguous(), words, *groups, tops, totals, pulls,
            b, k, length, 1 / temperature,
            GROUPED=groups[0] is not None, MASKED=mask is not None, UP=interpreting(), **options,
        )  # fmt: skip
    return tops, totals, pulls
