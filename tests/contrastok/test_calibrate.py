from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from contrastok import calibrate as module
from contrastok.calibrate import calibrate
from contrastok.candidates import candidates
from contrastok.config import MOST_TRIALS
from contrastok.console import Console
from contrastok.fit import Predicted
from contrastok.map_rows import MapSettings, WordBank, WordObjective, outputs_of
from contrastok.models import fingerprint, input_embedding, load_model
from contrastok.predictor import Predictor
from contrastok.prior import Prior

QUIET = Console(quiet=True)
HELD = 24


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    return load_model(str(tiny_model))


@pytest.fixture(scope="module")
def predictor(model: Any) -> Predictor:
    """Twenty-four held-out words of sixty; what is said of them lies near the truth."""
    table = input_embedding(model).weight.detach().numpy().copy()
    ids = np.array(candidates(model.tokenizer).ids[:60])
    outputs = outputs_of(model, model.tokenizer, torch.from_numpy(table[ids]))
    held = np.arange(0, 2 * HELD, 2)
    generator = np.random.default_rng(0)
    rows = table[ids[held]] + generator.normal(size=(HELD, 32)).astype(np.float32) * 0.6
    ones = np.ones(HELD, np.float32)
    predicted = Predicted(rows, outputs[held].numpy(), ones, np.linspace(0.5, 1, HELD, dtype=np.float32))
    precision = np.eye(32, dtype=np.float32)
    prior = Prior(predicted, predicted, held, precision, table.mean(0), {})
    bank = WordBank(outputs, torch.from_numpy(precision), float(table.std(0).mean()))
    return Predictor(prior, bank, table, ids[held], tuple((int(at),) for at in held), (), (), "key")


Place = Callable[[Any, Any, WordObjective, Console], torch.Tensor]


def rigged(predictor: Predictor, best: MapSettings, calls: list[tuple[MapSettings, int]]) -> Place:
    """A word stage that brings every row home with the best settings, and far away with any other."""

    def place(_: Any, __: Any, objective: WordObjective, ___: Console) -> torch.Tensor:
        calls.append((objective.settings, len(objective.mean)))
        gold = torch.from_numpy(predictor.table[predictor.gold[: len(objective.mean)]])
        return gold if objective.settings == best else -gold

    return place


def moved(*at: int) -> MapSettings:
    """The built-in settings after some of the moves."""
    return dataclasses.replace(MapSettings(), **dict(module.MOVES[k] for k in at))  # type: ignore[arg-type]


@pytest.mark.parametrize("at", [None, 0, 2, 3])
def test_the_settings_that_bring_most_back_are_chosen(
    model: Any, predictor: Predictor, monkeypatch: pytest.MonkeyPatch, at: int | None
) -> None:
    """Once found, what is tried next are changes of them."""
    best, calls = moved() if at is None else moved(at), []
    monkeypatch.setattr(module, "WORDS", 10)
    monkeypatch.setattr(module, "map_rows", rigged(predictor, best, calls))
    found = calibrate(model, model.tokenizer, predictor, 5, QUIET)
    assert found.settings == best
    assert [count for _, count in calls] == [10] * 5 + [HELD]
    expected = [moved(*(() if at is None or k <= at else (at,)), *(() if k < 0 else (k,))) for k in range(-1, 4)]
    assert [settings for settings, _ in calls] == [*expected, best]
    first, *tried = found.tried
    assert "temperature" not in first and 0 < first["row_mrr"] <= 1
    assert [t["hit@1"] for t in tried] == [float(settings == best) for settings in expected]
    chosen = tried[0 if at is None else at + 1]
    assert chosen["row_mrr"] == chosen["output_mrr"] == chosen["median_rank"] == 1
    assert sum(part["words"] for part in found.reliability) == HELD
    assert all(part["landed"] == 1 and part["confidence"] > 0.9 for part in found.reliability)


def test_every_setting_is_tried_and_no_more_than_there_are(
    model: Any, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[MapSettings, int]] = []
    monkeypatch.setattr(module, "map_rows", rigged(predictor, moved(0), calls))
    found = calibrate(model, model.tokenizer, predictor, MOST_TRIALS, QUIET)
    assert len(found.tried) - 1 == len(calls) - 1 == len(module.MOVES) + 1 == MOST_TRIALS
    assert {name for name, _ in module.MOVES} == {field.name for field in dataclasses.fields(MapSettings)}


def test_without_trials_nothing_is_tried(model: Any, predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[MapSettings, int]] = []
    monkeypatch.setattr(module, "map_rows", rigged(predictor, MapSettings(temperature=9), calls))
    found = calibrate(model, model.tokenizer, predictor, 0, QUIET)
    assert found.settings == MapSettings() and len(found.tried) == 1
    assert calls == [(MapSettings(), HELD)]  # the confidence still needs to be learned
    assert all(part["landed"] == 0 and part["confidence"] < 0.1 for part in found.reliability)


def test_a_real_calibration_repeats_itself_and_leaves_the_model(model: Any, predictor: Predictor) -> None:
    before = fingerprint(model)
    first, again = (calibrate(model, model.tokenizer, predictor, 2, QUIET) for _ in range(2))
    assert first == again and fingerprint(model) == before
    assert len(first.tried) == 3 and first.settings in (moved(), moved(0))
    assert first.tried[0]["row_mrr"] > 0.3
    best = max(first.tried[1:], key=lambda t: t["row_mrr"] + t["output_mrr"])
    assert (best["temperature"], best["prior_weight"]) == (first.settings.temperature, first.settings.prior_weight)
    assert best["output_mrr"] >= first.tried[0]["output_mrr"]  # what the word stage is for
