"""A recovery in the terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from contrastok.eval.baselines import INITIAL, SPLIT, TRAINED
from contrastok.eval.recovery_figures import METRICS

_LEADING_ZERO = re.compile(r"\b0\.")


def recovery_tables(result: Mapping[str, Any]) -> Iterator[Table | Text]:
    """The figures as tables: input rows, outputs, related words. Intervals of 95 % stand in brackets."""
    of, words = result["candidates"], len(result["words"])
    rows = f"{words} words of {escape(result['model'])}: rank of the old row among {of['rows']:,} input rows, centred"
    yield _ranks(rows, result, words)
    yield _ranks(
        f"Rank of the old output among those of {of['encoded']:,} words, token alone", result["encoded"], words
    )
    if result["related"]["encoded"][TRAINED]["units"]:
        yield _related(result["related"])
    else:  # a table of dashes would not say why
        yield Text("No word has a related word that no training text showed; --glossary says what is related to them.")


def _ranks(title: str, figures: Mapping[str, Any], words: int) -> Table:
    table = _empty(title, METRICS)
    for name, line in _lines(figures).items():
        label = escape(name) + (f" ({line['units']} words)" if line["units"] != words else "")
        table.add_row(label, *(_cell(line, metric) for metric in METRICS), style=_style(name))
    table.add_section()
    for key, before in (("gain", INITIAL), ("gain_over_split_word", SPLIT)):
        if key in figures:
            table.add_row(f"{TRAINED} - {before}", *(_cell(figures[key], metric, "+") for metric in METRICS))
    return table


def _related(spaces: Mapping[str, Any]) -> Table:
    asked = spaces["encoded"][TRAINED]["units"]
    title = f"{asked} words with related words that no training text showed: is any among the 10 nearest? (hit@10)"
    table = _empty(title, spaces)
    lines = [_lines(found) for found in spaces.values()]
    for name in _lines(spaces["encoded"]):
        table.add_row(escape(name), *(_cell(found.get(name, {}), "hit@10") for found in lines), style=_style(name))
    table.add_section()
    table.add_row(f"{TRAINED} - {INITIAL}", *(_cell(found["gain"], "hit@10", "+") for found in spaces.values()))
    table.add_row(f"{TRAINED} / oracle", *(_cell(found, "share_of_oracle") for found in spaces.values()))
    return table


def _empty(title: str, columns: Iterable[str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for name in columns:
        table.add_column(name.replace("_", " "), justify="right", no_wrap=True)
    return table


def _style(name: str) -> str | None:
    return "bold" if name == TRAINED else None if name == INITIAL else "dim"


def _lines(figures: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Figures by view: baselines first, then initial and trained."""
    return {**figures["baselines"], INITIAL: figures[INITIAL], TRAINED: figures[TRAINED]}


def _cell(line: Mapping[str, Any], name: str, sign: str = "") -> str:
    if line.get(name) is None:
        return "-"
    whole = name == "median_rank"
    value = f"{line[name]:{sign}.{0 if whole else 3}f}"
    low, high = (f"{edge:.{0 if whole else 2}f}" for edge in line[f"{name}_interval"])
    return _LEADING_ZERO.sub(".", rf"{value} [dim]\[{low}, {high}][/]")
