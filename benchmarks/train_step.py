"""A step of training against every way that people train new rows today, on the same pairs and the same model.

    python -m benchmarks.train_step --model minilm [--negatives 1] [--json FILE]

The methods:

* contrastok: only rows are trained; positives and negatives are encoded once and kept, batches hold similar lengths.
  It does more than the others: every anchor is contrasted against all keys, and held by self-distillation.
* peft: SentenceTransformerTrainer with MultipleNegativesRankingLoss and PEFT's TrainableTokens.
* full embedding: the same trainer on the whole embedding table.
* gradient mask: as before, and a hook zeroes the gradient of all old rows.

Pairs: disease names in sentences of MedQuAD, their definitions, and a hard negative where one is asked for; positives and
negatives hold no new token, so the gradient of the rows is the same whether or not they are encoded anew. That is
checked on a batch without false negatives: `gradient_relative_error` is the norm of the difference to PEFT's gradient
over the norm of PEFT's. Dropout is off, arithmetic is fp32. An epoch is timed, in which each method makes its own
batches of the same size; the trainers tokenise in their steps, contrastok before the first, with the encoding of the keys:
`prepared_steps` is what that costs, in steps of its own, and `with_preparation` what remains of the ratio to PEFT when
it is counted in, after one epoch and after three.

Where the speed comes from, `--parts` tells: contrastok with one thing undone at a time.

* keys anew: positives and negatives are tokenised and encoded in every step, without a gradient.
* batches as they come: sentences of any length in one batch.
* compiled: not undone but added, the layers of the body under torch.compile.

Ratios are of steps per second, the median over rounds; every method runs in a process of its own.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.harness import Measured, against, positive, take_turns, write_json
from benchmarks.markdown import table
from benchmarks.step_data import MODELS, Lesson, prepare
from benchmarks.step_methods import (
    BATCH,
    METHODS,
    PARTS,
    contrastok_loop,
    preparing_steps,
    ranking_loss,
    stock_model,
    with_trainable_tokens,
)
from contrastok.feed import Batch
from contrastok.loop import Loop
from contrastok.models import load_model


@dataclass(frozen=True)
class Step:
    """One batch through contrastok and through PEFT's TrainableTokens.

    Attributes:
        ours, theirs: gradients of the rows, `[n, d]`; PEFT's, which has a row for each form of a term, summed by term.
        loss_error: difference of the losses over PEFT's.
    """

    ours: torch.Tensor
    theirs: torch.Tensor
    loss_error: float

    @property
    def gradient_error(self) -> float:
        """Norm of the difference of the gradients over the norm of PEFT's."""
        return float((self.ours - self.theirs).norm() / self.theirs.norm())


def beside_peft(lesson: Lesson, negatives: int) -> Step:
    """Loss and gradient of one batch of pairs of different terms, by contrastok and by PEFT."""
    seen: set[str] = set()
    chosen = []
    for i, texts in enumerate(zip(lesson.pairs.positive, (n[0] for n in lesson.pairs.negatives), strict=True)):
        if seen.isdisjoint(texts) and len(set(texts)) == len(texts) and len(chosen) < BATCH:
            chosen.append(i)
            seen.update(texts)
    loop = contrastok_loop(lesson, negatives, contrast_weight=1.0, distill_weight=0.0)
    loss = loop.loss(batch_of(loop, lesson, chosen, negatives)).total
    loss.backward()
    ours = loop.overlay.rows.grad
    model, parameter = stock_model(lesson, with_trainable_tokens)
    columns = [lesson.pairs.anchor, lesson.pairs.positive] + [[n[0] for n in lesson.pairs.negatives]] * negatives
    features = [model.preprocess([column[i] for i in chosen]) for column in columns]
    features = [{k: v.to(model.device) for k, v in f.items() if isinstance(v, torch.Tensor)} for f in features]
    model.train()
    their_loss = ranking_loss(model)(features, torch.zeros(len(chosen)))
    their_loss.backward()
    theirs = parameter.grad
    assert ours is not None and theirs is not None
    plan = lesson.plan(load_model(str(lesson.base)).tokenizer)
    rows = torch.tensor([token.row for token in plan.tokens], device=ours.device)
    summed = torch.zeros_like(ours).index_add_(0, rows, theirs.to(ours))
    return Step(ours, summed, abs(float((loss / their_loss).detach()) - 1))


def batch_of(loop: Loop, lesson: Lesson, chosen: list[int], negatives: int) -> Batch:
    """The chosen pairs as a batch whose keys are their own positives and negatives, none of them masked."""
    data, device = loop.feed.data, loop.device
    by_text = {lesson.pairs.anchor[i]: data.anchors[i] for i in range(len(data.anchors))}
    anchors = [by_text[lesson.pairs.anchor[i]] for i in chosen]
    columns = [a.positives[0] for a in anchors] + [a.negatives[0] for a in anchors if negatives]
    batch = Batch(
        anchors=loop.feed.inputs([a.ids for a in anchors]),
        own=torch.tensor([a.key for a in anchors]),
        pair_query=torch.arange(len(anchors)),
        targets=torch.arange(len(anchors)),
        columns=torch.tensor(columns),
        blocked=torch.zeros(len(anchors), len(columns), dtype=torch.bool),
        rows=torch.zeros(0, dtype=torch.long),
        words=None,
    )
    return batch.to(device)


def main() -> None:
    """Run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="minilm")
    parser.add_argument("--negatives", type=int, choices=(0, 1), default=0, help="hard negatives of each pair")
    parser.add_argument("--pairs", type=positive, default=320, help="an epoch")
    parser.add_argument("--terms", type=positive, default=100)
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--parts", action="store_true", help="also contrastok with one thing undone at a time")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lesson = prepare(Path(folder), arguments.model, arguments.terms, arguments.pairs)
        steps = -(-len(lesson.pairs) // BATCH)
        task = (lesson, arguments.negatives)
        error = beside_peft(*task).gradient_error
        once = take_turns({"preparation": (preparing_steps, task)}, 1, warmup=0, rounds=arguments.rounds)["preparation"]
        chosen = METHODS | PARTS if arguments.parts else METHODS
        found = take_turns({name: (build, task) for name, build in chosen.items()}, steps, 2, arguments.rounds)
    ours = found["contrastok"]
    ratios = {name: against(ours, peer) for name, peer in found.items() if name != "contrastok"}
    counted = {epochs: with_preparation(ours, found["peft"], once, epochs) for epochs in (1, 3)}
    prepared = median(a.rate / b.rate for a, b in zip(ours, once, strict=True))
    print(
        f"{arguments.model}, {len(lesson.pairs)} pairs, {arguments.negatives} hard negatives, {steps} steps a round\n"
    )
    rows = [
        [name, f"{r['times_faster']:.2f} ({r['least']:.2f}-{r['most']:.2f})", f"{r['memory_ratio']:.2f}"]
        for name, r in ratios.items()
    ]
    print(table(["contrastok against", "times as many steps per second", "times less memory above the model"], rows))
    print(f"\nGradient of the rows against PEFT's: relative error {error:.1e}.")
    print(f"Tokenising and encoding the keys once costs as much as {prepared:.1f} steps. With it counted in,")
    print(f"against PEFT {counted[1]:.2f} times as fast over one epoch, {counted[3]:.2f} over three.")
    facts = {
        "model": arguments.model,
        "negatives": arguments.negatives,
        "pairs": len(lesson.pairs),
        "ratio_vs_peft": ratios["peft"]["times_faster"],
        "memory_ratio_vs_peft": ratios["peft"]["memory_ratio"],
        "gradient_relative_error": error,
        "prepared_steps": prepared,
        "with_preparation": counted,
        "ratios": ratios,
        "rounds": {name: [as_facts(m) for m in measured] for name, measured in found.items()},
    }
    write_json(facts, arguments.json)


def with_preparation(
    ours: Sequence[Measured], peer: Sequence[Measured], once: Sequence[Measured], epochs: int
) -> float:
    """Time of a peer over ours for so many epochs, ours with its preparation; the median over rounds."""
    rounds = zip(ours, peer, once, strict=True)
    return median(epochs * sum(p.seconds) / (sum(o.seconds) + epochs * sum(m.seconds)) for m, p, o in rounds)


def as_facts(measured: Measured) -> dict[str, Any]:
    """A round as plain values."""
    return {"steps_per_second": measured.rate, "peak_bytes": measured.peak, "steps": len(measured.seconds)}


if __name__ == "__main__":
    main()
