from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks.harness import Measured
from benchmarks.step_data import Lesson, clean, widen
from benchmarks.step_methods import METHODS, PARTS, preparing_steps, stock_model, with_gradient_mask
from benchmarks.train_step import beside_peft, with_preparation
from contrastok.export import init_context
from contrastok.initializers import initial_rows
from contrastok.models import input_embedding, load_model
from contrastok.overlay import merge
from contrastok.pairs import PairTable
from contrastok.vocabulary import extend_tokenizer, plan_vocabulary
from tests.conftest import kitchen_lines

TERMS = ("zorblaxin", "brimwaxel", "quib vexalotl")
FRAMES = ("we bought {} at the market", "the cook likes {}", "{} is on the table")


def table(anchors: list[str], positives: list[str], negatives: list[str]) -> PairTable:
    return PairTable(["t"] * len(anchors), anchors, positives, [[n] for n in negatives], [""] * len(anchors), {}, "")


@pytest.fixture(scope="module")
def lesson(make_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Lesson:
    folder = tmp_path_factory.mktemp("step")
    base = load_model(str(make_model("wordpiece")))
    base.save_pretrained(str(folder / "base"))
    plan = plan_vocabulary(base.tokenizer, TERMS)
    extended = extend_tokenizer(base.tokenizer, plan)
    pairs = table(
        [frame.format(term) for term in TERMS for frame in FRAMES],
        kitchen_lines()[:9],
        kitchen_lines()[9:18],
    )
    pairs.token[:] = [term for term in TERMS for _ in FRAMES]
    merge(base, plan, initial_rows("charlen_mean", init_context(base, plan)), extended)
    base.save_pretrained(str(folder / "merged"))
    return Lesson(folder / "base", folder / "merged", TERMS, pairs)


@pytest.mark.parametrize("negatives", [0, 1])
def test_loss_and_gradient_of_the_rows_are_those_of_peft(
    lesson: Lesson, negatives: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # to a random model many sentences are alike, and such keys are no negatives for us; PEFT's loss knows no mask
    monkeypatch.setattr("contrastok.objectives.contrast.DUPLICATE", 2.0)
    step = beside_peft(lesson, negatives)
    assert step.theirs.any() and step.gradient_error < 1e-5 and step.loss_error < 1e-5


def test_every_method_trains(lesson: Lesson, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.step_methods.compile_layers", lambda model: 0)  # needs a C++ compiler
    for name, build in {**METHODS, **PARTS, "preparation": preparing_steps}.items():
        seconds = build(lesson, 1)(1)
        assert len(seconds) == 1 and seconds[0] > 0, name


def test_a_gradient_mask_leaves_old_rows_without_gradient(lesson: Lesson) -> None:
    model, parameter = stock_model(lesson, with_gradient_mask)
    model(model.preprocess(["we bought zorblaxin"]))["sentence_embedding"][
        :, 0
    ].sum().backward()  # a LayerNorm has no sum
    ids = list(lesson.plan(load_model(str(lesson.base)).tokenizer).ids)
    assert parameter.grad is not None
    moved = parameter.grad.abs().sum(1).nonzero().flatten().tolist()
    assert moved and set(moved) <= set(ids)


def test_only_pairs_with_one_new_side_are_kept(lesson: Lesson) -> None:
    base = load_model(str(lesson.base)).tokenizer
    plan = plan_vocabulary(base, TERMS)
    pairs = table(
        ["we bought zorblaxin", "we bought zorblaxin", "no word here", "a zorblaxin", "the brimwaxel", "my brimwaxel"],
        ["a cheese", "a knife", "a cheese", "the brimwaxel", "a cheese", "a knife"],
        ["a knife", "a cheese", "a knife", "a knife", "zorblaxin", "soup"],
    )
    kept = clean(pairs, extend_tokenizer(base, plan), set(plan.ids), 10)
    assert list(zip(kept.anchor, kept.positive, kept.negatives, strict=True)) == [
        ("we bought zorblaxin", "a cheese", ["a knife"]), ("my brimwaxel", "a knife", ["soup"]),
    ]  # fmt: skip


def test_a_wider_table_says_the_same(make_model: Callable[..., Path]) -> None:
    model = load_model(str(make_model("wordpiece")))
    before = model.encode(["the cheese is old"], convert_to_tensor=True)
    rows = len(input_embedding(model).weight)
    widen(model, 3 * rows + 7)
    assert len(input_embedding(model).weight) == 3 * rows + 7
    assert torch.equal(model.encode(["the cheese is old"], convert_to_tensor=True), before)


def test_preparation_counts_once() -> None:
    ours, peer, once = ([Measured([seconds] * 2, 0)] for seconds in (1.0, 4.0, 3.0))
    assert with_preparation(ours, peer, once, 1) == 8 / (6 + 2)
    assert with_preparation(ours, peer, once, 3) == 24 / (6 + 6)
