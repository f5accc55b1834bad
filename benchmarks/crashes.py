"""Kill gen-pairs and train with SIGKILL, run the same command again, and look whether anything was lost.

    python -m benchmarks.crashes [--moments 50] [--operations 50] [--seed 0] [--json FILE]

Moments are random times of an undisturbed run. Operations are places: the process dies before its n-th step on the file
system, wherever the machine's speed puts that in time; evenly spread over all of them. Each kill meets a fresh folder and a
fresh cache. It fails, with exit code 1, when

* the output is there and is not, byte by byte, what an undisturbed run writes;
* the second run does not end well, or its output has other bytes;
* anything is left beside the output after it.

A tiny random model makes runs short. They are forked from a process that has only imported the libraries.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import write_json
from benchmarks.markdown import table
from contrastok.cli import main as contrastok_main
from contrastok.files import sha256_file
from contrastok.loop import state_path

KITCHEN = Path(__file__).resolve().parent.parent / "examples" / "kitchen"
TERMS = 8
OPERATIONS = {"open", "os.chmod", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.scandir", "shutil.rmtree"}
"""What Python tells its audit hooks (PEP 578) of work on the file system."""
START, RESUMED, DONE = "from the start", "from a saved state", "nothing: it was done"
"""What the second run had to do."""

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(
    [
        "contrastok.trainer",
        "contrastok.data_gen.pipeline",
        "pyarrow.parquet",
        "sentence_transformers",
        "transformers.models.bert.modeling_bert",
    ]
)


@dataclass(frozen=True)
class Job:
    """A command that is killed.

    Attributes:
        name: of the command.
        options: all of it but its output.
    """

    name: str
    options: tuple[str, ...]

    def start(self, folder: Path, die_at: int = 0) -> BaseProcess:
        """Begin to write `folder/work/out`, with the cache in `folder/cache`; see `_run` for the rest."""
        arguments = [self.name, *self.options, "--out", str(folder / "work" / "out"), "--quiet"]
        process = _processes.Process(target=_run, args=(arguments, folder, die_at))
        process.start()
        return process


@dataclass(frozen=True)
class Whole:
    """An undisturbed run: the hashes of its files, its seconds, and its operations on the file system."""

    files: dict[str, str]
    seconds: float
    operations: int


def _run(arguments: list[str], folder: Path, die_at: int) -> None:
    """Run a command, note how many operations it did in `folder`; die before the one with the number `die_at`."""
    done = 0
    torch.set_num_threads(1)
    os.environ |= {"CONTRASTOK_CACHE": f"{folder}/cache", "WNSEARCHDIR": f"{folder}/no-wordnet"}

    def watch(event: str, told: tuple[Any, ...]) -> None:
        nonlocal done
        if event in OPERATIONS and isinstance(told[0], str | os.PathLike) and folder in Path(told[0]).parents:
            done += 1
            if done == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    code = contrastok_main(arguments)
    (folder / "operations").write_text(str(done))
    sys.exit(code)


def prepare(folder: Path) -> tuple[Job, Job]:
    """Make a tiny model, a few terms and their pairs; gen-pairs and train on them."""
    model, terms = _tiny_model(folder / "model"), folder / "terms.jsonl"
    lines = (KITCHEN / "terms.jsonl").read_text(encoding="utf-8").splitlines()
    terms.write_text("\n".join(lines[:TERMS]) + "\n", encoding="utf-8")
    common = ("--terms", str(terms), "--model", str(model))
    generate = Job("gen-pairs", (*common, "--corpus", str(KITCHEN / "corpus"), "--max-sentences", "4"))
    whole(generate, folder / "first")
    pairs = str(folder / "first" / "work" / "out")
    steps = ("--epochs", "3", "--batch-size", "16", "--checkpoint-every", "2", "--device", "cpu")
    return generate, Job("train", (*common, "--pairs", pairs, *steps))


def _tiny_model(folder: Path) -> Path:
    """A random BERT whose tokenizer knows letters, and some words of the sample text."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    text = "\n".join(file.read_text(encoding="utf-8") for file in sorted((KITCHEN / "corpus").glob("*.txt"))).lower()
    letters = sorted(set(text) - {" ", "\n"})
    common = [word for word, n in Counter(re.findall("[a-z]{2,5}", text)).most_common() if n > 2]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters), *common]
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(pieces), max_position_embeddings=128, **sizes)).save_pretrained(folder)
    tokenizer = BertTokenizerFast(vocab={piece: i for i, piece in enumerate(pieces)}, model_max_length=128)
    tokenizer.save_pretrained(folder)
    return folder


def whole(job: Job, folder: Path) -> Whole:
    """Run a job undisturbed.

    Raises:
        RuntimeError: it does not end well.
    """
    start = time.perf_counter()
    code = _finished(job.start(folder))
    seconds = time.perf_counter() - start
    if code or (left := _beside(folder)):
        raise RuntimeError(f"{job.name} ended with code {code}" if code else f"{job.name} left {left}")
    return Whole(_hashes(folder), seconds, int((folder / "operations").read_text()))


def kill(job: Job, expected: Whole, folder: Path, *, seconds: float | None = None, operation: int = 0) -> str:
    """Kill a run after some seconds or before an operation, then run the same command again.

    Returns:
        what the second run had to do.

    Raises:
        RuntimeError: something was lost, or something else was left.
    """
    process = job.start(folder, operation)
    process.join(seconds)
    process.kill()
    process.join()
    out = folder / "work" / "out"
    found = DONE if out.exists() else RESUMED if _saved(out) else START
    if found is DONE and _hashes(folder) != expected.files:
        raise RuntimeError(f"{job.name} was killed and left half an output")
    # An output that is there already is refused, which is no less than the user is owed: it is whole.
    code = _finished(job.start(folder))
    if code != (2 if found is DONE else 0):
        raise RuntimeError(f"{job.name} was killed, and then ended with code {code}")
    if _hashes(folder) != expected.files:
        raise RuntimeError(f"{job.name} was killed, and then wrote other bytes than an undisturbed run")
    if found is not DONE and (left := _beside(folder)):
        raise RuntimeError(f"{job.name} was killed and run again, and {left} is left beside its output")
    return found


def _saved(out: Path) -> bool:
    """Whether there is something to go on from: a state of train, or findings of gen-pairs."""
    return (state_path(out) / "state.safetensors").exists() or any(
        out.with_name(f".{out.name}.shards").glob("*.parquet")
    )


def _finished(process: BaseProcess) -> int:
    process.join()
    assert process.exitcode is not None  # it was waited for
    return process.exitcode


def _beside(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "work").iterdir() if path.name != "out")


def _hashes(folder: Path) -> dict[str, str]:
    out = folder / "work" / "out"
    return {str(file.relative_to(out)): sha256_file(file) for file in sorted(out.rglob("*")) if file.is_file()}


def attack(job: Job, folder: Path, moments: Sequence[float], operations: int) -> dict[str, Any]:
    """Kill a job at random moments and at places.

    Args:
        job: what is killed.
        folder: empty; it is emptied after each kill.
        moments: in [0, 1), as shares of an undisturbed run.
        operations: how many places.

    Returns:
        seconds and operations of an undisturbed run, and for moments and operations how often the second run had to do
        what.

    Raises:
        RuntimeError: see `kill`.
    """
    expected = whole(job, folder / "whole")
    places = sorted({round(place) for place in np.linspace(1, expected.operations, operations)})
    found: dict[str, Counter[str]] = {"moments": Counter(), "operations": Counter()}
    for kind, ways in (
        ("moments", [{"seconds": share * expected.seconds} for share in moments]),
        ("operations", [{"operation": place} for place in places]),
    ):
        for i, way in enumerate(ways):
            found[kind][kill(job, expected, folder / "killed", **way)] += 1  # type: ignore[arg-type]
            shutil.rmtree(folder / "killed")
            print(f"\r{job.name}: {kind} {i + 1} of {len(ways)}", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
    counts = {kind: {what: those[what] for what in (START, RESUMED, DONE)} for kind, those in found.items()}
    return {"seconds": expected.seconds, "operations_of_a_run": expected.operations, **counts}


def main() -> int:
    """Run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=50, help="random times at which each command is killed")
    parser.add_argument("--operations", type=int, default=50, help="places at which each command is killed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    draw, results = np.random.default_rng(arguments.seed), {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        for job in prepare(folder):
            moments = draw.random(arguments.moments).tolist()
            try:
                results[job.name] = attack(job, folder / job.name, moments, arguments.operations)
            except RuntimeError as error:
                print(f"\nLOST: {error}", file=sys.stderr)
                return 1
    rows = [
        [name, kind, str(sum(result[kind].values())), *map(str, result[kind].values())]
        for name, result in results.items()
        for kind in ("moments", "operations")
    ]
    print(table(["command", "killed at", "kills", *(f"then: {what}" for what in (START, RESUMED, DONE))], rows))
    print("Every second run ended with the bytes of an undisturbed run, and nothing else was left.")
    write_json({"seed": arguments.seed, "jobs": results}, arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
