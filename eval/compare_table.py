"""The comparison of methods as a table and as a plot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import vl_convert
from rich.markup import escape
from rich.table import Table

from contrastok.eval.baselines import INITIAL, SPLIT, TRAINED

Line = Mapping[str, Any]

TODAY = "split words"
"""The line of the untouched model."""
FEW = 20
"""A figure over fewer units (tokens, queries ...) is left out: its interval would be most of the range."""


@dataclass(frozen=True)
class Column:
    """A figure of every method.

    Attributes:
        name: above the column.
        path: where the figure lies in a line; the last part is its name, beside which its interval lies.
        form: how it is written.
        today: where the same figure of the untouched model lies, which splits the words.
    """

    name: str
    path: tuple[str, ...]
    form: str = ".3f"
    today: tuple[str, ...] = ()

    def figure(self, line: Line) -> tuple[float, tuple[float, float] | None] | None:
        """The figure and its 95 % interval; None where the method has none, or one of a few units only."""
        path = self.today if line["method"] == TODAY else self.path
        found: Any = line
        for key in path[:-1]:
            found = (found or {}).get(key)
        value = (found or {}).get(path[-1]) if path else None
        return (
            None
            if value is None or found.get("units", FEW) < FEW
            else (float(value), found.get(f"{path[-1]}_interval"))
        )


COLUMNS = (
    Column("recovery: start, row MRR", ("recovery", INITIAL, "mrr")),
    Column("trained, row MRR", ("recovery", TRAINED, "mrr")),
    Column(
        "trained, output MRR",
        ("recovery", "encoded", TRAINED, "mrr"),
        today=("recovery", "encoded", "baselines", SPLIT, "mrr"),
    ),
    Column("related words: start, hit@10", ("relatedness", "vocabulary, encoded", INITIAL, "hit@10")),
    Column(
        "trained, hit@10",
        ("relatedness", "vocabulary, encoded", TRAINED, "hit@10"),
        today=("relatedness", "vocabulary, encoded", SPLIT, "hit@10"),
    ),
    Column("related names: start, MRR", ("relatedness", "glossary, encoded", INITIAL, "mrr")),
    Column(
        "trained, MRR",
        ("relatedness", "glossary, encoded", TRAINED, "mrr"),
        today=("relatedness", "glossary, encoded", SPLIT, "mrr"),
    ),
    Column("retrieval, MRR@10", ("retrieval", TRAINED, "mrr@10"), today=("retrieval", SPLIT, "mrr@10")),
    Column("fidelity", ("no_harm", "fidelity", "views", TRAINED, "mean")),
    Column("STS-B", ("no_harm", "sts", "result"), ".4f", today=("no_harm", "sts", "base")),
    Column("steps", ("cost", "steps"), ",.0f"),
    Column("CPU s", ("cost", "cpu_seconds"), ",.0f"),
    Column("CPU time, to the first", ("cost", "times_first"), ".2f"),
    Column("peak MB", ("cost", "peak_mb"), ",.0f"),
)
"""All that is told of a method; what was not measured has no column."""


def measured(lines: Sequence[Line]) -> list[Column]:
    """The columns that some method has a figure for."""
    return [column for column in COLUMNS if any(column.figure(line) is not None for line in lines)]


def _cells(line: Line, columns: Sequence[Column]) -> Iterator[str]:
    for column in columns:
        found = column.figure(line)
        yield "" if found is None else f"{found[0]:{column.form}}"


def _bits(line: Line) -> str:
    """Whether texts without a new token keep their embeddings."""
    if "no_harm" not in line:
        return ""
    return {True: "same bits", False: "changed", None: "not asked"}[line["no_harm"]["identical"]]


def _why(line: Line) -> str:
    """Why a method has no figures; "" where it has some."""
    told = {"refused": "does not apply", "lost": "not measured"}
    return next((f"{said}: {line[key]}" for key, said in told.items() if key in line), "")


def _rows(lines: Sequence[Line], columns: Sequence[Column]) -> Iterator[list[str]]:
    """The cells of the untouched model and of every method; one without figures says why in the last."""
    if reference := next((line for line in lines if not _why(line)), None):
        yield [TODAY, *_cells({**reference, "method": TODAY}, columns), ""]
    for line in lines:
        if why := _why(line):
            yield [line["method"], *[""] * len(columns), why]
        else:
            yield [line["method"], *_cells(line, columns), _bits(line)]


def compare_table(lines: Sequence[Line]) -> Table:
    """The untouched model, then one line a method; those that do not apply or were not measured say why."""
    columns = measured(lines)
    table = Table(title="Methods side by side", title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("method", no_wrap=True)
    for column in columns:
        table.add_column(column.name, justify="right")
    table.add_column("other text")
    for row in _rows(lines, columns):
        table.add_row(*map(escape, row))
    return table


def to_markdown(lines: Sequence[Line]) -> str:
    """The same for a document; intervals lie in compare.json."""
    columns = measured(lines)
    head = ["method", *(column.name for column in columns), "other text"]
    rows = ([cell.replace("|", "\\|") for cell in row] for row in _rows(lines, columns))
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)) + "\n"


def compare_chart(lines: Sequence[Line]) -> bytes:
    """A dot with its 95 % interval for every method and figure, as PNG."""
    rows = [
        {"method": line["method"], "figure": column.name, "value": found[0], "low": low, "high": high}
        for column in measured(lines)
        for line in lines
        if (found := column.figure(line)) is not None
        for low, high in [found[1] or (found[0], found[0])]
    ]
    order = [line["method"] for line in lines]
    y = alt.Y("method:N", sort=order, title=None)
    base = alt.Chart().encode(y=y)
    dots = base.mark_point(filled=True, size=50).encode(x=alt.X("value:Q", title=None, scale=alt.Scale(zero=False)))
    bars = base.mark_rule().encode(x="low:Q", x2="high:Q")
    facets = [column.name for column in measured(lines)]
    chart = (
        alt.layer(bars, dots, data=alt.Data(values=rows))
        .properties(width=170, height={"step": 16})
        .facet(facet=alt.Facet("figure:N", sort=facets, title=None), columns=4)
        .resolve_scale(x="independent")
    )
    png: bytes = vl_convert.vegalite_to_png(chart.to_dict(), scale=1.5)
    return png
