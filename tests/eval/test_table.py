from __future__ import annotations

import dataclasses

from rich.console import Console

from contrastok.eval.data import ReportData
from contrastok.eval.table import summary_lines, token_table


def _printed(*renderables: object) -> str:
    console = Console(width=160, record=True, quiet=False, file=None)
    with console.capture() as captured:
        for renderable in renderables:
            console.print(renderable)
    return captured.get()


def test_one_line_a_token_with_markup_as_text(data: ReportData) -> None:
    odd = dataclasses.replace(data.per_token[1], token="[bold]x[/]")
    lines = _printed(token_table(dataclasses.replace(data, per_token=(odd, *data.per_token[:2])))).splitlines()
    assert len(lines) == 2 + 3
    assert "[bold]x[/]" in lines[2]
    assert "20 -> 1" in lines[2] and "near" in lines[2]


def test_no_character_of_a_term_steers_the_terminal(data: ReportData) -> None:
    odd = dataclasses.replace(data.per_token[1], token="ab\u202ecd\x1b[2J", pieces=("a\u2066b",))
    whole = dataclasses.replace(data, per_token=(odd, *data.per_token[:2]))
    printed = _printed(token_table(whole), *summary_lines(whole))
    assert r"ab\u202ec" in printed and r"a\u2066b" in printed
    assert printed.replace("\n", "").isprintable()


def test_many_tokens_are_cut_to_the_worst(data: ReportData) -> None:
    many = dataclasses.replace(data, tokens=100, per_token=data.per_token[:1] * 100)
    printed = _printed(token_table(many))
    assert "The 40 worst of 100 tokens" in printed
    assert len(printed.splitlines()) == 42


def test_confidence_has_a_column_where_rows_were_predicted(data: ReportData, unpredicted: ReportData) -> None:
    header, first, *_ = _printed(token_table(data)).splitlines()[1:]
    assert header.split()[-2:] == ["sure", "sent."] and first.split()[-2:] == ["40%", "3"]
    assert "sure" not in _printed(token_table(unpredicted)).splitlines()[1]


def test_the_summary_is_the_pages(data: ReportData) -> None:
    printed = _printed(*summary_lines(data))
    assert "1 of 3 new tokens landed near" in printed
    assert "exact search over 100 rows" in printed


def test_long_names_and_controls_of_direction_do_not_reach_the_table(data: ReportData) -> None:
    odd = dataclasses.replace(data.per_token[1], token="ab\u202ecd" + "x" * 300)
    [name, *_] = next(iter(token_table(dataclasses.replace(data, per_token=(odd,))).columns)).cells
    assert str(name) == r"ab\u202ecd" + "x" * 29 + "…"
