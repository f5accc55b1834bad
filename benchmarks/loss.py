"""InfoNCE against how it is computed elsewhere: among the keys of a batch, and against a frozen bank.

    python -m benchmarks.loss [--batch 1024 8192] [--bank 10000 100000] [--json FILE]

Loss and the gradient of the queries, d = 384. In a batch (B queries, B keys that get a gradient too):

* contrastok: `info_nce`.
* torch: all similarities at once, cross_entropy.
* sentence-transformers: CachedMultipleNegativesRankingLoss with a model that only looks its embeddings up.

Against a bank (256 queries, K frozen rows):

* contrastok: `bank_info_nce`.
* torch: all similarities at once.
* chunked torch: logsumexp of chunks of the bank, recomputed in the backward (torch.utils.checkpoint).

On a GPU the bank is bfloat16, and `product_share` is the rate of multiplications (4 B K d a call) over that of a matrix
product of the same size, measured in the same process.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from benchmarks.embedding_op import device
from benchmarks.harness import Steps, against, machine, positive, take_turns, timed, wait, write_json
from benchmarks.markdown import table
from contrastok.kernels.bank_info_nce import bank_info_nce
from contrastok.kernels.info_nce import info_nce

WIDTH, TEMPERATURE, QUERIES, CHUNK = 384, 0.05, 256, 8192


@dataclass(frozen=True)
class Task:
    """B queries, and K keys: as many as the queries, or a frozen bank."""

    batch: int
    keys: int

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Queries `[B, d]` and keys `[K, d]`, of norm 1; the first B keys are near their queries."""
        draw = torch.Generator().manual_seed(0)
        queries = F.normalize(torch.randn(self.batch, WIDTH, generator=draw), dim=-1)
        block = F.normalize(torch.randn(min(self.keys, 65_536), WIDTH, generator=draw), dim=-1)
        keys = block.repeat(-(-self.keys // len(block)), 1)[: self.keys]
        keys[: self.batch] = F.normalize(queries + 0.5 * keys[: self.batch], dim=-1)
        return queries.to(device()), keys.to(device())


def batch_ours(task: Task) -> Steps:
    """`info_nce` with gradients of both sides."""
    queries, keys = (tensor.requires_grad_() for tensor in task.tensors())
    targets = torch.arange(task.batch, device=queries.device)
    return backward(lambda: info_nce(queries, keys, targets, None, TEMPERATURE)[0].mean(), queries, keys)


def batch_torch(task: Task) -> Steps:
    """All similarities at once."""
    queries, keys = (tensor.requires_grad_() for tensor in task.tensors())
    targets = torch.arange(task.batch, device=queries.device)
    return backward(lambda: F.cross_entropy(queries @ keys.T / TEMPERATURE, targets), queries, keys)


class Lookup(nn.Module):
    """Stands for an encoder that costs nothing."""

    def __init__(self, queries: torch.Tensor, keys: torch.Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.cat([queries, keys]))

    def forward(self, features: dict[str, torch.Tensor], **_: Any) -> dict[str, torch.Tensor]:
        """Rows of the table by the first id of each input."""
        return {**features, "sentence_embedding": self.table[features["input_ids"][:, 0]]}


def batch_cached(task: Task) -> Steps:
    """sentence-transformers' own answer to large batches."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.losses import CachedMultipleNegativesRankingLoss

    lookup = Lookup(*task.tensors())
    model = SentenceTransformer(modules=[lookup], device=str(device()))
    loss = CachedMultipleNegativesRankingLoss(model, scale=1 / TEMPERATURE, mini_batch_size=min(1024, task.batch))
    places = torch.arange(2 * task.batch, device=device()).view(2, -1, 1)
    features = [{"input_ids": ids, "attention_mask": torch.ones_like(ids)} for ids in places]
    return backward(lambda: loss([dict(f) for f in features], torch.zeros(0)), lookup.table)


def bank_ours(task: Task) -> Steps:
    """`bank_info_nce`: loss and gradient in one look at the bank."""
    queries, positives, bank = bank_tensors(task)
    return backward(lambda: bank_info_nce(queries, positives, bank, TEMPERATURE)[0].mean(), queries)


def bank_torch(task: Task) -> Steps:
    """All similarities at once."""
    queries, positives, bank = bank_tensors(task)

    def loss() -> torch.Tensor:
        own = (queries * positives).sum(-1, keepdim=True)
        logits = torch.cat([own, (queries.to(bank.dtype) @ bank.T).float()], dim=1) / TEMPERATURE
        return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))

    return backward(loss, queries)


def bank_chunked(task: Task) -> Steps:
    """Chunk by chunk, each computed again in the backward."""
    queries, positives, bank = bank_tensors(task)

    def part(queries: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return ((queries.to(rows.dtype) @ rows.T).float() / TEMPERATURE).logsumexp(dim=1)

    def loss() -> torch.Tensor:
        own = (queries * positives).sum(-1) / TEMPERATURE
        parts = [checkpoint(part, queries, rows, use_reentrant=False) for rows in bank.split(CHUNK)]
        return (torch.stack([own, *parts]).logsumexp(dim=0) - own).mean()

    return backward(loss, queries)


def bank_tensors(task: Task) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries, positives, bank."""
    queries, bank = task.tensors()
    positives = bank[: task.batch].clone()
    return queries.requires_grad_(), positives, bank.to(torch.bfloat16) if bank.is_cuda else bank


def backward(loss: Callable[[], torch.Tensor], *leaves: torch.Tensor) -> Steps:
    """Loss and gradients, again and again."""

    def step() -> None:
        for leaf in leaves:
            leaf.grad = None
        loss().backward()

    return timed(step)


BATCH = {"contrastok": batch_ours, "torch": batch_torch, "sentence-transformers": batch_cached}
BANK = {"contrastok": bank_ours, "torch": bank_torch, "chunked torch": bank_chunked}


def product_rate(task: Task, calls: int = 10) -> float:
    """Multiplications and additions a second of a plain matrix product of queries and bank."""
    queries, _, bank = bank_tensors(task)
    a, b = queries.detach().to(bank.dtype), bank.T
    a @ b
    wait()
    start = time.perf_counter()
    for _ in range(calls):
        a @ b
    wait()
    return calls * 2 * task.batch * task.keys * WIDTH / (time.perf_counter() - start)


def measure(task: Task, methods: dict[str, Callable[[Task], Steps]], steps: int, rounds: int) -> dict[str, Any]:
    """Every peer's time and memory over ours."""
    found = take_turns({name: (build, (task,)) for name, build in methods.items()}, steps, warmup=2, rounds=rounds)
    ours = found["contrastok"]
    figures: dict[str, Any] = {
        "batch": task.batch,
        "keys": task.keys,
        "ratios": {name: against(ours, peer, alike=True) for name, peer in found.items() if name != "contrastok"},
    }
    if methods is BANK:
        rate = max(m.typical for m in ours) * 4 * task.batch * task.keys * WIDTH
        figures["product_share"] = rate / product_rate(task)
    return figures


def main() -> None:
    """Run, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=positive, nargs="*", default=[1024, 4096, 8192])
    parser.add_argument("--bank", type=positive, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--steps", type=positive, default=5)
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    print(f"{machine()['device']}; times contrastok is faster (times less memory it takes)")
    batch = [measure(Task(b, b), BATCH, arguments.steps, arguments.rounds) for b in arguments.batch]
    bank = [measure(Task(QUERIES, k), BANK, arguments.steps, arguments.rounds) for k in arguments.bank]
    for name, found, methods in (("keys in the batch", batch, BATCH), ("rows of the bank", bank, BANK)):
        peers = [method for method in methods if method != "contrastok"]
        rows = [
            [
                f"{f['keys']:,}",
                *(f"{f['ratios'][p]['times_faster']:.2f} ({f['ratios'][p]['memory_ratio']:.1f})" for p in peers),
            ]
            + ([f"{f['product_share']:.0%}"] if "product_share" in f else [])
            for f in found
        ]
        print(f"\n{table([name, *peers] + (['of the matrix product'] if methods is BANK else []), rows)}")
    write_json({"batch": batch, "bank": bank}, arguments.json)


if __name__ == "__main__":
    main()
