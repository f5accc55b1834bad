from __future__ import annotations

import json
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from benchmarks import gen_pairs
from contrastok.data_gen.engines import Job
from contrastok.data_gen.evidence import MiningOptions
from contrastok.data_gen.fold import Fold
from contrastok.models import load_tokenizer


def test_no_sentence_is_drawn_twice_and_shares_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gen_pairs, "BLOCK", 40_000)
    terms = gen_pairs.draw_terms(50)
    text = gen_pairs.draw_text(tmp_path / "a.txt", 100_000, terms, 0.5)
    sentences = [part for part in text.path.read_text().replace("\n", " ").split(".") if part.strip()]
    assert 100_000 <= text.size < 150_000
    assert len(sentences) == len(set(sentences)) == text.sentences and len(set(terms)) == 50
    holding = sum(not set(terms).isdisjoint(sentence.lower().split()) for sentence in sentences)
    assert 0.45 < holding / text.sentences < 0.55


def test_the_peak_of_a_run_is_not_that_of_who_started_it(tmp_path: Path) -> None:
    terms = gen_pairs.draw_terms(20)
    text = gen_pairs.draw_text(tmp_path / "a.txt", 50_000, terms, 0.2)
    job = Job(tuple(terms), Fold(load_tokenizer("minilm")), MiningOptions())
    held = bytearray(10**9)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        run = pool.submit(gen_pairs.peak_of, text, job, 1).result()
    assert run["occurrences"] > 20 and 20 < run["peak_mb"] < len(held) / 2**20


def test_every_way_is_timed_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = tmp_path / "told.json"
    monkeypatch.setattr(sys, "argv", [
        "gen_pairs", "--terms", "20", "--megabytes", "0.05", "--slice", "0.02", "--with-term", "0.2", "--rounds", "1",
        "--json", str(told),
    ])  # fmt: skip
    gen_pairs.main()
    facts = json.loads(told.read_text())
    ways = {"contrastok", "matching alone", "one alternation", "a regex per term"}
    assert set(facts["speed"][0]["mb_per_second"]) == set(facts["speed"][0]["times"]) == ways
    assert facts["speed"][0]["times"]["contrastok"] == 1
    assert "| 20% | a regex per term |" in capsys.readouterr().out
