"""How near do `gather_rows` and `segment_sum_rows` come to what the memory gives? Beside a copy of as many bytes.

    python -m benchmarks.bandwidth [--shape llama] [--tokens 65536] [--json FILE]

Both only move bytes: the lookup reads a row of the table or of the new tokens for each position and writes it, the sum reads
the gradients of the new tokens' positions and writes their rows. A plain copy that reads and writes as many bytes in all is
the limit. The three take turns in one process; a share is the median over rounds of the copy's time over the operator's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.embedding_op import SHAPES, Shape, device
from benchmarks.harness import machine, positive, wait, write_json
from benchmarks.markdown import table
from contrastok.kernels.gather import gather_rows
from contrastok.kernels.plan import RowPlan
from contrastok.kernels.segment import segment_sum_rows

NEW, EVERY = 1000, 20
"""New rows, and how often a position is new in the lookup; in the sum each one is, or it would have little to move."""


def jobs(shape: Shape, tokens: int) -> dict[str, tuple[Callable[[], Any], int]]:
    """By operator: a call of it, and the bytes that it must read and write."""
    draw = torch.Generator().manual_seed(0)
    block = torch.randn(1024, shape.width, generator=draw).to(shape.dtype)
    frozen = block.repeat(-(-shape.rows // 1024), 1)[: shape.rows].to(device())
    rows = torch.randn(NEW, shape.width, generator=draw).to(device())
    ids = torch.randint(shape.rows, (tokens,), generator=draw)
    slots = torch.full((tokens,), -1, dtype=torch.int32)
    slots[::EVERY] = torch.randint(NEW, slots[::EVERY].shape, generator=draw, dtype=torch.int32)
    read = RowPlan.of(slots, NEW).to(device())
    summed = RowPlan.of(torch.randint(NEW, (tokens,), generator=draw, dtype=torch.int32), NEW).to(device())
    gradient = torch.randn(tokens, shape.width, generator=draw).to(shape.dtype).to(device())
    ids, slots = ids.to(device()), slots.to(device())
    return {
        "gather_rows": (lambda: gather_rows(ids, slots, frozen, rows, plan=read), 2 * gradient.nbytes),
        "segment_sum_rows": (lambda: segment_sum_rows(gradient, summed), gradient.nbytes + rows.nbytes),
    }


def share(call: Callable[[], Any], moved: int, rounds: int) -> float:
    """The time of a copy that reads and writes `moved` bytes in all, over that of the call."""
    source = torch.zeros(moved // 2, dtype=torch.uint8, device=device())
    target = torch.zeros_like(source)
    for _ in range(3):  # compiled, and all memory touched
        call(), target.copy_(source)
    return median(seconds(lambda: target.copy_(source)) / seconds(call) for _ in range(rounds))


def seconds(call: Callable[[], Any]) -> float:
    """Of one call."""
    wait()
    start = time.perf_counter()
    call()
    wait()
    return time.perf_counter() - start


def main() -> None:
    """Run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=[*SHAPES, "all"], default="llama")
    parser.add_argument("--tokens", type=positive, default=65_536, help="positions of a batch")
    parser.add_argument("--rounds", type=positive, default=20)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    found = []
    for name in SHAPES if arguments.shape == "all" else [arguments.shape]:
        for operator, (call, moved) in jobs(SHAPES[name], arguments.tokens).items():
            of_copy = share(call, moved, arguments.rounds)
            found.append({"shape": name, "operator": operator, "bytes": moved, "share_of_copy": of_copy})
    print(f"{machine()['device']}, {arguments.tokens:,} positions; share of the rate of a copy\n")
    lines = [[f["shape"], f["operator"], f"{f['bytes'] / 1e6:,.0f}", f"{f['share_of_copy']:.2f}"] for f in found]
    print(table(["table", "operator", "MB moved", "share"], lines))
    write_json({"tokens": arguments.tokens, "measured": found}, arguments.json)


if __name__ == "__main__":
    main()
