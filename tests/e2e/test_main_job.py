from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from contrastok.files import sha256_file
from contrastok.gate import control_sentences
from contrastok.models import load_tokenizer, resolve

from .conftest import KITCHEN, Outcome, Run


def test_every_kitchen_term_gets_a_row_and_the_gate_passes(kitchen: Outcome) -> None:
    assert kitchen.train["tokens"] == 72 and not kitchen.train["skipped"]
    assert kitchen.train["gate"]["passed"]
    assert all(term["sentences"] >= 8 for term in kitchen.pairs["terms"])
    assert set(kitchen.pairs["counts"]["by_kind"]) >= {
        "context-definition", "context-context", "context-substitution", "cross-tokenisation",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["kitchen", "disease"])
def test_frozen_means_bit_identical(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """1,000 sentences without a new token: the same bits from stock SentenceTransformer, contrastok not importable."""
    outcome: Outcome = request.getfixturevalue(name)
    frozen = outcome.train["frozen"]
    assert frozen["sha256_before"] == frozen["sha256_after"] and frozen["tensors"] == 103
    sentences = [s for s in control_sentences(load_tokenizer("minilm")) if s.isascii()][:1000]
    assert len(sentences) == 1000
    (tmp_path / "sentences.txt").write_text("\n".join(sentences))
    code = (
        "import sys; sys.modules['contrastok'] = None\n"
        "import numpy as np\nfrom sentence_transformers import SentenceTransformer\n"
        "texts = open('sentences.txt').read().split('\\n')\n"
        "np.save(sys.argv[2], SentenceTransformer(sys.argv[1], device='cpu').encode(texts))"
    )
    for model, file in ((resolve("minilm"), "base.npy"), (str(outcome.model), "ours.npy")):
        subprocess.run([sys.executable, "-c", code, model, file], cwd=tmp_path, check=True, capture_output=True)
    base, ours = np.load(tmp_path / "base.npy"), np.load(tmp_path / "ours.npy")
    assert base.shape == (1000, 384) and np.array_equal(base, ours)


def test_stock_auto_classes_load_it(kitchen: Outcome, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['contrastok'] = None\n"
        "from transformers import AutoModel, AutoTokenizer\n"
        "model, tokenizer = AutoModel.from_pretrained(sys.argv[1]), AutoTokenizer.from_pretrained(sys.argv[1])\n"
        "assert tokenizer.tokenize('Halloumi, cheese') == ['halloumi', ',', 'cheese']\n"
        "assert model(**tokenizer('cheese halloumi', return_tensors='pt')).last_hidden_state.shape == (1, 4, 384)"
    )
    subprocess.run([sys.executable, "-c", code, str(kitchen.model)], cwd=tmp_path, check=True, capture_output=True)


def test_the_report_shows_what_training_did(kitchen: Outcome) -> None:
    held_out = kitchen.report["relations"]["held_out"]
    assert held_out["trained"]["mrr"] > held_out["initial"]["mrr"]
    assert sum(kitchen.report["verdicts"].values()) == kitchen.report["tokens"] == 72
    page = (kitchen.folder / "report.html").read_text()
    assert "halloumi" in page and page.rstrip().endswith("</html>")


def test_disease_terms_end_nearer_to_held_out_relations(disease: Outcome) -> None:
    """The figures of the README's second table come from benchmarks/disease_terms.py; this is its short form."""
    assert disease.train["tokens"] == 220 and disease.train["gate"]["passed"]
    held_out = disease.report["relations"]["held_out"]
    sys.stderr.write(f"held-out relations: {held_out}\n")
    assert held_out["trained"]["count"] >= 50
    assert held_out["trained"]["mrr"] > held_out["initial"]["mrr"]
    assert held_out["trained"]["hit@10"] > held_out["initial"]["hit@10"]


def test_apply_rebuilds_the_checkpoint(kitchen: Outcome, contrastok: Run, tmp_path: Path) -> None:
    contrastok("apply", kitchen.model / "new_rows.safetensors", "--out", tmp_path / "rebuilt")
    for name in ("model.safetensors", "tokenizer.json", "contrastok.json"):
        assert sha256_file(tmp_path / "rebuilt" / name) == sha256_file(kitchen.model / name), name


def test_gen_pairs_again_gives_the_same_bytes(kitchen: Outcome, contrastok: Run, tmp_path: Path) -> None:
    contrastok(
        "gen-pairs", "--terms", KITCHEN / "terms.jsonl", "--corpus", KITCHEN / "corpus", "--out", tmp_path / "pairs"
    )
    for name in ("pairs.parquet", "pairs.json"):
        assert sha256_file(tmp_path / "pairs" / name) == sha256_file(kitchen.folder / "pairs" / name)


def test_dry_runs_write_nothing(kitchen: Outcome, contrastok: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    terms, corpus = KITCHEN / "terms.jsonl", KITCHEN / "corpus"
    contrastok("gen-pairs", "--terms", terms, "--corpus", corpus, "--out", out, "--dry-run")
    contrastok("train", "--terms", terms, "--pairs", kitchen.folder / "pairs", "--out", out, "--dry-run")
    contrastok("report", "--model", kitchen.model, "--out", out, "--dry-run")
    contrastok("apply", kitchen.model / "new_rows.safetensors", "--out", out, "--dry-run")
    assert list(tmp_path.iterdir()) == []


def test_one_toml_file_runs_the_whole_job(contrastok: Run, tmp_path: Path) -> None:
    few = (KITCHEN / "terms.jsonl").read_text().splitlines()[:3]
    (tmp_path / "terms.jsonl").write_text("\n".join(few))
    (tmp_path / "run.toml").write_text(
        f'terms = "{tmp_path}/terms.jsonl"\nquiet = true\n'
        f'[gen-pairs]\ncorpus = "{KITCHEN}/corpus"\nout = "{tmp_path}/pairs"\nmax-sentences = 2\n'
        f'[train]\npairs = "{tmp_path}/pairs"\nout = "{tmp_path}/model"\nepochs = 9\n'
        f'[report]\nmodel = "{tmp_path}/model"\n'
    )
    contrastok("gen-pairs", "--config", tmp_path / "run.toml")
    done = contrastok("train", "--config", tmp_path / "run.toml", "--epochs", 1, "--json", "-")
    assert '"steps": 1' in done.stdout and done.stderr == ""
    contrastok("report", "--config", tmp_path / "run.toml", "--json", tmp_path / "report.json")
    assert (tmp_path / "report.json").exists()
