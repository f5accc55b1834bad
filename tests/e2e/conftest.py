"""The commands, and what they made of two domains.

A start of the installed command imports torch and the Hugging Face libraries anew, which takes ten times as long as most of
what is tested. So the chain of commands and what belongs to a process (exit codes, streams) go through `contrastok`, the
rest through `here`.
"""

from __future__ import annotations

import io
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from contrastok.gate import control_sentences
from contrastok.models import load_tokenizer, resolve

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


@pytest.fixture(scope="session")
def here() -> Run:
    """Run a command as `contrastok` does, without a process of its own; an error that is not told fails the test."""
    from contrastok.cli import main

    def run(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        given: list[str] = [str(argument) for argument in arguments]
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            try:
                exit_code: object = main(given)
            except SystemExit as stop:
                exit_code = stop.code
        assert exit_code == code, f"{given}\n{out.getvalue()}\n{err.getvalue()}"
        return subprocess.CompletedProcess(given, code, out.getvalue(), err.getvalue())

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


KITCHEN_TEXT = ("--corpus", KITCHEN / "corpus", "--known-sentences", 2)
"""What `kitchen` gives gen-pairs: more sentences of known words take minutes, and show no test more."""


@pytest.fixture(scope="session")
def kitchen(contrastok: Run, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The sample domain through all commands on the real MiniLM: one epoch of larger steps, and one trial.

    With its own text alone, the prior knows little: it is asked for by name, and the pairs are heard more than it.
    """
    folder = tmp_path_factory.mktemp("kitchen")
    train = ["--epochs", 1, "--learning-rate", 0.0033, "--calibrate", 1, "--init", "predictor", "--word-weight", 0.1]
    return run_all(contrastok, folder, KITCHEN_TEXT, train, KITCHEN / "terms.jsonl")


@pytest.fixture(scope="session")
def disease(here: Run, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """60 disease names as a word list, what the Disease Ontology's OBO file says of them, and MedQuAD's text."""
    folder = tmp_path_factory.mktemp("disease")
    ontology = shared_data / "disease_ontology"
    words = [json.loads(line)["word"] for line in (ontology / "disease_terms.jsonl").read_text().splitlines()]
    (folder / "words.txt").write_text("\n".join(words[:60]) + "\n")
    corpus = shared_data / "medquad" / "medquad.jsonl.gz"
    gen = ["--glossary", ontology / "doid-2016-09-01.obo", "--corpus", corpus, "--text-field", "answer"]
    gen += ["--hold-out", 0.5, "--max-sentences", 5, "--known-sentences", 1]
    # The kitchen learns from known words; here that would take minutes, and another initialiser is worth a look too.
    return run_all(here, folder, gen, ["--epochs", 1, "--init", "charlen_mean"], folder / "words.txt")


@pytest.fixture(scope="session")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small language model that the example has trained on the sample domain, and the texts that it never saw."""
    folder = tmp_path_factory.mktemp("decoder")
    options = {
        "vocabulary": 500,
        "width": 64,
        "layers": 2,
        "length": 32,
        "batch-size": 16,
        "epochs": 5,
        "learning-rate": 5e-3,
    }
    given = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    given += ["--corpus", str(KITCHEN / "corpus"), "--out", str(folder)]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()):
        patch.setattr(sys, "argv", ["pretrain.py", *given])
        runpy.run_path(str(ROOT / "examples" / "decoder" / "pretrain.py"), run_name="__main__")
    return folder


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """A function (checkpoint) -> folder with what `stock.py` wrote of it, in a process that cannot import contrastok."""
    done: dict[Path, Path] = {}

    def run(checkpoint: Path) -> Path:
        if checkpoint not in done:
            folder = tmp_path_factory.mktemp("stock")
            sentences = [s for s in control_sentences(load_tokenizer("minilm")) if s.isascii()][:1000]
            (folder / "sentences.txt").write_text("\n".join(sentences))
            command = [sys.executable, str(Path(__file__).with_name("stock.py")), resolve("minilm"), str(checkpoint)]
            ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            assert ended.returncode == 0, ended.stderr
            done[checkpoint] = folder
        return done[checkpoint]

    return run
