"""What the page of two runs shows of each token, and the same in the terminal."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from contrastok.console import shown
from contrastok.eval.charts import MAP_SPACE
from contrastok.eval.rows import pairs, ranks
from contrastok.eval.table import ROWS, STYLES, words
from contrastok.eval.two_runs import TokenPair, TwoRuns
from contrastok.visible import short


def pair_rows(runs: TwoRuns) -> list[dict[str, Any]]:
    """One record a token, as eval/two_runs.js reads them; lists of two are the first run and the second."""
    return [_row(pair) for pair in runs.tokens]


def _row(pair: TokenPair) -> dict[str, Any]:
    both = (pair.first, pair.second)
    return {
        "token": pair.token,
        "kind": pair.change,
        "verdicts": [run.verdict for run in both],
        "reasons": [run.reason for run in both],
        "bases": [run.basis and (run.basis.name, run.basis.held_out, ranks(run.basis.ranks)) for run in both],
        "sure": [None if run.confidence is None else round(run.confidence, 3) for run in both],
        "neighbors": [pairs(run.neighborhood(MAP_SPACE).after) for run in both],
        "shared": pair.shared,
        "definition": pair.first.definition,
        "relations": [
            (a.name, a.kind, a.held_out and b.held_out, ranks(a.glossary), ranks(b.glossary)) for a, b in pair.relations
        ],
    }


def pair_table(runs: TwoRuns) -> Table:
    """One line a token: what changed first."""
    rest = len(runs.tokens) - ROWS
    title = f"The first {ROWS} of {len(runs.tokens):,} tokens" if rest > 0 else f"{len(runs.tokens):,} tokens"
    table = Table(title=f"{title}, changes first", title_justify="left", title_style="", box=None, expand=True)
    columns = ("token", 4), ("first", None), ("second", None), ("rank", None), ("neighbours, first", 6), ("second", 6)
    for name, ratio in columns:
        table.add_column(name, ratio=ratio, no_wrap=True, justify="right" if name == "rank" else "left")
    for pair in runs.tokens[:ROWS]:
        both = (pair.first, pair.second)
        table.add_row(
            shown(short(pair.token), "bold"),
            *(Text(run.verdict, style=STYLES[run.verdict]) for run in both),
            " -> ".join(f"{run.basis.ranks.trained:,}" if run.basis else "-" for run in both),
            *(shown(words(run.neighborhood(MAP_SPACE).after)) for run in both),
        )
    return table
