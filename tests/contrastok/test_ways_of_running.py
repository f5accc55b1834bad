"""Options of the loop: restarts, the first layers, and what they leave behind."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from contrastok.bank import FrozenEncoder
from contrastok.checkpoint import load_checkpoint
from contrastok.config import TrainConfig
from contrastok.errors import ConfigError, InputError, ModelError
from contrastok.forgetting import hold_out
from contrastok.models import frozen_hash, load_model, tokenizer_fingerprint, transformer
from contrastok.pairs import read_pairs
from contrastok.shallow import _cosine, _ridge, aligned_head, cut, layer_list
from contrastok.state import RunState
from contrastok.trainer import train

from .test_objectives import make_loop

Make = Callable[..., TrainConfig]


def manifest(config: TrainConfig) -> dict[str, Any]:
    assert config.out
    told: dict[str, Any] = json.loads((config.out / "contrastok.json").read_text())
    return told


def test_restarts_begin_where_the_first_run_began_and_the_best_is_kept(make_config: Make) -> None:
    loop = make_loop(make_config(reset_every=3, epochs=4, objective="self_distill", learning_rate=0.03))
    first = loop.overlay.rows.detach().clone()
    starts, ends, rates = [], [], []
    assert loop.restarts is not None
    step, after = loop.step, loop.restarts.after

    def watched(number: int, batches: Any) -> torch.Tensor:
        starts.append(loop.overlay.rows.detach().clone())
        found = step(number, batches)
        rates.append(loop.optimizer.param_groups[0]["lr"])
        return found

    def ended(number: int) -> None:
        ends.append(loop.overlay.rows.detach().clone())
        after(number)

    loop.step, loop.restarts.after = watched, ended  # type: ignore[method-assign]
    loop.run()
    runs = loop.restarts.done
    assert [run.step for run in runs] == sorted({*range(3, len(starts), 3), len(starts)}) and len(runs) > 1
    for number in range(0, len(starts), 3):
        assert torch.equal(starts[number], first) and rates[number] == pytest.approx(loop.rate)
    best = max(runs, key=lambda run: run.fidelity)
    assert torch.equal(loop.overlay.rows, ends[best.step - 1])
    assert loop.restarts.fidelity() == pytest.approx(best.fidelity, abs=1e-6)


@pytest.mark.parametrize("optimizer", ["adam", "lazy_adam"])
def test_restarts_resume_to_the_same_bytes(make_config: Make, monkeypatch: Any, optimizer: str) -> None:
    options = {"reset_every": 2, "epochs": 3, "checkpoint_every": 1, "optimizer": optimizer}
    whole, killed = make_config(**options), make_config(**options)
    train(whole)
    real, saved = RunState.save, []

    def dies(state: RunState, *args: Any) -> None:
        real(state, *args)
        saved.append(args)
        if len(saved) in (2, 3):  # once right after a restart, once in the middle of a run
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunState, "save", dies)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                train(killed)
    train(killed)
    assert whole.out and killed.out
    for file in ("model.safetensors", "contrastok.json"):
        assert (whole.out / file).read_bytes() == (killed.out / file).read_bytes(), file
    assert len(manifest(whole)["training"]["restarts"]) > 1


def test_a_run_that_never_begins_again_says_so(make_config: Make) -> None:
    told = [train(make_config(epochs=1, reset_every=every, overwrite=True))["warnings"] for every in (1, 1000)]
    assert [any("nothing began again" in warning for warning in some) for some in told] == [False, True]


def test_every_row_keeps_an_anchor(make_config: Make) -> None:
    data = make_loop(make_config()).feed.data
    kept, held = hold_out(data, 0)
    assert held and len(kept.anchors) + len(held) == len(data.anchors)
    assert min(kept.updates) >= 1
    assert list(kept.updates) == [sum(row in a.rows for a in kept.anchors) for row in range(len(kept.updates))]
    alone = dataclasses.replace(data, anchors=data.anchors[:1], updates=(1, 0, 0))
    with pytest.raises(InputError, match="no term has more than one"):
        hold_out(alone, 0)


@pytest.mark.parametrize("family", ["wordpiece", "byte-bpe", "unigram"])
def test_training_through_the_first_layers(make_config: Make, family: str) -> None:
    config = make_config(family, layers=1, epochs=20, batch_size=12, objective="self_distill", learning_rate=0.02)
    summary = train(config)
    told = manifest(config)["training"]["shallow"]
    assert told["layers"] == 1 and -1 <= told["head_cosine"] <= 1
    assert summary["last"]["loss"] < summary["first"]["loss"]
    assert summary["frozen"]["sha256_before"] == summary["frozen"]["sha256_after"] and config.out
    assert transformer(load_checkpoint(config.out).model).config.num_hidden_layers == 2


def test_the_head_maps_the_shallow_output_to_the_full_one(make_config: Make) -> None:
    config = make_config()
    model = load_model(config.model)
    encoder = FrozenEncoder(model, model.tokenizer, cache=False)
    assert config.pairs
    pairs = read_pairs(config.pairs, tokenizer_fingerprint(model.tokenizer))
    texts = [*pairs.anchor, *pairs.positive]
    before = frozen_hash(model, [], 1)
    whole = aligned_head(encoder, texts, 2)
    assert whole.cosine > 0.98  # all layers: nothing to map, but the ridge shrinks what few texts say
    head = aligned_head(encoder, texts, 1)
    assert -1 <= head.cosine < whole.cosine
    assert frozen_hash(model, [], 1) == before
    _, name = layer_list(transformer(model))
    assert name == "layer"


def test_the_ridge_is_the_normal_equation() -> None:
    generator = np.random.default_rng(0)
    x, map_, shift = generator.normal(size=(200, 6)), generator.normal(size=(6, 4)), generator.normal(size=4)
    weight, bias = _ridge(x @ map_ + shift, x, 1e-12)
    np.testing.assert_allclose(weight, map_, atol=1e-8)
    np.testing.assert_allclose(bias, shift, atol=1e-8)
    y = x @ map_ + shift
    assert _cosine(y / np.linalg.norm(y, axis=1, keepdims=True), x, weight, bias) == pytest.approx(1)


def test_layers_that_are_not_there_are_told(make_config: Make, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the model has 2"):
        train(make_config(layers=3))
    with pytest.raises(ConfigError, match="--layers must be at least 0"):
        train(make_config(layers=-1))
    with pytest.raises(ModelError, match="layers were not found"):
        module = torch.nn.Linear(2, 2)
        module.config = transformer(load_model(make_config().model)).config
        layer_list(module)
    model = load_model(make_config().model)
    with pytest.raises(InputError, match="there are 1"):
        aligned_head(FrozenEncoder(model, model.tokenizer, cache=False), ["one text"], 1)


def test_a_cut_body_is_whole_again_whatever_happens(make_config: Make) -> None:
    model = load_model(make_config().model)
    holder, name = layer_list(transformer(model))
    before = list(getattr(holder, name))
    with pytest.raises(RuntimeError), cut(model, 1):
        assert len(getattr(holder, name)) == 1
        raise RuntimeError
    assert list(getattr(holder, name)) == before and transformer(model).config.num_hidden_layers == 2
