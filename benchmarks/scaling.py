"""How the time of training grows: with the new tokens, with the old vocabulary, and with the sentences that hold them.

    python -m benchmarks.scaling [--json FILE]

MiniLM's body, steps of 32 random sentences of 16 tokens, one of which is new; InfoNCE against 4,096 keys and
self-distillation, as in training. One thing changes at a time:

* new tokens: rows that are trained. Adam moves all of them in each step.
* vocabulary: rows of the frozen table.
* sentences: of an epoch, so its time should grow by as much.

Figures are times relative to the first line of each table, medians over rounds; every line runs in a process of its own.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.harness import Measured, Steps, machine, positive, take_turns, write_json
from benchmarks.markdown import table
from benchmarks.step_data import widen
from benchmarks.step_methods import clocked
from contrastok.batches import Anchor, TrainingSet
from contrastok.config import TrainConfig
from contrastok.console import Console
from contrastok.embedding import RowOverlay
from contrastok.loop import Loop, make_accelerator, read_figures
from contrastok.models import input_embedding, load_model, transformer
from contrastok.ranks import ALONE, Ranks

KEYS, LENGTH, BATCH = 4096, 16, 32


@dataclass(frozen=True)
class Size:
    """What is trained."""

    new: int = 100
    vocabulary: int = 30_522
    sentences: int = 320


START = Size()
CURVES: dict[str, list[int]] = {
    "new": [100, 1_000, 10_000],
    "vocabulary": [30_522, 250_037, 501_153],
    "sentences": [320, 640, 1_280],
}
"""By the field of a Size its values; the others are those of START."""


def make_loop(size: Size, ranks: Ranks = ALONE) -> Loop:
    """Training of an epoch, ready to start."""
    config = TrainConfig(epochs=1, batch_size=BATCH)
    model, accelerator = load_model("minilm"), make_accelerator(config, ranks)
    widen(model, size.vocabulary)
    model.to(accelerator.device).requires_grad_(False)
    base = input_embedding(model)
    ids = range(size.vocabulary, size.vocabulary + size.new)
    overlay = RowOverlay(base, base.weight[: size.new].clone(), ids, range(size.new))
    transformer(model).set_input_embeddings(overlay)
    model.eval()
    quiet = Console(quiet=True)
    return Loop(model, overlay, sentences(size), model.tokenizer, config, accelerator, None, quiet, ranks=ranks)


def epoch(size: Size) -> Steps:
    """A loop over an epoch."""
    return stepping(make_loop(size))


def stepping(loop: Loop) -> Steps:
    """The first `count` steps of a loop, or all of them when that is 0."""

    def run(count: int) -> list[float]:
        count = count or len(loop.feed)
        batches = iter(loop.feed.loader(0, loop.device))
        return clocked(lambda step: read_figures([loop.step(step, next(batches))], step), count)

    return run


def sentences(size: Size) -> TrainingSet:
    """Random ids, one new token in each sentence, and random keys."""
    draw = np.random.default_rng(0)
    anchors = []
    for k in range(size.sentences):
        row = k * size.new // size.sentences if size.new <= size.sentences else int(draw.integers(size.new))
        ids = draw.integers(1000, 30_000, LENGTH)
        ids[LENGTH // 2] = size.vocabulary + row
        anchors.append(Anchor(tuple(ids.tolist()), (row,), k % KEYS, (int(draw.integers(KEYS)),), ()))
    keys = F.normalize(torch.randn(KEYS, 384, generator=torch.Generator().manual_seed(0)), dim=-1)
    updates = np.bincount([anchor.rows[0] for anchor in anchors], minlength=size.new)
    none = torch.zeros(0, dtype=torch.long)
    return TrainingSet(tuple(anchors), keys, (none,) * size.new, len(anchors), 0, tuple(updates.tolist()))


def main() -> None:
    """Run, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    curves = {}
    print(machine()["device"])
    for name, values in CURVES.items():
        sizes = {f"{value:,}": replace(START, **{name: value}) for value in values}
        methods = {label: (epoch, (size,)) for label, size in sizes.items()}
        found = take_turns(methods, steps=0, warmup=2, rounds=arguments.rounds)
        curves[name] = points(found)
        rows = [[p["at"], f"{p['time']:.2f}", f"{p['memory']:.2f}"] for p in curves[name]]
        print(f"\n{table([name, 'time of an epoch', 'memory above the model'], rows)}")
    write_json({"start": vars(START), "curves": curves}, arguments.json)


def points(found: dict[str, list[Measured]]) -> list[dict[str, Any]]:
    """Time and peak of each line over those of the first, in the same round."""
    first = next(iter(found.values()))
    return [
        {
            "at": label,
            "time": median(sum(m.seconds) / sum(f.seconds) for m, f in zip(measured, first, strict=True)),
            "memory": median(m.peak / max(f.peak, 1) for m, f in zip(measured, first, strict=True)),
        }
        for label, measured in found.items()
    ]


if __name__ == "__main__":
    main()
