"""The three commands on real text: rare disease names from the Disease Ontology, sentences from MedQuAD.

    python -m benchmarks.disease_terms --out FOLDER [--limit 20] [--queries 1500]
    python -m benchmarks.disease_terms --out FOLDER --checkpoint MODEL --pairs PAIRS

Teaches 352 names, half of whose synonyms and categories gen-pairs keeps out of the training pairs, and prints:

* report: the held-out names among all names of the terms file.
* hard synonyms (synonyms spelled otherwise) and is_a neighbours (parents, siblings, children) among the 7,556 names of
  the ontology, encoded by the untouched model. A name that holds the word, be it within another word, is no candidate,
  other right answers of the word do not compete, and the best right answer counts. "leak-free" leaves out answers that
  stand in the definition or in any training text of the word.
* retrieval: questions of MedQuAD that hold a new token, or whose answer does, for their answers. The pool is those
  answers and as many others, drawn by seed from all of MedQuAD; with --queries 0 it is all of them. The views are the
  split word, the mean of the pieces, and the initial and trained rows: long answers are nearly all of the time.
* no harm: STS-B, and sentences of MedQuAD, bit by bit.

Figures stand with 95 % intervals by bootstrap. FOLDER/figures.json holds all of them, FOLDER/ranks.json
every rank.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import SHARED
from benchmarks.disease_data import read_records, write_terms
from benchmarks.disease_related import Figures, measure_related
from benchmarks.disease_tables import show
from benchmarks.disease_texts import measure_no_harm, measure_retrieval
from contrastok.checkpoint import load_checkpoint
from contrastok.console import Console
from contrastok.eval.data import rounded
from contrastok.files import atomic_file, to_json

QUERIES = 1000
"""Questions that are asked unless told otherwise."""


def teaching(shared: Path, out: Path) -> list[list[str]]:
    """The commands that teach the terms, as a user types them."""
    corpus = shared / "medquad" / "medquad.jsonl.gz"
    terms = str(out / "terms.jsonl")
    return [
        ["gen-pairs", "--terms", terms, "--corpus", str(corpus), "--text-field", "answer", "--hold-out", "0.5",
         "--max-sentences", "12", "--out", str(out / "pairs")],
        ["train", "--terms", terms, "--pairs", str(out / "pairs"), "--out", str(out / "model")],
    ]  # fmt: skip


def reporting(model: Path, out: Path) -> list[str]:
    """The command that reports on a checkpoint."""
    return ["report", "--model", str(model), "--out", str(out / "report.html"), "--json", str(out / "report.json")]


def contrastok(command: Sequence[str]) -> None:
    """Run a command line; what an earlier run left is replaced."""
    subprocess.run([sys.executable, "-m", "contrastok", *command, "--overwrite"], check=True)


def run(shared: Path, out: Path, model: Path, pairs: Path, queries: int, console: Console) -> Figures:
    """Everything that is measured on a checkpoint."""
    contrastok(reporting(model, out))
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    checkpoint = load_checkpoint(model)
    console.print("Names of the ontology")
    related = measure_related(checkpoint, pairs, shared, console)
    console.print("Questions and answers")
    found = measure_retrieval(model, pairs, shared, queries)
    console.print("Texts that must not change")
    harm = measure_no_harm(checkpoint, shared, console)
    facts = {"tokens": report["tokens"], "held_out": report["relations"]["held_out"]}
    story = {"init": report["init"], "versions": report["versions"], "seed": report["seed"]}
    return dict(rounded({**facts, **related, "retrieval": found, "no harm": harm, **story}))


def main() -> None:
    """Teach unless there is a checkpoint, measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=0, help="teach so many terms; all when 0")
    parser.add_argument("--queries", type=int, default=QUERIES, help="questions of MedQuAD to ask; all when 0")
    parser.add_argument("--checkpoint", type=Path, help="measure this checkpoint, and train none")
    parser.add_argument("--pairs", type=Path, help="folder of pairs that the checkpoint was trained with")
    arguments = parser.parse_args()
    if (arguments.checkpoint is None) is not (arguments.pairs is None):
        parser.error("--checkpoint and --pairs belong together")
    if arguments.checkpoint is not None and arguments.limit:
        parser.error("--limit says how many terms are taught, and with --checkpoint none is")
    out, given = arguments.out, arguments.checkpoint is not None
    out.mkdir(parents=True, exist_ok=True)
    if not given:
        write_terms(read_records(SHARED, arguments.limit), out / "terms.jsonl")
        for command in teaching(SHARED, out):
            contrastok(command)
    model, pairs = (arguments.checkpoint, arguments.pairs) if given else (out / "model", out / "pairs")
    figures = run(SHARED, out, model, pairs, arguments.queries, Console())
    show(figures)
    ranks = {
        name: found.pop("per_token")
        for name, found in figures.items()
        if isinstance(found, dict) and "per_token" in found
    }
    for name, content in (("figures.json", figures), ("ranks.json", ranks)):
        with atomic_file(out / name) as partial:
            partial.write_text(to_json(content), encoding="utf-8")


if __name__ == "__main__":
    main()
