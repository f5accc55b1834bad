from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from contrastok import calibrate as module
from contrastok.calibrate import calibrate, settings_in_order
from contrastok.candidates import candidates
from contrastok.console import Console
from contrastok.map_rows import MapSettings, WordBank, WordObjective, outputs_of
from contrastok.models import fingerprint, input_embedding, load_model
from contrastok.predictor import Predictor
from contrastok.prior import Predicted, Prior

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
    return Predictor(prior, bank, table, ids[held], tuple((int(at),) for at in held), (), "key")


Place = Callable[[Any, Any, WordObjective, Console], torch.Tensor]


def rigged(predictor: Predictor, best: MapSettings, calls: list[tuple[MapSettings, int]]) -> Place:
    """A word stage that brings every row home with the best settings, and far away with any other."""

    def place(_: Any, __: Any, objective: WordObjective, ___: Console) -> torch.Tensor:
        calls.append((objective.settings, len(objective.mean)))
        gold = torch.from_numpy(predictor.table[predictor.gold[: len(objective.mean)]])
        return gold if objective.settings == best else -gold

    return place


def test_settings_are_tried_once_each_and_the_built_in_ones_first() -> None:
    found = list(settings_in_order())
    assert found[0] == MapSettings()
    assert len(set(found)) == len(found) == len(module.TEMPERATURES) * len(module.PRIOR_WEIGHTS)
    assert {(s.temperature, s.prior_weight) for s in found[:3]} == {(0.05, 0.01), (0.05, 0.03), (0.03, 0.01)}


@pytest.mark.parametrize("at", [0, 2, 4])
def test_the_settings_that_bring_most_back_are_chosen(
    model: Any, predictor: Predictor, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    best, calls = list(settings_in_order())[at], []
    monkeypatch.setattr(module, "WORDS", 10)
    monkeypatch.setattr(module, "map_rows", rigged(predictor, best, calls))
    found = calibrate(model, model.tokenizer, predictor, 5, QUIET)
    assert found.settings == best
    assert [count for _, count in calls] == [10] * 5 + [HELD]
    assert [settings for settings, _ in calls] == [*list(settings_in_order())[:5], best]
    first, *tried = found.tried
    assert "temperature" not in first and 0 < first["row_mrr"] <= 1
    assert [t["hit@1"] for t in tried] == [float(i == at) for i in range(5)]
    assert tried[at]["row_mrr"] == tried[at]["output_mrr"] == tried[at]["median_rank"] == 1
    assert sum(part["words"] for part in found.reliability) == HELD
    assert all(part["landed"] == 1 and part["confidence"] > 0.9 for part in found.reliability)


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
    assert len(first.tried) == 3 and first.settings in list(settings_in_order())[:2]
    assert first.tried[0]["row_mrr"] > 0.3
    best = max(first.tried[1:], key=lambda t: t["row_mrr"] + t["output_mrr"])
    assert (best["temperature"], best["prior_weight"]) == (first.settings.temperature, first.settings.prior_weight)
    assert best["output_mrr"] >= first.tried[0]["output_mrr"]  # what the word stage is for
