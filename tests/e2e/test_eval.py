"""The evaluations of a checkpoint, as a user types them, on the sample domain and the real MiniLM."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer

from contrastok.models import resolve

from .conftest import KITCHEN, Outcome, Run

FEW = 300
"""Pairs of STS-B: `benchmarks.disease_terms` takes all of them."""


def _json(run: Run, folder: Path, *arguments: object) -> dict[str, Any]:
    file = folder / "out.json"
    run("eval", *arguments, "--json", file, "--overwrite")
    return json.loads(file.read_text())  # type: ignore[no-any-return]


def test_relatedness_of_held_out_relations(contrastok: Run, kitchen: Outcome, tmp_path: Path) -> None:
    summary = _json(contrastok, tmp_path, "relatedness", "--model", kitchen.model)
    names = summary["fields"]["glossary, encoded"]["kinds"]["all"]
    assert names["views"]["trained"]["mrr"] > names["views"]["initial"]["mrr"]
    assert names["views"]["random"]["mrr"] < names["views"]["split word"]["mrr"]
    low, high = names["differences"]["trained - initial"]["mrr_interval"]
    assert 0 < low < high
    held_out = sum(r["held_out"] for t in kitchen.report["per_token"] for r in t["relations"])
    assert 0 < summary["answers"]["all"] <= held_out


def test_relatedness_of_a_glossary_leaves_out_what_the_pairs_show(here: Run, kitchen: Outcome, tmp_path: Path) -> None:
    pairs, terms = kitchen.folder / "pairs", KITCHEN / "terms.jsonl"
    arguments = ("relatedness", "--model", kitchen.model, "--glossary", terms, "--pairs", pairs)
    summary = _json(here, tmp_path, *arguments)
    assert {"entries, encoded", "glossary, encoded"} <= summary["fields"].keys()
    assert summary["leaked"] and summary["answers"]["all"]
    for token in summary["per_token"]:
        for answer in token["answers"]:
            told = next(t for t in kitchen.pairs["terms"] if t["token"] == token["token"])["relations"]
            shown = [r["name"] for r in told if not r["held_out"] and r["kind"] == "synonym"]
            assert not (answer["leak_free"] and answer["name"] in shown)


def test_retrieval_of_sentences_by_questions(here: Run, kitchen: Outcome, tmp_path: Path) -> None:
    terms = [json.loads(line) for line in (KITCHEN / "terms.jsonl").read_text().splitlines()]
    file = tmp_path / "qa.jsonl"
    rows = [{"question": f"what is {t['token']}?", "answer": t["definition"]} for t in terms]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ("--pairs-file", file, "--query-field", "question", "--passage-field", "answer")
    pairs = ("--pairs", kitchen.folder / "pairs")
    summary = _json(here, tmp_path, "retrieval", "--model", kitchen.model, *arguments, *pairs)
    assert summary["asked"] == 72 and summary["groups"]["leak-free"]["queries"] == 0
    views = summary["groups"]["all"]["views"]
    assert views["trained"]["mrr@10"] > views["initial"]["mrr@10"] > views["random"]["mrr@10"]


def test_no_harm_to_real_text(here: Run, kitchen: Outcome, shared_data: Path, tmp_path: Path) -> None:
    lines = (shared_data / "stsb" / "stsb-en-test.csv").read_text(encoding="utf-8").splitlines()[:FEW]
    sts, some = tmp_path / "sts.csv", tmp_path / "some.txt"
    sts.write_text("\n".join(lines) + "\n", encoding="utf-8")
    some.write_text((KITCHEN / "corpus" / "bread.txt").read_text())
    arguments = ("--texts", some, "--sts", sts)
    summary = _json(here, tmp_path, "no-harm", "--model", kitchen.model, *arguments)
    assert summary["identical"] is True and summary["without_new_token"] and summary["with_new_token"]
    first, second, scores = zip(*csv.reader(lines), strict=True)
    model = SentenceTransformer(resolve("minilm"), device="cpu")
    left, right = (model.encode(list(texts), normalize_embeddings=True) for texts in (first, second))
    expected = spearmanr((left * right).sum(1), [float(score) for score in scores]).statistic
    assert summary["sts"]["base"] == pytest.approx(expected, abs=1e-4)
    assert abs(summary["sts"]["result"] - expected) < 0.001
    assert summary["sts"]["changed"] == 0


def test_bad_input_of_the_evaluations(here: Run, kitchen: Outcome, tmp_path: Path) -> None:
    assert "no checkpoint" in here("eval", "relatedness", "--model", tmp_path, code=2).stderr
    assert "--texts is missing" in here("eval", "no-harm", "--model", kitchen.model, code=2).stderr
    (tmp_path / "empty.jsonl").write_text("")
    arguments = ("--queries", tmp_path / "empty.jsonl", "--passages", tmp_path / "empty.jsonl")
    done = here("eval", "retrieval", "--model", kitchen.model, *arguments, code=2)
    assert "holds no query" in done.stderr
    arguments = ("--texts", KITCHEN / "corpus", "--base", KITCHEN)
    assert "--base" in here("eval", "no-harm", "--model", kitchen.model, *arguments, code=2).stderr
