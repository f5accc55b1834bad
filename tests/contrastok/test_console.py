from __future__ import annotations

import sys
import unicodedata

import pytest
from rich.markup import escape
from rich.table import Table

from contrastok.cli import main
from contrastok.console import Console, shown
from contrastok.visible import visible

STEERING = ["\x00", "\x07", "\x1b", "\x7f", "\x9b", "\xad", "\u061c", "\u200b", "\u200e", "\u2028", "\u202e", "\u2066"]
STEERING += ["\u2069", "\ufeff", "\U000e0041", "\ud800"]


def test_no_character_that_steers_or_hides_is_left() -> None:
    shown_all = visible("".join(map(chr, range(sys.maxunicode + 1))))
    left = {c for c in shown_all if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert left == {"\u200c", "\u200d"}
    for text in (
        "halloumi",
        "\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\U0001f468\u200d\U0001f373",
        "a\u3000b",
        "zoe\u0301",
    ):
        assert visible(text) == text
    assert visible("a\nb\x1b", keep="\n") == "a\nb\\x1b"


@pytest.mark.parametrize("character", STEERING)
def test_terms_and_text_steer_no_terminal(character: str, capsys: pytest.CaptureFixture[str]) -> None:
    term = f"ab{character}cd"
    table = Table(title=escape(term))
    table.add_column(escape(term))
    table.add_row(escape(term))
    table.add_row(shown(term))
    console = Console()
    console.print(f"[bold]{escape(term)}[/]", table)
    console.print(f"[green]{escape(term)}[/]")
    printed = capsys.readouterr().err
    assert printed.count(visible(term)) == 6 and character not in printed
    assert (
        len({len(line) for line in printed.splitlines() if line.startswith(("\u2502", "\u2503"))}) == 1
    )  # room for it


def test_nor_do_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["suggest", "--corpus", "no\u202ewhere\x1b[2J.txt"]) == 2
    told = capsys.readouterr().err
    assert r"no\u202ewhere\x1b[2J.txt: no such file or folder" in told and "\n  -> " in told
