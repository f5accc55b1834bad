"""The three commands on real text: rare disease names from the Disease Ontology, sentences from MedQuAD.

    python -m benchmarks.disease_terms --out FOLDER [--terms 352] [--json FILE]

Prints the recall of held-out glossary relations before and after training, beside the untouched model on the
original tokens ("split word").
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def write_terms(shared: Path, out: Path, count: int = 0) -> int:
    """Convert the benchmark's record to ours.

    Args:
        shared: the folder of public data.
        out: the terms.jsonl to write.
        count: so many terms, evenly spread; all when 0.

    Returns:
        the number of terms written.
    """
    source = shared / "disease_ontology" / "disease_terms.jsonl"
    records = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    if count:
        records = [records[i * len(records) // count] for i in range(min(count, len(records)))]
    with out.open("w", encoding="utf-8") as handle:
        for record in records:
            term = {
                "token": record["word"],
                "definition": record["definition"] or "",
                "synonyms": record["exact_synonyms"],
                "broader": record["parents"],
            }
            handle.write(json.dumps(term) + "\n")
    return len(records)


def commands(shared: Path, out: Path) -> list[list[str]]:
    """The three commands, as a user types them."""
    corpus = shared / "medquad" / "medquad.jsonl.gz"
    terms = str(out / "terms.jsonl")
    return [
        ["gen-pairs", "--terms", terms, "--corpus", str(corpus), "--text-field", "answer", "--hold-out", "0.5",
         "--max-sentences", "12", "--out", str(out / "pairs")],
        ["train", "--terms", terms, "--pairs", str(out / "pairs"), "--out", str(out / "model")],
        ["report", "--model", str(out / "model"), "--out", str(out / "report.html"), "--json", str(out / "report.json")],
    ]  # fmt: skip


def run(shared: Path, out: Path, count: int, extra: tuple[str, ...] = ()) -> dict[str, Any]:
    """Run the commands into `out`.

    Returns:
        the content of report.json.
    """
    out.mkdir(parents=True, exist_ok=True)
    write_terms(shared, out / "terms.jsonl", count)
    for command in commands(shared, out):
        subprocess.run([sys.executable, "-m", "contrastok", *command, *extra], check=True)
    report: dict[str, Any] = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return report


def main() -> None:
    """Run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--terms", type=int, default=0, help="so many terms; all when 0")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    report = run(SHARED, arguments.out, arguments.terms, ("--overwrite",))
    held_out = report["relations"]["held_out"]
    print(f"{report['tokens']} tokens; held-out relations among all glossary names, encoded space")
    for name in ("split_word", "initial", "trained"):
        figures = held_out[name]
        print(
            f"{name:12} MRR {figures['mrr']:.3f}  hit@10 {figures['hit@10']:.3f}  median rank {figures['median_rank']:g}"
        )
    if arguments.json:
        manifest = json.loads((arguments.out / "model" / "contrastok.json").read_text(encoding="utf-8"))
        facts = {
            "tokens": report["tokens"],
            "held_out": held_out,
            "versions": manifest["versions"],
            "seed": manifest["seed"],
        }
        arguments.json.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
