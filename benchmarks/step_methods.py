"""The trainers of `benchmarks.train_step`: contrastok, contrastok with one thing undone, and its peers."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.harness import Steps, timed, wait
from benchmarks.step_data import TEMPERATURE, Lesson
from contrastok.bank import FrozenEncoder, encode_sequences
from contrastok.batches import TrainingSet, build_training_set
from contrastok.config import TrainConfig
from contrastok.console import Console
from contrastok.export import init_context
from contrastok.fast_body import compile_layers, masks_ready
from contrastok.initializers import initial_rows
from contrastok.loop import Loop, make_accelerator, read_figures
from contrastok.models import input_embedding, load_model, transformer
from contrastok.overlay import attach
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
    from peft import TrainableTokensConfig, inject_adapter_in_model

    names = [name for name, module in transformer(model).named_modules() if module is input_embedding(model)]
    settings = TrainableTokensConfig(token_indices=ids, target_modules=[names[0].split(".")[-1]])
    inject_adapter_in_model(settings, transformer(model))  # add_adapter does so too, behind a check of versions
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
