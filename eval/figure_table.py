"""Figures with their intervals as a table: one line a view, a difference as a line of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from contrastok.eval.baselines import INITIAL, SPLIT, TRAINED

COMPARED = ((TRAINED, SPLIT), (TRAINED, INITIAL))
"""The differences that every evaluation tells: is it better than what there is, and did training help."""
STYLES = {TRAINED: "bold", SPLIT: "", INITIAL: ""}
"""What the differences are about stands out; the other baselines are dim."""

Figures = Mapping[str, Any]


def figure_table(title: str, first: str, columns: Sequence[str]) -> Table:
    """An empty table with the column `first`, the views, how many units, and a column for each figure."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for name in (first, "view"):
        table.add_column(name, no_wrap=True)
    for name in ("of", *columns):
        table.add_column(name, justify="right", no_wrap=True)
    return table


def add_section(
    table: Table, label: str, columns: Sequence[str], views: Mapping[str, Figures], differences: Mapping[str, Figures]
) -> None:
    """The lines of one section: every view, and the differences in the colour of what they say.

    Args:
        table: of `figure_table`.
        label: stands before the first line.
        columns: the figures' names.
        views: figures of each view with their intervals, and "units".
        differences: the same of the differences.
    """
    for at, (name, figures) in enumerate(views.items()):
        style = STYLES.get(name, "dim")
        cells = [Text(_cell(figures, column), style) for column in columns]
        table.add_row(label if not at else "", Text(name, style), Text(f"{figures['units']:,}", style), *cells)
    for name, figures in differences.items():
        cells = [Text(_cell(figures, column, sign="+"), _verdict(figures, column)) for column in columns]
        table.add_row("", name, f"{figures['units']:,}", *cells)
    table.add_section()


def compared(names: Iterable[str]) -> list[tuple[str, str, str]]:
    """Label, view and reference of every difference that these views allow."""
    known = set(names)
    return [(f"{a} - {b}", a, b) for a, b in COMPARED if {a, b} <= known]


def _cell(figures: Figures, name: str, sign: str = "") -> str:
    value, interval = figures.get(name), figures.get(f"{name}_interval")
    if value is None:
        return "-"
    low, high = interval or (value, value)
    return f"{value:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def _verdict(figures: Figures, name: str) -> str:
    low, high = figures.get(f"{name}_interval") or (0.0, 0.0)
    return "green" if low > 0 else "red" if high < 0 else "default"
