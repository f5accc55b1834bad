"""The table of a report as CSV, one line a token, for spreadsheets."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from contrastok.eval.charts import MAP_SPACE
from contrastok.eval.data import Neighbor, ReportData, TokenReport, rounded
from contrastok.eval.two_runs import TwoRuns
from contrastok.files import atomic_file

Line = dict[str, Any]
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet take a cell for a formula."""


def token_lines(data: ReportData) -> list[Line]:
    """The tokens of one run, worst first."""
    return [{"token": token.token, **_columns(token)} for token in data.per_token]


def pair_lines(runs: TwoRuns) -> list[Line]:
    """The tokens of two runs: the columns of both, marked first_ and second_."""
    return [
        {
            "token": pair.token,
            "change": pair.change,
            "shared_neighbors": pair.shared,
            **{f"first_{name}": value for name, value in _columns(pair.first).items()},
            **{f"second_{name}": value for name, value in _columns(pair.second).items()},
        }
        for pair in runs.tokens
    ]


def emit_csv(lines: Sequence[Mapping[str, Any]], path: Path | None) -> None:
    """Write lines to a file (atomically), or to standard output for "-"; nothing where no path was given."""
    if path is None:
        return
    if str(path) == "-":
        _write(lines, sys.stdout)
        return
    with atomic_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        _write(lines, file)


def _write(lines: Sequence[Mapping[str, Any]], file: IO[str]) -> None:
    writer = csv.DictWriter(file, fieldnames=list(lines[0]) if lines else ["token"], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _inert(value) for name, value in line.items()} for line in lines)


def _inert(value: Any) -> Any:
    """A cell that no spreadsheet runs: an apostrophe makes text of a formula; the writer leaves lone CRs unquoted."""
    if not isinstance(value, str):
        return value
    return (f"'{value}" if value.startswith(FORMULA) else value).replace("\r", " ")


def _columns(token: TokenReport) -> Line:
    hood, basis = token.neighborhood(MAP_SPACE), token.basis
    return {
        "verdict": token.verdict,
        "reason": token.reason,
        "judged_by": basis.name if basis else "",
        "held_out": basis.held_out if basis else "",
        "rank_initial": basis.ranks.initial if basis else None,
        "rank_trained": basis.ranks.trained if basis else None,
        "candidates": basis.ranks.of if basis else None,
        "confidence": rounded(token.confidence),
        "sentences": token.evidence.sentences,
        "generated": token.evidence.generated,
        "norm": rounded(token.norm),
        "norm_z": rounded(token.norm_z),
        "move": rounded(token.move),
        "ids": " ".join(map(str, token.ids)),
        "pieces": " ".join(token.pieces),
        "neighbors_before": _words(hood.before),
        "neighbors_after": _words(hood.after),
        "definition": token.definition,
    }


def _words(neighbors: Iterable[Neighbor]) -> str:
    return ", ".join(n.word for n in neighbors)
