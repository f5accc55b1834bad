from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import plan
from benchmarks.plan import Costs, fitted, late_threshold, planned, traced
from contrastok.data_gen.text_sample import CHARACTERS

COSTS = Costs(
    terms=1000, automaton_bytes=1e6, automaton_seconds=1.0, sentences_per_mb=8000.0, shard_mb=50.0, mining=5.0,
    mining_tenth=4.0, adding=0.1, first_bytes=9e6, late_bytes=1e6, found_bytes=20e3, negatives_linear=1e-3,
    negatives_square=1e-6, negatives_error=0.0, encoding=0.036, dim=4, pairs=99.0, pairs_bytes=1e7, pairs_seconds=0.36,
)  # fmt: skip


def test_the_plan_multiplies_costs() -> None:
    told = planned(COSTS, 8e6)  # 1 GB
    assert (told["gigabytes"], told["shards"], told["workers"]) == (1, 20, pytest.approx(50))
    assert told["mining_core_hours"] == pytest.approx(100 / 3600)
    assert told["mining_hours_at_most_workers"] == pytest.approx(2 / 3600)
    assert told["negatives_core_hours"] * 3600 == pytest.approx(1 + 1)
    assert told["encoding_core_hours"] == pytest.approx(0.01) and told["pairs_core_hours"] == pytest.approx(0.1)
    found = 1000 * 20e3 + CHARACTERS
    assert told["found_gigabytes"] * 1e9 == found
    assert told["first_process_gigabytes"] * 1e9 == pytest.approx(found + 1e10)  # pairs are more than similarities
    fewer = planned(replace(COSTS, pairs_bytes=0), 8e6)["first_process_gigabytes"] * 1e9
    assert fewer == pytest.approx(found + 1000 * 4 * 4 + 1024 * 1000 * 4)
    assert 20 < told["findings_gigabytes"] * 1e3 < 20 + 4 * 8  # all shards, and the sample of the first few
    assert planned(COSTS, 16e6)["findings_gigabytes"] < 2 * told["findings_gigabytes"]


def test_growth_is_fitted() -> None:
    found = fitted([10, 20, 40], [2 * n + 3 * n * n for n in (10, 20, 40)])
    assert found["negatives_linear"] == pytest.approx(2) and found["negatives_square"] == pytest.approx(3)
    assert found["negatives_error"] == pytest.approx(0, abs=1e-9)
    assert fitted([10, 20, 40], [320, 2 * 1240, 4880])["negatives_error"] == pytest.approx(0.5)


def test_less_of_a_longer_text_is_sampled() -> None:
    assert late_threshold(CHARACTERS / 2) == late_threshold(CHARACTERS) == 2**64
    assert late_threshold(CHARACTERS * 3) == 2**62 and late_threshold(CHARACTERS * 5) == 2**61


def test_memory_is_of_what_is_made() -> None:
    assert 1e6 <= traced(lambda: bytearray(10**6)) < 1.1e6


def test_all_costs_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plan, "SHARD", 200_000)
    monkeypatch.setattr(plan, "TEXTS", 8)
    told = tmp_path / "plan.json"
    monkeypatch.setattr(
        sys, "argv", ["plan", "--terms", "400", "--sentences", "1000000000", "--rounds", "1", "--json", str(told)]
    )
    plan.main()
    facts = json.loads(told.read_text())
    costs = Costs(**facts["costs"])
    assert facts["plan"] == pytest.approx(planned(costs, 10**9))
    assert costs.terms == 400 and costs.shard_mb == 0.2 and costs.first_bytes > costs.late_bytes > 0
    assert costs.dim == 384 and costs.pairs > 32 and 1e3 < costs.found_bytes < 1e6 and costs.mining > costs.adding > 0
    assert "| automaton, for 1,000 terms |" in (out := capsys.readouterr().out) and "| mining | " in out
