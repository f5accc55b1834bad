"""What `suggest` shows: a table of words, a plot of tokens saved, a file of terms."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import altair as alt
import vl_convert
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from contrastok.data_gen.suggest.worth import Word
from contrastok.data_gen.summary import clipped
from contrastok.data_gen.terms import Term

ROWS = 40
"""Words shown in the table; the file holds all of them."""
ALSO = 4
"""Forms of a word that a line names."""


@dataclass(frozen=True)
class Suggestion:
    """A word that is worth a token.

    Attributes:
        word: its figures.
        term: the word as it is to be taught, with what a glossary says of it.
        also: its other forms in the corpus; the token does not stand for them.
        merge: how many merges of a continued BPE make it one token; None where none does, or none was learned.
    """

    word: Word
    term: Term
    also: tuple[Word, ...] = ()
    merge: int | None = None

    def as_json(self) -> dict[str, Any]:
        """A line of the terms file: a term, and beside it what there is to say for it, which readers of terms skip."""
        term, word = self.term, self.word
        return {
            "token": term.token,
            "definition": term.definition,
            "synonyms": list(term.synonyms),
            "broader": list(term.broader),
            "related": list(term.related),
            "pieces": list(word.pieces),
            "count": word.count,
            "saved": word.saved,
            "spread": word.spread,
            "also": {form.family.spelled: form.count for form in self.also},
            **({} if self.merge is None else {"merge": self.merge}),
        }


def terms_file(suggestions: Iterable[Suggestion]) -> str:
    """The suggestions as a file of terms, in JSON lines."""
    return "".join(json.dumps(found.as_json(), ensure_ascii=False) + "\n" for found in suggestions)


def word_table(suggestions: Sequence[Suggestion], tokens: float) -> Table:
    """The first words, with the share of the corpus's tokens that they and those above them save."""
    table = Table(title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.title = "Words that are worth a token, the most useful first"
    merges = any(found.merge is not None for found in suggestions)
    table.add_column("word", no_wrap=True)
    table.add_column("pieces", overflow="fold")
    for name in ("count", "saved", "so far", "spread", *(("merge",) if merges else ())):
        table.add_column(name, justify="right")
    table.add_column("defined")
    table.add_column("also", overflow="fold")
    shares = [saved / tokens for saved in accumulate(found.word.saved for found in suggestions)]
    for found, share in zip(suggestions[:ROWS], shares, strict=False):
        word = found.word
        table.add_row(
            escape(clipped(found.term.token)),
            escape(" ".join(word.pieces)),
            f"{word.count:,}",
            f"{word.saved:,}",
            f"{share:.2%}",
            f"{word.spread:.2f}",
            *((str(found.merge or ""),) if merges else ()),
            "yes" if found.term.definition else "",
            escape(", ".join(f"{form.family.spelled} {form.count:,}" for form in found.also[:ALSO])),
        )
    return table


def saved_chart(suggestions: Sequence[Suggestion], tokens: float) -> alt.Chart:
    """Share of the corpus's tokens that are saved, over the number of words added."""
    saved = [0, *accumulate(found.word.saved for found in suggestions)]
    names = ["", *(found.term.token for found in suggestions)]
    rows = [
        {"words": at, "share": share / tokens, "word": name}
        for at, (share, name) in enumerate(zip(saved, names, strict=True))
    ]
    return (
        alt.Chart(alt.Data(values=rows))
        .mark_line(point=len(rows) <= ROWS)
        .encode(
            x=alt.X("words:Q", title="words added"),
            y=alt.Y("share:Q", title="tokens saved", axis=alt.Axis(format=".1%")),
        )
        .properties(width=520, height=300)
    )


PLOTS: Mapping[str, Callable[[Mapping[str, Any]], bytes]] = {
    ".png": lambda spec: bytes(vl_convert.vegalite_to_png(dict(spec), scale=1.5)),
    ".svg": lambda spec: str(vl_convert.vegalite_to_svg(dict(spec))).encode(),
}
"""How a chart becomes a file, by its suffix."""
