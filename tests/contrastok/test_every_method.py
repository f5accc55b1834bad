"""Every initialiser, objective and way of training, and every way of running that `compare` knows, through `train`, on a
language model with a byte-level BPE and on an encoder with a Unigram tokenizer: it trains, or a sentence says why it does
not apply.

One run an initialiser, each with another objective and another way of training; one a way of running. `CONTRASTOK_EVERY_RUN=1` also pairs
every objective with every way of training, from the means of pieces and from the predictor.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from contrastok.candidates import candidates
from contrastok.checkpoint import load_checkpoint
from contrastok.config import GenPairsConfig, TrainConfig
from contrastok.data_gen.pipeline import gen_pairs
from contrastok.errors import ContrastokError
from contrastok.eval.compare_methods import STANDARD, WAYS, every_method
from contrastok.hypernet.training import HypernetSettings
from contrastok.initializers import INITIALIZERS
from contrastok.models import load_tokenizer
from contrastok.objectives import OBJECTIVES
from contrastok.reads import without_unread
from contrastok.trainables import TRAINABLES
from contrastok.trainer import train
from tests.conftest import kitchen_lines, need_few_known_words
from tests.contrastok.conftest import FRAMES, GLOSSARY

DECODER, ENCODER = "decoder", "encoder"
EVERY = bool(os.environ.get("CONTRASTOK_EVERY_RUN"))


class Choice(NamedTuple):
    """What `train` is given by name."""

    init: str
    objective: str
    trainable: str
    way: str = ""

    @property
    def options(self) -> dict[str, Any]:
        """Of train."""
        named = {"init": self.init, "objective": self.objective, "trainable": self.trainable}
        return named | (WAYS[self.way][0] if self.way else {})


REFUSED = {
    DECODER: {"objective=mlm", "objective=prefix_lm", "objective=simcse"},
    ENCODER: {
        "init=merge_tree",
        *(f"objective={name}" for name in ("mlm", "prefix_lm", "causal_lm", "token_distill_lm", "token_kl")),
    },
}
"""The methods of `compare` that do not apply to these models. A method that begins to be refused belongs here, or is broken."""


def refusal(kind: str, choice: Choice) -> str | None:
    """What is said of a choice that does not apply; None for one that must train."""
    head = OBJECTIVES[choice.objective].head
    if choice.objective == "prefix_lm":
        return "holds no head on a decoder of its own"
    if kind == ENCODER and head:
        return "holds no causal language-model head"
    if choice.objective == "mlm":
        return "masked-LM head, which --objective mlm needs"
    if kind == DECODER and choice.objective == "simcse":
        return "needs a model with dropout"
    if kind == ENCODER and choice.init == "merge_tree":
        return "only BPE builds words by merges"
    return None


def choices(kind: str) -> Iterator[Choice]:
    """The runs of a model."""
    trained = [*TRAINABLES]
    ways = [
        (name, trained[(at + turn) % len(trained)])
        for turn in range(len(trained))
        for at, name in enumerate(OBJECTIVES)
    ]
    apt = cycle([way for way in ways if not refusal(kind, Choice("mean", *way))])
    yield from (Choice(init, *next(apt)) for init in INITIALIZERS)
    yield Choice("auto", *STANDARD.values())
    yield from (Choice("mean", *STANDARD.values(), way) for way in WAYS)
    for objective in OBJECTIVES:
        refused = [way for way in TRAINABLES if refusal(kind, Choice("mean", objective, way))]
        yield from (Choice("mean", objective, way) for way in refused[:: len(refused) - 1 or 1])
    if EVERY:
        yield from (Choice(*way) for way in product(("charlen_mean", "predictor"), OBJECTIVES, TRAINABLES))


@pytest.fixture(scope="module", autouse=True)
def a_little_does() -> Iterator[None]:
    """Word vectors, hypernetworks and predictors are learned for a moment: that they run is asked here."""
    with pytest.MonkeyPatch.context() as patch:
        need_few_known_words(patch)
        for name, value in (("ENOUGH", 1), ("EPOCHS", 1), ("BUCKETS", 1000)):
            patch.setattr(f"contrastok.word_vectors.{name}", value)
        patch.setattr("contrastok.hypernet.lesson.MIN_WORDS", 100)
        quick = partial(HypernetSettings, layers=1, epochs=1, batch_size=64)
        patch.setattr("contrastok.hypernet.training.HypernetSettings", quick)
        yield


@pytest.fixture(scope="module")
def plain_runs(
    make_model: Callable[..., Path],
    make_decoder: Callable[..., Path],
    glossary_file: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, TrainConfig]:
    """For each model a run that has all that any method asks for."""
    donor, runs = make_model("wordpiece"), {}
    for kind, model in ((DECODER, make_decoder("llama")), (ENCODER, make_model("unigram"))):
        folder = tmp_path_factory.mktemp(kind)
        text, words = folder / "text.txt", folder / "words.jsonl"
        told = [frame.format(term) for term in GLOSSARY for frame in FRAMES]
        text.write_text("\n".join([*told, *kitchen_lines()[:150]]))
        known = [word for word in candidates(load_tokenizer(str(model))).words if len(word) > 2 and word.isalpha()]
        entries = ({"token": word, "definition": f"what is like {word[::-1]}"} for word in known)
        words.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
        common: dict[str, Any] = {"terms": (glossary_file,), "model": str(model), "quiet": True}
        gen_pairs(
            GenPairsConfig(**common, corpus=(str(text),), glossary=(words,), out=folder / "pairs", known_sentences=2)
        )
        runs[kind] = TrainConfig(
            **common, pairs=folder / "pairs", out=folder / "model", init_model=str(donor), device="cpu", epochs=1,
            batch_size=8, calibrate=0, overwrite=True, learning_rate=0.01,
        )  # fmt: skip
    return runs


@pytest.mark.parametrize(
    ("kind", "choice"),
    [pytest.param(kind, c, id=f"{kind}-{'-'.join(c)}") for kind in (DECODER, ENCODER) for c in choices(kind)],
)
def test_it_trains_or_says_why_not(plain_runs: dict[str, TrainConfig], kind: str, choice: Choice) -> None:
    config = without_unread(dataclasses.replace(plain_runs[kind], **choice.options))
    assert config.out is not None
    if why := refusal(kind, choice):
        with pytest.raises(ContrastokError, match=why) as caught:
            train(config)
        assert caught.value.what and caught.value.hint
        return
    frozen = train(config)["frozen"]
    made = load_checkpoint(config.out)
    moves = TRAINABLES[choice.trainable].moves_old or config.moves_body
    assert (frozen["sha256_before"] == frozen["sha256_after"]) is not moves
    assert made.initial_rows is not None and np.isfinite(made.rows).all()
    assert (made.rows != made.initial_rows).any(axis=1).all(), "every new row is trained"


@pytest.mark.parametrize("kind", [DECODER, ENCODER])
def test_every_method_of_compare_is_among_the_runs(kind: str) -> None:
    runs = [(c.options, refusal(kind, c)) for c in choices(kind)]
    for name, method in every_method().items():
        told = {why for options, why in runs if method.options.items() <= options.items()}
        assert told, f"{name} is not run"
        assert (None not in told) == (name in REFUSED[kind]), f"{name}: {told}"


def test_every_method_trains_somewhere() -> None:
    trained = [c for kind in (DECODER, ENCODER) for c in choices(kind) if not refusal(kind, c)]
    assert {c.init for c in trained} == {"auto", *INITIALIZERS} and {c.trainable for c in trained} == set(TRAINABLES)
    assert {c.objective for c in trained} == set(OBJECTIVES) - {
        "mlm",
        "prefix_lm",
    }  # own tests have models with their heads
