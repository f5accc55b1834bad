"""The report in the terminal: the worst tokens first, and the summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from rich.table import Table
from rich.text import Text

from contrastok.console import shown
from contrastok.eval.charts import MAP_SPACE
from contrastok.eval.data import Neighbor, Ranks, ReportData, TokenReport
from contrastok.eval.summary import Statement, headline, sections
from contrastok.visible import short, visible

ROWS = 40
"""Tokens shown; the page and the JSON hold all of them."""
STYLES = {"near": "green", "unclear": "yellow", "far": "red", "good": "green", "bad": "red", "plain": "default"}
WORDS = 4


def token_table(data: ReportData) -> Table:
    """One line a token, worst first; with the confidence where the rows were predicted."""
    table = Table(title=_title(data), title_justify="left", title_style="", box=None, pad_edge=False, expand=True)
    predicted = data.relearned is not None
    for name, ratio in (
        ("token", 4),
        ("verdict", None),
        ("pieces", 4),
        ("before", 5),
        ("after", 6),
        ("judged by", 4),
        ("rank", None),
        *((("sure", None),) if predicted else ()),
        ("sent.", None),
    ):
        justify: Literal["left", "right"] = "right" if name in ("rank", "sure", "sent.") else "left"
        table.add_column(name, ratio=ratio, no_wrap=True, justify=justify)
    for token in data.per_token[:ROWS]:
        table.add_row(*_cells(token, predicted))
    return table


def summary_lines(data: ReportData) -> list[Text]:
    """The headline and the plain sentences of the summary."""
    return [*told_lines(headline(data), sections(data)), shown(f"* Neighbours: {data.index}.", "dim")]


def told_lines(head: str, told: Mapping[str, Sequence[Statement]]) -> list[Text]:
    """A headline and the sentences of all sections, coloured by how they should be taken."""
    lines = [shown(head + ".", "bold")]
    return lines + [Text.assemble(("* ", STYLES[s.tone]), shown(str(s))) for part in told.values() for s in part]


def _title(data: ReportData) -> str:
    rest = data.tokens - ROWS
    which = f"The {ROWS} worst of {data.tokens:,} tokens" if rest > 0 else f"{data.tokens:,} tokens, worst first"
    return f"{which}; neighbours before and after training"


def _cells(token: TokenReport, predicted: bool) -> Sequence[Text | str]:
    hood, basis = token.neighborhood(MAP_SPACE), token.basis
    sure = "-" if token.confidence is None else f"{token.confidence:.0%}"
    return (
        shown(short(token.token), "bold"),
        Text(token.verdict, style=STYLES[token.verdict]),
        shown(" ".join(token.pieces), "dim"),
        shown(words(hood.before), "dim"),
        shown(words(hood.after)),
        Text(short(basis.name) if basis else "-"),
        _rank(basis.ranks) if basis else "-",
        *((sure,) if predicted else ()),
        f"{token.evidence.sentences:,}",
    )


def _rank(ranks: Ranks) -> str:
    before = "" if ranks.initial is None else f"{ranks.initial:,} -> "
    return f"{before}{ranks.trained:,}"


def words(neighbors: Sequence[Neighbor]) -> str:
    """The nearest few."""
    return ", ".join(visible(n.word) for n in neighbors[:WORDS])
