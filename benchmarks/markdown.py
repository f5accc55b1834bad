"""Figures as tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

FORMS = {"median_rank": ",.0f"}
"""How figures are written that are no shares."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def cell(figures: Mapping[str, Any], name: str, sign: str = "", interval: bool = True) -> str:
    """A figure and its 95 % interval, "" where there is none.

    Args:
        figures: each under its name, its interval under "NAME_interval".
        name: of the figure.
        sign: "+" for a difference.
        interval: whether the interval is told.
    """
    if figures.get(name) is None:
        return ""
    form = sign + FORMS.get(name, ".3f")
    low, high = figures[f"{name}_interval"]
    return f"{figures[name]:{form}}" + (f" [{low:{form}}, {high:{form}}]" if interval else "")
