from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import hypernet
from benchmarks.hypernet import figures, to_markdown
from contrastok.candidates import candidates
from contrastok.models import load_tokenizer


def test_figures_of_a_method_beside_the_baseline() -> None:
    ranks, baseline = np.array([1, 2, 10, 40]), np.array([2, 2, 20, 40])
    found = figures(ranks, baseline)
    assert found["mrr"] == pytest.approx((1 + 0.5 + 0.1 + 0.025) / 4)
    assert (found["hit@1"], found["hit@10"], found["median_rank"]) == (0.25, 0.75, 6.0)
    assert found["gain"] == pytest.approx((0.5 + 0 + 0.05 + 0) / 4)
    low, high = found["gain_interval"]
    assert 0 <= low < found["gain"] < high <= 0.5


def test_the_best_method_stands_first() -> None:
    lines = {"a": figures(np.array([4, 4]), np.array([4, 4])), "b": figures(np.array([1, 2]), np.array([4, 4]))}
    head, _, first, second = to_markdown(lines).splitlines()
    assert "mrr" in head and first.startswith("| b | 0.750") and second.startswith("| a | 0.250")
    assert "+0.500 [" in first


def test_it_runs_with_definitions(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = candidates(load_tokenizer(str(tiny_model))).words
    entries = (json.dumps({"token": word, "definition": f"like {word[::-1]}"}) for word in words[::2])
    (tmp_path / "words.jsonl").write_text("\n".join(entries))
    monkeypatch.setattr("contrastok.hypernet.lesson.MIN_WORDS", 40)
    monkeypatch.setattr("contrastok.hypernet.definitions.LEAST", 40)
    given = ["--model", tiny_model, "--epochs", 1, "--glossary", tmp_path / "words.jsonl", "--out", tmp_path / "out"]
    monkeypatch.setattr(sys, "argv", ["hypernet", *map(str, given)])
    hypernet.main()
    lines = json.loads((tmp_path / "out").read_text())["table"]
    assert lines.keys() >= {"charlen_mean", "subtoken_mean", "hypernet", "hypernet, with definitions"}
    assert lines["hypernet, with definitions"] != lines["the same, not told them"]
    assert "| hypernet, with definitions |" in capsys.readouterr().out
