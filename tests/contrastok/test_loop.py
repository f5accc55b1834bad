from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from contrastok.bank import FrozenEncoder
from contrastok.batches import build_training_set
from contrastok.config import TrainConfig
from contrastok.console import Console
from contrastok.errors import ContrastokError
from contrastok.export import init_context
from contrastok.initializers import initial_rows
from contrastok.loop import Loop, make_accelerator, read_figures
from contrastok.models import load_model, tokenizer_fingerprint
from contrastok.overlay import attach
from contrastok.pairs import read_pairs
from contrastok.trainer import train
from contrastok.vocabulary import extend_tokenizer, plan_vocabulary

Make = Callable[..., TrainConfig]


def make_loop(config: TrainConfig) -> Loop:
    model = load_model(config.model)
    assert config.pairs
    pairs = read_pairs(config.pairs, tokenizer_fingerprint(model.tokenizer))
    plan = plan_vocabulary(model.tokenizer, list(dict.fromkeys(pairs.token)))
    extended = extend_tokenizer(model.tokenizer, plan)
    data = build_training_set(pairs, plan, extended, FrozenEncoder(model, model.tokenizer), 64)
    overlay = attach(model, plan, initial_rows("charlen_mean", init_context(model, plan)))
    model.eval()
    return Loop(model, overlay, data, extended, config, make_accelerator(config), None, Console(quiet=True))


def test_figures_that_are_read_late_know_their_steps() -> None:
    unread = [torch.tensor([loss, 0.0, 0.0, 0.5, 0.0, 0.1]) for loss in (3.0, 2.0, 1.0)]
    assert [(point.step, point.loss) for point in read_figures(unread, last=6)] == [(5, 3.0), (6, 2.0), (7, 1.0)]
    for at, step in ((0, 5), (2, 7)):
        for bad, place in ((float("nan"), 0), (float("inf"), 5)):
            broken = [figures.clone() for figures in unread]
            broken[at][place] = bad
            with pytest.raises(ContrastokError, match=f"at step {step}"):
                read_figures(broken, last=6)


def test_two_batches_of_a_step_weigh_as_much_as_one_of_both(make_config: Make) -> None:
    gradients = []
    for accumulation, cuts in ((1, [slice(0, 4)]), (2, [slice(0, 2), slice(2, 4)])):
        loop = make_loop(make_config(gradient_accumulation=accumulation))
        anchors = list(loop.feed.data.anchors[:4])
        batches = [loop.feed._batch(anchors[cut], (0, i)) for i, cut in enumerate(cuts)]
        taken: list[torch.Tensor] = []
        rows = loop.overlay.rows
        loop.optimizer.optimizer.register_step_pre_hook(
            lambda *_, rows=rows, taken=taken: taken.append(rows.grad.clone())
        )
        loop.step(0, batches)
        gradients += taken
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-7)


def test_rows_that_fly_off_are_told(make_config: Make) -> None:
    summary: dict[str, Any] = train(make_config(learning_rate=10.0, epochs=1))
    assert any("lower --learning-rate" in warning for warning in summary["warnings"])
    assert not any("learning-rate" in warning for warning in train(make_config(epochs=1))["warnings"])
