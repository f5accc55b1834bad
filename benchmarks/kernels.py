"""Time the kernels against plain torch in the same run, and find the sizes where one way overtakes another.

    python -m benchmarks.kernels gather|chunk|tiles|bank [--device cuda]

gather: `gather_rows` with its backward against two lookups and a choice, and against a table that is trained whole.
chunk: `info_nce` with its gradient for sizes of `info_nce.CHUNK`, against plain torch, which holds all similarities.
tiles: `info_nce` by Triton's tiles, and by matrix products over chunks, against plain torch, for `info_nce.TILED_FROM`; CUDA only.
bank: `bank_info_nce` with its gradient for sizes of `bank_info_nce.CHUNK`, against plain torch likewise.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F

from benchmarks.markdown import table
from contrastok.kernels import bank_info_nce as bank_module
from contrastok.kernels import info_nce as info_module
from contrastok.kernels.bank_info_nce import bank_info_nce
from contrastok.kernels.gather import gather_rows
from contrastok.kernels.info_nce import info_nce
from contrastok.kernels.plan import RowPlan

Work = Callable[[], object]
ROUNDS = 7


def ratios(works: Mapping[str, Work], device: torch.device) -> dict[str, float]:
    """The best time of each piece of work over that of the first; they take turns, so that noise meets all."""
    best = dict.fromkeys(works, float("inf"))
    for turn in range(ROUNDS + 1):
        for name, work in works.items():
            wait(device)
            start = time.perf_counter()
            work()
            wait(device)
            if turn:  # the first turn warms up
                best[name] = min(best[name], time.perf_counter() - start)
    first = next(iter(best.values()))
    return {name: seconds / first for name, seconds in best.items()}


def wait(device: torch.device) -> None:
    """Until the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def gather(v: int, d: int, device: torch.device) -> dict[str, float]:
    """8192 tokens of which 5 % are new, over a table `[v, d]`, forward and backward."""
    n = 100
    frozen, rows = torch.randn(v, d, device=device), torch.randn(n, d, device=device, requires_grad=True)
    ids = torch.randint(v, (8192,), device=device)
    held = torch.where(torch.rand(8192) < 0.05, torch.randint(n, (8192,)), -1).int()
    slots, plan, grad = held.to(device), RowPlan.of(held, n).to(device), torch.randn(8192, d, device=device)
    whole = torch.randn(v, d, device=device, requires_grad=True)

    def choice() -> torch.Tensor:
        picked = F.embedding(slots.clamp_min(0).long(), rows)
        return torch.where(slots[:, None] >= 0, picked, F.embedding(ids, frozen))

    works: dict[str, Work] = {
        "gather_rows": lambda: torch.autograd.grad(gather_rows(ids, slots, frozen, rows, plan=plan), rows, grad),
        "two lookups": lambda: torch.autograd.grad(choice(), rows, grad),
        "whole table": lambda: torch.autograd.grad(F.embedding(ids, whole), whole, grad),
    }
    return ratios(works, device)


def contrast(b: int, k: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Unit queries and keys of width 384, and targets."""
    q = F.normalize(torch.randn(b, 384, device=device), dim=-1).requires_grad_()
    return q, F.normalize(torch.randn(k, 384, device=device), dim=-1), torch.randint(k, (b,), device=device)


def set_and_run(module: object, name: str, value: int, work: Work) -> Work:
    """Work with a constant of a module changed."""

    def changed() -> object:
        before = getattr(module, name)
        setattr(module, name, value)
        try:
            return work()
        finally:
            setattr(module, name, before)

    return changed


def info(settings: Mapping[str, tuple[str, int]], b: int, k: int, device: torch.device) -> dict[str, float]:
    """`info_nce` with its gradient under settings of its constants, after plain torch if that fits."""
    q, keys, targets = contrast(b, k, device)

    def ours() -> object:
        return torch.autograd.grad(info_nce(q, keys, targets, None, 0.05)[0].mean(), q)

    def torchs() -> object:
        return torch.autograd.grad(F.cross_entropy(q @ keys.T / 0.05, targets), q)

    changed = {name: set_and_run(info_module, *setting, ours) for name, setting in settings.items()}
    return ratios({"plain torch": torchs, **changed}, device)


def bank(device: torch.device) -> dict[str, float]:
    """256 queries against 65,536 rows in bfloat16, under settings of `CHUNK`."""
    q, rows, _ = contrast(256, 65_536, device)
    positives, half = rows[:256], rows.bfloat16()

    def torchs() -> object:
        logits = torch.cat([(q * positives).sum(-1, keepdim=True), q @ half.to(q.dtype).T], dim=1) / 0.05
        return torch.autograd.grad((logits.logsumexp(1) - logits[:, 0]).mean(), q)

    def ours() -> object:
        return torch.autograd.grad(bank_info_nce(q, positives, half, 0.05)[0].mean(), q)

    sizes = {str(n): set_and_run(bank_module, "CHUNK", n, ours) for n in (1024, 4096, 8192, 32_768)}
    return ratios({"plain torch": torchs, **sizes}, device)


def main() -> None:
    """Run, and print a table of times relative to the first column."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("gather", "chunk", "tiles", "bank"))
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    torch.manual_seed(0)
    if arguments.what == "gather":
        found = {f"{v} x {d}": gather(v, d, device) for v, d in ((30_522, 384), (250_000, 384))}
    elif arguments.what == "bank":
        found = {"256 x 65536": bank(device)}
    elif arguments.what == "chunk":
        chunks = {f"2^{n}": ("CHUNK", 2**n) for n in (16, 18, 20, 22, 24)}
        found = {f"{b} x {k}": info(chunks, b, k, device) for b, k in ((256, 2048), (1024, 16_384))}
    else:
        ways = {"products": ("TILED_FROM", 2**62), "tiles": ("TILED_FROM", 0)}
        found = {f"{n} x {n}": info(ways, n, n, device) for n in (1024, 4096, 8192, 16_384, 32_768)}
    names = list(next(iter(found.values())))
    print(table(["size", *names], [[size, *(f"{row[name]:.2f}" for name in names)] for size, row in found.items()]))


if __name__ == "__main__":
    main()
