"""Look tokens up and train the new ones' rows: forward, backward and optimiser, without a model around them.

    python -m benchmarks.embedding_op --shape minilm [--new 100] [--json FILE]
    python -m benchmarks.embedding_op --shape all

The methods:

* contrastok: a frozen table and trainable rows beside it, AdamW on the rows.
* contrastok, lazy: the same, gradient sum and update of the touched rows in one operation (`row_adamw`).
* peft: PEFT's TrainableTokens around nn.Embedding, AdamW on its rows.
* dense: nn.Embedding that is trained whole, AdamW.
* sparse: nn.Embedding(sparse=True), SparseAdam.

A batch holds 8,192 tokens, of which every twentieth is new. Times are of whole steps; memory is what a step has in use at
most beyond what was there before the first, optimiser state included. Ratios are medians over rounds; every method
runs in a process of its own.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.harness import Steps, against, machine, positive, take_turns, timed, write_json
from benchmarks.markdown import table
from contrastok.embedding import RowOverlay
from contrastok.kernels.plan import RowPlan
from contrastok.kernels.row_adamw import row_adamw_

TOKENS, EVERY = 8192, 20
"""Tokens of a batch, and how often one of them is new."""


@dataclass(frozen=True)
class Shape:
    """An embedding table: V rows of width d."""

    rows: int
    width: int
    dtype: torch.dtype = torch.float32


SHAPES = {
    "minilm": Shape(30_522, 384),
    "multilingual-minilm": Shape(250_037, 384),
    "labse": Shape(501_153, 768),
    "gemma-2-2b": Shape(256_000, 2304, torch.bfloat16),
    "llama": Shape(128_256, 4096, torch.bfloat16),
}


@dataclass(frozen=True)
class Task:
    """What every method gets.

    Attributes:
        shape: of the table.
        new: number of new tokens; they are the table's last rows.
    """

    shape: Shape
    new: int

    @property
    def ids(self) -> list[int]:
        """The new tokens' ids."""
        return list(range(self.shape.rows - self.new, self.shape.rows))

    def table(self) -> torch.Tensor:
        """The rows `[V, d]`; they repeat, for values do not matter and drawing them takes long."""
        block = 0.03 * torch.randn(1024, self.shape.width, generator=torch.Generator().manual_seed(0))
        return block.to(self.shape.dtype).repeat(-(-self.shape.rows // 1024), 1)[: self.shape.rows].to(device())

    def batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids int64 `[N]`, and the gradient that comes back `[N, d]`."""
        draw = torch.Generator().manual_seed(1)
        ids = torch.randint(self.shape.rows - self.new, (TOKENS,), generator=draw)
        ids[::EVERY] = torch.randint(self.shape.rows - self.new, self.shape.rows, ids[::EVERY].shape, generator=draw)
        gradient = torch.randn(TOKENS, self.shape.width, generator=draw).to(self.shape.dtype)
        return ids.to(device()), gradient.to(device())


def device() -> str:
    """Where everything runs."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def contrastok_steps(task: Task) -> Steps:
    """Two tables, AdamW on the small one."""
    overlay = overlay_of(task)
    return steps_of(overlay, adamw([overlay.rows]), task)


def lazy_steps(task: Task) -> Steps:
    """Two tables; the gradient's sum goes straight into the touched rows' moments."""
    overlay = overlay_of(task)
    rows, (ids, gradient) = overlay.rows.detach(), task.batch()
    first, second = torch.zeros_like(rows), torch.zeros_like(rows)
    count = torch.zeros(task.new, dtype=torch.int32, device=rows.device)
    slots = overlay.slots.cpu()  # the collator has the ids on the host

    def step() -> None:
        with torch.no_grad():
            overlay(ids)
        plan = RowPlan.of(slots[ids.cpu()], task.new).to(rows.device)
        row_adamw_(rows, first, second, count, gradient, plan, lr=1e-3, weight_decay=0.01)

    return timed(step)


def peft_steps(task: Task) -> Steps:
    """PEFT's TrainableTokens."""
    from peft import TrainableTokensConfig, get_peft_model

    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding.from_pretrained(task.table())

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.embed(ids)  # type: ignore[no-any-return]

    model = get_peft_model(Holder(), TrainableTokensConfig(token_indices=task.ids, target_modules=["embed"]))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return steps_of(model, adamw(trained), task)


def dense_steps(task: Task) -> Steps:
    """The whole table is trained."""
    embedding = nn.Embedding.from_pretrained(task.table(), freeze=False)
    return steps_of(embedding, adamw(list(embedding.parameters())), task)


def sparse_steps(task: Task) -> Steps:
    """The rows of the batch are trained, new or old."""
    embedding = nn.Embedding.from_pretrained(task.table(), freeze=False, sparse=True)
    return steps_of(embedding, torch.optim.SparseAdam(list(embedding.parameters()), lr=1e-3), task)


def adamw(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW as Hugging Face's trainers take it by default: one pass over each tensor."""
    return torch.optim.AdamW(parameters, lr=1e-3, fused=True)


def overlay_of(task: Task) -> RowOverlay:
    """The new rows over a frozen table."""
    embedding = nn.Embedding.from_pretrained(task.table())
    rows = embedding.weight[task.ids].float()
    return RowOverlay(embedding, rows, task.ids, range(task.new))


def steps_of(module: nn.Module, optimizer: torch.optim.Optimizer, task: Task) -> Steps:
    """Forward, backward, update."""
    ids, gradient = task.batch()

    def step() -> None:
        module(ids).backward(gradient)
        optimizer.step()
        optimizer.zero_grad()

    return timed(step)


METHODS = {
    "contrastok": contrastok_steps,
    "contrastok, lazy": lazy_steps,
    "peft": peft_steps,
    "dense": dense_steps,
    "sparse": sparse_steps,
}


def measure(name: str, new: int, steps: int, rounds: int) -> dict[str, Any]:
    """One shape: every peer's time and memory over contrastok's."""
    task = Task(SHAPES[name], new)
    found = take_turns({key: (build, (task,)) for key, build in METHODS.items()}, steps, warmup=2, rounds=rounds)
    ours = found["contrastok"]
    ratios = {key: against(ours, peer, alike=True) for key, peer in found.items() if key != "contrastok"}
    return {
        "shape": name,
        "new": new,
        "tokens": TOKENS,
        "time_ratio_vs_peft": ratios["peft"]["times_faster"],
        "memory_ratio_vs_peft": ratios["peft"]["memory_ratio"],
        "ratios": ratios,
        "milliseconds": {key: 1000 / max(m.typical for m in measured) for key, measured in found.items()},
        "peak_bytes": {key: min(m.peak for m in measured) for key, measured in found.items()},
    }


def main() -> None:
    """Run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=[*SHAPES, "all"], default="minilm")
    parser.add_argument("--new", type=positive, nargs="+", default=[100], help="new tokens; several for several tables")
    parser.add_argument("--steps", type=positive, default=20)
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    names = list(SHAPES) if arguments.shape == "all" else [arguments.shape]
    found = [measure(name, new, arguments.steps, arguments.rounds) for name in names for new in arguments.new]
    print(
        f"{machine()['device']}, {TOKENS:,} tokens a batch; times contrastok is faster (times less memory it takes)\n"
    )
    peers = [name for name in METHODS if name != "contrastok"]
    rows = [
        [
            f["shape"],
            f"{f['new']:,}",
            *(f"{f['ratios'][p]['times_faster']:.1f} ({f['ratios'][p]['memory_ratio']:.1f})" for p in peers),
        ]
        for f in found
    ]
    print(table(["table", "new rows", *peers], rows))
    write_json(found[0] if len(found) == 1 else {"measured": found}, arguments.json)


if __name__ == "__main__":
    main()
