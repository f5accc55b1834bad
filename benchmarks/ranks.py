"""What training over ranks brings: steps a second, memory of each rank, and whether the gradient stays what it was.

    python -m benchmarks.ranks [--new 10000] [--vocabulary 250037] [--ranks 1 2] [--json FILE]

MiniLM's body under a table of 250,037 rows, 10,000 new tokens, the steps of `benchmarks.scaling`: 32 random sentences of
16 tokens, shared by the ranks. Ranks are processes of one thread each, started as torchrun starts them; where there are
GPUs each takes one. The batch is the same for any number of ranks, so times say how much sooner the same run ends.

* gradient: of the rows in the first step, its distance from that of one rank, relative to its length.
* memory: the peak of rank 0 above what it holds when training starts (model and bank, which every rank holds whole).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from benchmarks.harness import Measured, against, machine, measure, write_json
from benchmarks.markdown import table
from benchmarks.scaling import BATCH, Size, make_loop, stepping
from contrastok.config import TrainConfig
from contrastok.loop import Loop
from contrastok.ranks import joined

Round = tuple[Measured, torch.Tensor]
"""Time and memory of the first rank, and the gradient of the rows in its first step, float32 `[n, d]`."""


def one_rank(size: Size, steps: int, warmup: int) -> Round | None:
    """A process of a round; rank 0 tells."""
    torch.set_num_threads(1)
    with joined(TrainConfig()) as ranks:
        loop = make_loop(size, ranks)
        gradient = first_gradient(loop)
        found = measure(stepping, (loop,), steps, warmup)
        return (found, gradient) if ranks.first else None


def first_gradient(loop: Loop) -> torch.Tensor:
    """Gradient of the rows in the first step, which it takes."""
    taken: list[torch.Tensor] = []

    def take(*_: Any) -> None:
        assert loop.overlay.rows.grad is not None
        taken.append(loop.overlay.rows.grad.cpu().clone())

    hook = loop.optimizer.optimizer.register_step_pre_hook(take)
    loop.step(0, next(iter(loop.feed.loader(0, loop.device))))
    hook.remove()
    return taken[0]


def one_round(count: int, size: Size, steps: int, warmup: int) -> Round:
    """Train with so many ranks."""
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=count, run_id="ranks", rdzv_backend="c10d",
        rdzv_endpoint="localhost:0", max_restarts=0, start_method="spawn",
    )  # fmt: skip
    found: Round = elastic_launch(config, one_rank)(size, steps, warmup)[0]
    return found


def compared(rounds: dict[int, list[Round]]) -> list[dict[str, Any]]:
    """Each number of ranks beside the first one."""
    base = next(iter(rounds.values()))
    lines = []
    for count, found in rounds.items():
        figures = against([r[0] for r in found], [r[0] for r in base], alike=True)
        error = max(float((r[1] - base[0][1]).norm() / base[0][1].norm()) for r in found)
        lines.append({"ranks": count, **figures, "gradient_error": error})
    return lines


def shown(lines: list[dict[str, Any]]) -> str:
    """What `compared` gave, as a table."""
    heads = ["ranks", "times as many steps a second", "times less memory above the model", "gradient"]
    rows = [
        [str(line["ranks"]), f"{line['times_faster']:.2f} ({line['least']:.2f}-{line['most']:.2f})",
         f"{line['memory_ratio']:.2f}", f"{line['gradient_error']:.1e}"]
        for line in lines
    ]  # fmt: skip
    return table(heads, rows)


def main() -> None:
    """Run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--new", type=int, default=10_000)
    parser.add_argument("--vocabulary", type=int, default=250_037)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    size = Size(options.new, options.vocabulary, BATCH * (options.steps + 2))
    rounds: dict[int, list[Round]] = {count: [] for count in options.ranks}
    for _ in range(options.rounds):
        for count in options.ranks:
            rounds[count].append(one_round(count, size, options.steps, warmup=2))
    lines = compared(rounds)
    print(f"{machine()['device']}\n\n{shown(lines)}")
    write_json({"size": vars(size), "ranks": lines}, options.json)


if __name__ == "__main__":
    main()
