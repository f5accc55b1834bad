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
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.harness import Measured, Steps, against, take_turns, timed, wait, write_json
from benchmarks.markdown import table
from benchmarks.step_data import MODELS, TEMPERATURE, Lesson, prepare
from contrastok.attach import attach
from contrastok.bank import FrozenEncoder, encode_sequences
from contrastok.batches import TrainingSet, build_training_set
from contrastok.config import TrainConfig
from contrastok.console import Console
from contrastok.export import init_context
from contrastok.fast_body import compile_layers, masks_ready
from contrastok.feed import Batch
from contrastok.initializers import initial_rows
from contrastok.loop import Loop, make_accelerator, read_figures
from contrastok.models import input_embedding, load_model, transformer
from contrastok.vocabulary import extend_tokenizer

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer

BATCH = 32
RATE = 1e-4


def contrastok_steps(lesson: Lesson, negatives: int) -> Steps:
    """The product's own loop."""
    return steps_of(contrastok_loop(lesson, negatives))


def steps_of(loop: Loop, before: Callable[[int], None] = lambda step: None) -> Steps:
    """A loop's steps, each after `before`; a run starts at the loop's first step."""

    def run(count: int) -> list[float]:
        batches = iter(loop.feed.loader(0, loop.device))

        def step(number: int) -> None:
            before(number)
            read_figures([loop.step(number, next(batches))], number)

        with masks_ready(loop.model, loop.feed.tokenizer) if loop.device.type == "cuda" else nullcontext():
            return clocked(step, min(count, len(loop.feed)))

    return run


def anew_steps(lesson: Lesson, negatives: int) -> Steps:
    """As if no encoding were kept: the texts of a step's keys go through the model in that step."""
    loop = contrastok_loop(lesson, negatives)
    limit, data = loop.model.max_seq_length, loop.feed.data
    texts = list(dict.fromkeys(text for texts in key_texts(lesson, negatives) for text in texts))
    places = {text: place for place, text in enumerate(texts)}
    sides = [[places[text] for text in texts] for texts in key_texts(lesson, negatives)]
    if len(sides) != len(data.anchors):
        raise ValueError("an anchor for each pair is expected")

    def encode(step: int) -> None:
        wanted = sorted({place for batch in loop.feed.plan[step] for at in batch for place in sides[at]})
        ids = loop.feed.tokenizer([texts[place] for place in wanted], truncation=True, max_length=limit)["input_ids"]
        encode_sequences(loop.model, loop.feed.tokenizer, ids)

    return steps_of(loop, encode)


def key_texts(lesson: Lesson, negatives: int) -> list[list[str]]:
    """For each pair the texts it is contrasted with: its positive, and its negative where there is one."""
    pairs = zip(lesson.pairs.positive, lesson.pairs.negatives, strict=True)
    return [[positive, *others[:negatives]] for positive, others in pairs]


def unbucketed_steps(lesson: Lesson, negatives: int) -> Steps:
    """Batches of sentences of any length."""
    loop = contrastok_loop(lesson, negatives)
    order = torch.randperm(len(loop.feed.data.anchors), generator=torch.Generator().manual_seed(0)).tolist()
    loop.feed.plan = [[order[start : start + BATCH]] for start in range(0, len(order), BATCH)]
    return steps_of(loop)


def compiled_steps(lesson: Lesson, negatives: int) -> Steps:
    """The layers of the body compiled; all shapes of an epoch have been seen before it is timed."""
    loop = contrastok_loop(lesson, negatives)
    compile_layers(loop.model)
    run = steps_of(loop)
    run(len(loop.feed))
    return run


def contrastok_loop(lesson: Lesson, negatives: int, **options: Any) -> Loop:
    """A loop that is ready to run: tokens added, keys encoded, rows laid over the table."""
    model = load_model(str(lesson.base))
    plan = lesson.plan(model.tokenizer)
    extended = extend_tokenizer(model.tokenizer, plan)
    config = TrainConfig(epochs=1, batch_size=BATCH, learning_rate=RATE, temperature=TEMPERATURE, **options)
    accelerator = make_accelerator(config)
    model.to(accelerator.device)
    data = training_set(model, lesson, negatives)
    overlay = attach(model, plan, initial_rows("charlen_mean", init_context(model, plan)))
    model.eval()
    return Loop(model, overlay, data, extended, config, accelerator, None, Console(quiet=True))


def training_set(model: SentenceTransformer, lesson: Lesson, negatives: int) -> TrainingSet:
    """What contrastok does once before the first step: tokenise anchors, encode keys."""
    pairs, plan = lesson.pairs, lesson.plan(model.tokenizer)
    if not negatives:
        pairs = type(pairs)(**{**vars(pairs), "negatives": [[] for _ in pairs.negatives]})
    encoder = FrozenEncoder(model, model.tokenizer, cache=False)
    extended = extend_tokenizer(model.tokenizer, plan)
    return build_training_set(pairs, plan, extended, encoder, model.max_seq_length or 512)


def preparing_steps(lesson: Lesson, negatives: int) -> Steps:
    """That preparation, as a step of its own."""
    model = load_model(str(lesson.base))
    model.to(make_accelerator(TrainConfig()).device)
    return timed(lambda: training_set(model, lesson, negatives))


def peft_steps(lesson: Lesson, negatives: int) -> Steps:
    """SentenceTransformerTrainer over PEFT's TrainableTokens."""
    return trainer_steps(lesson, negatives, with_trainable_tokens)


def full_steps(lesson: Lesson, negatives: int) -> Steps:
    """SentenceTransformerTrainer over the whole table."""
    return trainer_steps(lesson, negatives, with_full_table)


def masked_steps(lesson: Lesson, negatives: int) -> Steps:
    """SentenceTransformerTrainer over the whole table, with the gradient of old rows zeroed."""
    return trainer_steps(lesson, negatives, with_gradient_mask)


def with_trainable_tokens(model: SentenceTransformer, ids: list[int]) -> torch.nn.Parameter:
    """Put PEFT's TrainableTokens on the new ids; gives the parameter that is trained."""
    from peft import TrainableTokensConfig

    names = [name for name, module in transformer(model).named_modules() if module is input_embedding(model)]
    model.add_adapter(TrainableTokensConfig(token_indices=ids, target_modules=[names[0].split(".")[-1]]))
    (parameter,) = (p for p in model.parameters() if p.requires_grad)
    return parameter


def with_full_table(model: SentenceTransformer, ids: list[int]) -> torch.nn.Parameter:
    """Train the whole embedding table."""
    model.requires_grad_(False)
    parameter: torch.nn.Parameter = input_embedding(model).weight
    return parameter.requires_grad_(True)


def with_gradient_mask(model: SentenceTransformer, ids: list[int]) -> torch.nn.Parameter:
    """Train the whole embedding table, with the gradient of old rows zeroed."""
    parameter = with_full_table(model, ids)
    keep = torch.zeros(len(parameter), 1)
    keep[ids] = 1
    parameter.register_hook(lambda gradient: gradient * keep.to(gradient.device))
    return parameter


Prepare = Callable[["SentenceTransformer", list[int]], torch.nn.Parameter]


def trainer_steps(lesson: Lesson, negatives: int, prepare: Prepare) -> Steps:
    """Steps of a SentenceTransformerTrainer, each from the end of the one before."""
    from transformers import PrinterCallback, TrainerCallback

    model, _ = stock_model(lesson, prepare)

    class Clock(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.ends: list[float] = []

        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            self.ends.append(time.perf_counter())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            wait()
            self.ends.append(time.perf_counter())

    def run(count: int) -> list[float]:
        clock = Clock()
        trainer = make_trainer(model, lesson, negatives, count)
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(clock)
        trainer.train()
        return [end - start for start, end in zip(clock.ends, clock.ends[1:], strict=False)][:count]

    return run


def stock_model(lesson: Lesson, prepare: Prepare) -> tuple[SentenceTransformer, torch.nn.Parameter]:
    """The model with the new tokens as a stock model, dropout off, and what of it is trained."""
    model = load_model(str(lesson.merged))
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model, prepare(model, list(lesson.plan(load_model(str(lesson.base)).tokenizer).ids))


def make_trainer(model: SentenceTransformer, lesson: Lesson, negatives: int, steps: int) -> SentenceTransformerTrainer:
    """The trainer of sentence-transformers with its usual loss for pairs; nothing is saved or logged."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments

    columns = {"anchor": lesson.pairs.anchor, "positive": lesson.pairs.positive}
    if negatives:
        columns["negative"] = [found[0] for found in lesson.pairs.negatives]
    arguments = SentenceTransformerTrainingArguments(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=BATCH,
        max_steps=steps,
        learning_rate=RATE,
        weight_decay=0.0,
        max_grad_norm=0.0,
        lr_scheduler_type="linear",
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        seed=0,
    )
    return SentenceTransformerTrainer(
        model=model, args=arguments, train_dataset=Dataset.from_dict(columns), loss=ranking_loss(model)
    )


def ranking_loss(model: SentenceTransformer) -> torch.nn.Module:
    """InfoNCE of sentence-transformers."""
    from sentence_transformers.losses import MultipleNegativesRankingLoss

    loss: torch.nn.Module = MultipleNegativesRankingLoss(model, scale=1 / TEMPERATURE)
    return loss


def clocked(step: Callable[[int], Any], count: int) -> list[float]:
    """Seconds of each step."""
    seconds = []
    for number in range(count):
        start = time.perf_counter()
        step(number)
        seconds.append(time.perf_counter() - start)
    return seconds


METHODS = {
    "contrastok": contrastok_steps,
    "peft": peft_steps,
    "full embedding": full_steps,
    "gradient mask": masked_steps,
}
PARTS = {"keys anew": anew_steps, "batches as they come": unbucketed_steps, "compiled": compiled_steps}


def gradient_error(lesson: Lesson, negatives: int) -> float:
    """Relative difference of contrastok's gradient of the rows to PEFT's, on one batch of pairs of different terms."""
    seen: set[str] = set()
    chosen = []
    for i, texts in enumerate(zip(lesson.pairs.positive, (n[0] for n in lesson.pairs.negatives), strict=True)):
        if seen.isdisjoint(texts) and len(set(texts)) == len(texts) and len(chosen) < BATCH:
            chosen.append(i)
            seen.update(texts)
    loop = contrastok_loop(lesson, negatives, contrast_weight=1.0, distill_weight=0.0)
    batch = batch_of(loop, lesson, chosen, negatives)
    loop.loss(batch).total.backward()
    ours = loop.overlay.rows.grad
    model, parameter = stock_model(lesson, with_trainable_tokens)
    columns = [lesson.pairs.anchor, lesson.pairs.positive] + [[n[0] for n in lesson.pairs.negatives]] * negatives
    features = [model.preprocess([column[i] for i in chosen]) for column in columns]
    features = [{k: v.to(model.device) for k, v in f.items() if isinstance(v, torch.Tensor)} for f in features]
    model.train()
    ranking_loss(model)(features, torch.zeros(len(chosen))).backward()
    theirs = parameter.grad
    assert ours is not None and theirs is not None
    plan = lesson.plan(load_model(str(lesson.base)).tokenizer)
    summed = torch.zeros_like(ours).index_add_(
        0, torch.tensor([token.row for token in plan.tokens], device=ours.device), theirs.to(ours)
    )  # PEFT has a row for each form of a term
    return float((ours - summed).norm() / summed.norm())


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
    parser.add_argument("--pairs", type=int, default=320, help="an epoch")
    parser.add_argument("--terms", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", action="store_true", help="also contrastok with one thing undone at a time")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lesson = prepare(Path(folder), arguments.model, arguments.terms, arguments.pairs)
        steps = -(-len(lesson.pairs) // BATCH)
        task = (lesson, arguments.negatives)
        error = gradient_error(*task)
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
