from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from contrastok.files import sha256_file

from .conftest import KITCHEN, KITCHEN_TEXT, Outcome, Run


def test_every_kitchen_term_gets_a_row_and_the_gate_passes(kitchen: Outcome) -> None:
    assert kitchen.train["tokens"] == 72 and not kitchen.train["skipped"]
    assert kitchen.train["gate"]["passed"]
    assert all(term["sentences"] >= 8 for term in kitchen.pairs["terms"])
    assert set(kitchen.pairs["counts"]["by_kind"]) >= {
        "context-definition", "context-context", "context-substitution", "cross-tokenisation",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["kitchen", "disease"])
def test_frozen_means_bit_identical(name: str, request: pytest.FixtureRequest, stock: Callable[[Path], Path]) -> None:
    """1,000 sentences without a new token: the same bits from stock SentenceTransformer, contrastok not importable."""
    outcome: Outcome = request.getfixturevalue(name)
    frozen = outcome.train["frozen"]
    assert frozen["sha256_before"] == frozen["sha256_after"] and frozen["tensors"] == 103
    folder = stock(outcome.model)
    base, ours = np.load(folder / "base.npy"), np.load(folder / "ours.npy")
    assert base.shape == (1000, 384) and np.array_equal(base, ours)


def test_stock_auto_classes_load_it(kitchen: Outcome, stock: Callable[[Path], Path]) -> None:
    told = json.loads((stock(kitchen.model) / "auto.json").read_text())
    assert told == {"tokens": ["halloumi", ",", "cheese"], "shape": [1, 4, 384]}


def test_the_report_shows_what_training_did(kitchen: Outcome) -> None:
    held_out = kitchen.report["relations"]["held_out"]
    assert held_out["trained"]["mrr"] > held_out["initial"]["mrr"]
    assert sum(kitchen.report["verdicts"].values()) == kitchen.report["tokens"] == 72
    page = (kitchen.folder / "report.html").read_text()
    assert "halloumi" in page and page.rstrip().endswith("</html>")


def test_disease_terms_end_nearer_to_held_out_relations(disease: Outcome) -> None:
    """The figures of the README's second table come from benchmarks/disease_terms.py; this is its short form."""
    assert disease.train["tokens"] == 60 and disease.train["gate"]["passed"]
    held_out = disease.report["relations"]["held_out"]
    sys.stderr.write(f"held-out relations: {held_out}\n")
    assert held_out["trained"]["count"] >= 50
    assert held_out["trained"]["mrr"] > held_out["initial"]["mrr"]
    assert held_out["trained"]["hit@10"] > held_out["initial"]["hit@10"]


def test_an_adapter_of_peft_goes_out_and_comes_back(kitchen: Outcome, here: Run, tmp_path: Path) -> None:
    adapter, back = tmp_path / "adapter", tmp_path / "back"
    here("export", "--model", kitchen.model, "--format", "peft", "--out", adapter, "--json", tmp_path / "export.json")
    assert json.loads((tmp_path / "export.json").read_text())["tokens"] == 72
    assert (adapter / "adapter_model.safetensors").stat().st_size < 150_000
    here("import", "--adapter", adapter, "--out", back, "--quiet")
    for name in ("model.safetensors", "tokenizer.json", "new_rows.safetensors"):
        assert sha256_file(back / name) == sha256_file(kitchen.model / name), name
    told = here("import", "--adapter", kitchen.model, "--out", tmp_path / "none", code=2).stderr
    assert "is no adapter of PEFT" in told and not (tmp_path / "none").exists()


def test_apply_rebuilds_the_checkpoint(kitchen: Outcome, here: Run, tmp_path: Path) -> None:
    here("apply", kitchen.model / "new_rows.safetensors", "--out", tmp_path / "rebuilt")
    for name in ("model.safetensors", "tokenizer.json", "contrastok.json"):
        assert sha256_file(tmp_path / "rebuilt" / name) == sha256_file(kitchen.model / name), name


def test_gen_pairs_again_gives_the_same_bytes(kitchen: Outcome, contrastok: Run, tmp_path: Path) -> None:
    """In a process of its own, for Python hashes strings otherwise in each."""
    contrastok("gen-pairs", "--terms", KITCHEN / "terms.jsonl", *KITCHEN_TEXT, "--out", tmp_path / "pairs")
    for name in ("pairs.parquet", "pairs.json"):
        assert sha256_file(tmp_path / "pairs" / name) == sha256_file(kitchen.folder / "pairs" / name)


def test_dry_runs_write_nothing(kitchen: Outcome, here: Run, tmp_path: Path) -> None:
    out = tmp_path / "out.html"
    terms, corpus = KITCHEN / "terms.jsonl", KITCHEN / "corpus"
    here("gen-pairs", "--terms", terms, "--corpus", corpus, "--out", out, "--dry-run")
    here("train", "--terms", terms, "--pairs", kitchen.folder / "pairs", "--out", out, "--dry-run")
    here("report", "--model", kitchen.model, "--out", out, "--dry-run")
    here("apply", kitchen.model / "new_rows.safetensors", "--out", out, "--dry-run")
    assert list(tmp_path.iterdir()) == []


def test_one_toml_file_runs_the_whole_job(
    contrastok: Run, here: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = (KITCHEN / "terms.jsonl").read_text().splitlines()[:3]
    (tmp_path / "terms.jsonl").write_text("\n".join(few))
    (tmp_path / "run.toml").write_text(
        f'terms = "{tmp_path}/terms.jsonl"\nquiet = true\n'
        f'[gen-pairs]\ncorpus = "{KITCHEN}/corpus"\nout = "{tmp_path}/pairs"\nmax-sentences = 2\n'
        f'[train]\npairs = "{tmp_path}/pairs"\nout = "{tmp_path}/model"\nepochs = 9\ninit = "charlen_mean"\n'
        f'[report]\nmodel = "{tmp_path}/model"\n'
    )
    here("gen-pairs", "--config", tmp_path / "run.toml")
    monkeypatch.setenv("WANDB_MODE", "offline")  # of which transformers tells on standard output
    done = contrastok("train", "--config", tmp_path / "run.toml", "--epochs", 1, "--json", "-")
    assert json.loads(done.stdout)["steps"] == 1 and done.stderr == ""
    here("report", "--config", tmp_path / "run.toml", "--json", tmp_path / "report.json")
    assert (tmp_path / "report.json").exists()
