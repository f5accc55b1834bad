from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
KITCHEN = ROOT / "examples" / "kitchen"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def contrastok() -> Run:
    """Run the installed command; checks the exit code and that no traceback reaches the user."""
    script = Path(sys.executable).with_name("contrastok")
    command = [str(script)] if script.is_file() else [sys.executable, "-m", "contrastok"]

    def run(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*command, *map(str, arguments)], capture_output=True, text=True, check=False, env=dict(os.environ)
        )
        assert done.returncode == code, f"{arguments}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    return run


@dataclass(frozen=True)
class Outcome:
    """The three commands' outputs."""

    folder: Path
    pairs: dict[str, Any]
    train: dict[str, Any]
    report: dict[str, Any]

    @property
    def model(self) -> Path:
        return self.folder / "model"


def run_all(run: Run, folder: Path, gen: Sequence[object], train: Sequence[object], terms: Path) -> Outcome:
    run("gen-pairs", "--terms", terms, *gen, "--out", folder / "pairs", "--json", folder / "pairs.json")
    run(
        "train",
        "--terms",
        terms,
        "--pairs",
        folder / "pairs",
        *train,
        "--out",
        folder / "model",
        "--json",
        folder / "train.json",
    )
    run("report", "--model", folder / "model", "--out", folder / "report.html", "--json", folder / "report.json")
    read = {name: json.loads((folder / f"{name}.json").read_text()) for name in ("pairs", "train", "report")}
    return Outcome(folder, **read)


@pytest.fixture(scope="session")
def kitchen(contrastok: Run, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The sample domain through all commands on the real MiniLM, shortened to one epoch."""
    folder = tmp_path_factory.mktemp("kitchen")
    return run_all(contrastok, folder, ["--corpus", KITCHEN / "corpus"], ["--epochs", 1], KITCHEN / "terms.jsonl")


@pytest.fixture(scope="session")
def disease(contrastok: Run, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """220 disease names as a word list, what the Disease Ontology's OBO file says of them, and MedQuAD's text."""
    folder = tmp_path_factory.mktemp("disease")
    ontology = shared_data / "disease_ontology"
    words = [json.loads(line)["word"] for line in (ontology / "disease_terms.jsonl").read_text().splitlines()]
    (folder / "words.txt").write_text("\n".join(words[:220]) + "\n")
    corpus = shared_data / "medquad" / "medquad.jsonl.gz"
    gen = ["--glossary", ontology / "doid-2016-09-01.obo", "--corpus", corpus, "--text-field", "answer"]
    gen += ["--hold-out", 0.5, "--max-sentences", 8, "--known-sentences", 1]
    # The kitchen learns from known words; here that would take minutes, and another initialiser is worth a look too.
    return run_all(contrastok, folder, gen, ["--epochs", 1, "--init", "charlen_mean"], folder / "words.txt")
