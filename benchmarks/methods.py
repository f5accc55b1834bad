"""Every method of the field on the same words: 300 disease names, and 200 words that MiniLM knows.

    python -m benchmarks.methods --out FOLDER [--methods all] [--steps 100] [--terms 300] [--hidden 200] [--donor FOLDER] [--sts]

`contrastok compare` on the disease names of the Disease Ontology and the answers of MedQuAD: each method learns from the same
pairs for the same steps, at its built-in settings (`--calibrate 0`): to choose them for each would take most of the time.
Columns: recovery of words that the model knew, related words that no training text shows, questions that find their answers,
fidelity of texts with a new token, CPU time and peak memory of training. `init=sava` and `init=omp` take the rows of another
model, which `--donor` names (`benchmarks.donor` makes one).

FOLDER/compare.json holds all figures with their intervals. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks import SHARED
from benchmarks.disease_data import read_records, write_terms
from benchmarks.harness import write_json
from contrastok.data_gen.known import find_wordnet
from contrastok.eval.compare import compare
from contrastok.eval_config import CompareConfig

MOST = 12
"""Sentences of a term that become pairs, as in `benchmarks.disease_terms` and `benchmarks.recovery`."""


def main() -> None:
    """Run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", default=["all"])
    parser.add_argument("--steps", type=int, default=100, help="of the optimiser, 32 anchors each")
    parser.add_argument("--terms", type=int, default=300)
    parser.add_argument("--hidden", type=int, default=200)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--donor", type=Path, help="local model for init=sava and init=omp")
    parser.add_argument("--num-proc", type=int, default=1, help="methods at the same time")
    parser.add_argument("--sts", action="store_true", help="also STS-B, by both models for every method")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    inputs = arguments.out.with_name(f"{arguments.out.name}-inputs")
    inputs.mkdir(parents=True, exist_ok=True)
    write_terms(read_records(SHARED, arguments.terms), inputs / "terms.jsonl")
    (inputs / "run.toml").write_text(
        f"[gen-pairs]\nmax-sentences = {MOST}\nhold-out = 0.5\n[train]\ncalibrate = 0\nmax-steps = {arguments.steps}\n"
        + (f"init-model = {json.dumps(str(arguments.donor))}\n" if arguments.donor else ""),
        encoding="utf-8",
    )
    wordnet, answers = find_wordnet("auto"), SHARED / "medquad" / "medquad.jsonl.gz"
    told = compare(
        CompareConfig(
            config=inputs / "run.toml",
            terms=(inputs / "terms.jsonl",),
            corpus=(str(answers),),
            text_field="answer",
            glossary=(wordnet,) if wordnet else (),
            methods=tuple(arguments.methods),
            hidden=arguments.hidden,
            pairs_file=answers,
            query_field="question",
            passage_field="answer",
            limit=arguments.queries,
            sts=SHARED / "stsb" / "stsb-en-test.csv" if arguments.sts else None,
            out=arguments.out,
            num_proc=arguments.num_proc,
        )
    )
    print((arguments.out / "compare.md").read_text(encoding="utf-8"))
    asked = {name: getattr(arguments, name) for name in ("steps", "terms", "hidden", "queries")}
    write_json({**asked, "donor": arguments.donor is not None, "lines": told["lines"]}, arguments.json)


if __name__ == "__main__":
    main()
