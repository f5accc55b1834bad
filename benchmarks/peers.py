"""Published packages and contrastok on the same inputs: are the rows the same, and where not, why?

    python -m benchmarks.peers [--terms 300] [--model minilm] [--out FILE]

Names of rare diseases, as new tokens of MiniLM. Word vectors are trained on the answers of MedQuAD (extra `vectors`), and a
donor is a tokenizer and vectors of its tokens trained on the same text. What a package's function and ours are given is
the same, to the bit. Where our definition is the published one, rows must be the same to 1e-5 of their norm: the command
says "differs: not known why" and ends with exit code 1 where they are not.

A second table shows defects of the packages on these inputs, with the test that would see each in contrastok.

A package that is missing gives a line that says so; CONTRIBUTING.md says how to install them.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.harness import positive, write_json
from benchmarks.peer_defects import DEFECTS
from benchmarks.peer_inputs import Inputs, real_inputs, told
from benchmarks.peer_lines import Line, defects_table, rows_table, unexplained
from benchmarks.peer_rows import ROWS
from contrastok.word_vectors import require_trainer


def measure(inputs: Inputs) -> tuple[list[Line], list[Line]]:
    """The lines of both tables: rows, and defects."""
    return [build(inputs) for build in ROWS], [build(inputs) for build in DEFECTS]


def facts(inputs: Inputs) -> dict[str, int]:
    """How much of everything there is."""
    spaces = {"word vectors": inputs.words, "token vectors": inputs.tokens, "the donor": inputs.donor}
    counts = {"new tokens": len(inputs.context.terms), "sentences": len(inputs.context.texts)}
    for name, space in spaces.items():
        counts |= {f"new tokens in {name}": int(told(space).sum()), f"anchors in {name}": len(space.anchors)}
    return counts


def to_markdown(counts: dict[str, int], rows: Sequence[Line], defects: Sequence[Line]) -> str:
    """Both tables for a document."""
    inputs = ", ".join(f"{count:,} {what}" for what, count in counts.items())
    return f"{rows_table(rows)}\n\n{inputs}.\n\n{defects_table(defects)}"


def main() -> None:
    """Run, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--terms", type=positive, default=300)
    parser.add_argument("--documents", type=int, default=0, help="answers of MedQuAD that are read; 0 is all")
    parser.add_argument("--out", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    require_trainer()
    with tempfile.TemporaryDirectory() as folder:
        inputs = real_inputs(Path(folder), arguments.model, arguments.terms, arguments.documents)
        counts = facts(inputs)
        rows, defects = measure(inputs)
    print(to_markdown(counts, rows, defects))
    tables = {"rows": [asdict(line) for line in rows], "defects": [asdict(line) for line in defects]}
    write_json({"model": arguments.model, "inputs": counts, **tables}, arguments.out)
    if lost := unexplained(rows):
        raise SystemExit(f"Rows differ, and it is not known why: {', '.join(lost)}")


if __name__ == "__main__":
    main()
