"""One table and one plot of what several runs of `benchmarks.methods` measured.

    python -m benchmarks.methods_table FILE [FILE ...] [--json FILE] [--plot FILE]

All methods take hours, so they may be measured in parts, each a file that `benchmarks.methods --json` wrote. Every part was
asked the same by the same versions and holds `default`, to which its times are told; of a method in several parts the first
counts. Prints the table, and how far apart the figures of the methods are that several parts measured: parts of other
machines round otherwise, so it says what joining them costs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import write_json
from contrastok.eval.compare_methods import DEFAULT, every_method
from contrastok.eval.compare_table import COLUMNS, compare_chart, to_markdown
from contrastok.files import atomic_file

ASKED = ("steps", "terms", "hidden", "queries", "donor", "versions")
"""What parts of one table have in common."""
MACHINES = {"CPU s", "CPU time, to the first", "peak MB"}
"""Columns that differ from run to run."""

Line = dict[str, Any]


def join(parts: Sequence[Mapping[str, Any]]) -> tuple[list[Line], dict[str, float]]:
    """The lines of all parts in the order of `contrastok compare`, and how far apart those are that several hold.

    Args:
        parts: what `benchmarks.methods --json` wrote.

    Returns:
        One line a method, and for each method of several parts the greatest absolute difference of its figures.

    Raises:
        ValueError: the parts were asked different things, or one lacks `default`.
    """
    for part in parts:
        if other := [name for name in ASKED if part[name] != parts[0][name]]:
            raise ValueError(f"these parts are of different runs: {', '.join(other)}")
        if not any(line["method"] == DEFAULT for line in part["lines"]):
            raise ValueError(f"a part without {DEFAULT}: its times are those to another method")
    found: dict[str, list[Line]] = {}
    for part in parts:
        for line in part["lines"]:
            found.setdefault(line["method"], []).append(line)
    apart = {name: max(_apart(lines[0], line) for line in lines[1:]) for name, lines in found.items() if lines[1:]}
    return [found[name][0] for name in every_method() if name in found], apart


def _of_any_machine(line: Line) -> Line:
    """The line without its seconds: those of different machines do not belong into one column."""
    cost = {name: value for name, value in line.get("cost", {}).items() if name != "cpu_seconds"}
    return line | ({"cost": cost} if cost else {})


def _apart(one: Line, other: Line) -> float:
    return max(abs(a - b) for a, b in zip(_figures(one), _figures(other), strict=True))


def _figures(line: Line) -> Iterator[float]:
    """What the table says of a method; -1, which no figure is, where it says nothing."""
    for column in COLUMNS:
        if column.name not in MACHINES:
            figure = column.figure(line)
            yield -1.0 if figure is None else figure[0]


def main() -> None:
    """Print the table, write the plot and the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--json", type=Path, help="write all lines to this file")
    parser.add_argument("--plot", type=Path, help="write the plot to this file")
    arguments = parser.parse_args()
    parts = [json.loads(part.read_text(encoding="utf-8")) for part in arguments.parts]
    try:
        lines, apart = join(parts)
    except ValueError as error:
        sys.exit(str(error))
    shown = [_of_any_machine(line) for line in lines]
    print(to_markdown(shown))
    print(f"{len(lines)} methods, {sum('refused' not in line for line in lines)} of which apply\n")
    for name, difference in apart.items():
        print(f"{name}: {difference:.1e} apart at most")
    if arguments.plot:
        with atomic_file(arguments.plot) as partial:
            partial.write_bytes(compare_chart(shown))
    write_json({**{name: parts[0][name] for name in ASKED}, "apart": apart, "lines": lines}, arguments.json)


if __name__ == "__main__":
    main()
