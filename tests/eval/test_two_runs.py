from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contrastok.cli import main
from contrastok.eval.data import Ranks, ReportData, TokenReport
from contrastok.eval.html import render_two
from contrastok.eval.two_runs import compare_runs, headline, sections, verdict_table

Change = Callable[[TokenReport], TokenReport]


def with_tokens(data: ReportData, change: Change) -> ReportData:
    return dataclasses.replace(data, per_token=tuple(change(token) for token in data.per_token))


def ranked(data: ReportData, rank: int, of: int = 50, relations: int = 4) -> ReportData:
    """The report with so many held-out relations a token, all at one rank."""

    def change(token: TokenReport) -> TokenReport:
        first = dataclasses.replace(token.relations[0], glossary=Ranks(of, 20, rank, 9))
        names = [dataclasses.replace(first, name=f"name {i}") for i in range(relations)]
        return dataclasses.replace(token, relations=tuple(names))

    return with_tokens(data, change)


def told(runs: Any) -> str:
    return " ".join(str(s) for part in sections(runs).values() for s in part)


def test_a_verdict_that_changed_is_counted_and_comes_first(data: ReportData) -> None:
    def turn(token: TokenReport) -> TokenReport:
        return dataclasses.replace(
            token, verdict={"near": "far", "far": "unclear", "unclear": "unclear"}[token.verdict]
        )

    runs = compare_runs(data, with_tokens(data, turn))
    assert [(pair.token, pair.change) for pair in runs.tokens] == [
        ("halloumi", "worse"), (data.per_token[0].token, "better"), ("skyr", "same"),
    ]  # fmt: skip
    assert headline(runs).startswith("Of 3 tokens of both runs the second places 1 better and 1 worse; 1 has")
    assert verdict_table(runs) == [("near", [0, 0, 1]), ("unclear", [0, 1, 0]), ("far", [0, 1, 0])]


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [(9, 1, "The second run is better."), (1, 9, "The second run is worse."), (3, 3, "No measurable difference.")],
)
def test_held_out_names_of_both_decide(data: ReportData, first: int, second: int, said: str) -> None:
    runs = compare_runs(ranked(data, first), ranked(data, second))
    assert said in told(runs) and f"is {1 / first:.3f} in the first and {1 / second:.3f} in the second" in told(runs)
    assert runs.relations["change"]["mrr"] == pytest.approx(1 / second - 1 / first)


def test_ranks_among_other_names_are_not_compared(data: ReportData) -> None:
    runs = compare_runs(ranked(data, 9), ranked(data, 1, of=51))
    assert runs.relations["first"]["count"] == 0 and "too few to tell" in told(runs)


def test_names_that_one_run_was_trained_with_are_not_compared(data: ReportData) -> None:
    def seen(token: TokenReport) -> TokenReport:
        return dataclasses.replace(
            token, relations=tuple(dataclasses.replace(r, held_out=False) for r in token.relations)
        )

    assert compare_runs(ranked(data, 9), with_tokens(ranked(data, 1), seen)).relations["first"]["count"] == 0


def test_what_was_different_is_said(data: ReportData) -> None:
    other = dataclasses.replace(
        data,
        per_token=data.per_token[:2],
        training={**data.training, "options": {**data.training["options"], "learning_rate": None, "seed": 1}},
        frozen={**data.frozen, "sha256_after": "bb"},
        base_model={**data.base_model, "frozen_sha256": "1"},
    )
    text = told(compare_runs(data, other))
    assert "learning rate (4e-05, default), seed (default, 1)." in text and "Only in the first run: skyr." in text
    assert "different base models" in text and "The second run changed old weights." in text
    assert "Both runs had the same options." in told(compare_runs(data, data))


def test_the_page_holds_both_runs_and_no_markup_of_theirs(data: ReportData) -> None:
    page = render_two(compare_runs(data, data))
    hostile = data.per_token[0].token
    assert hostile not in page and page.count("<script") == 2 and "vegaEmbed=" not in page
    rows = json.loads(page.split('id="rows"')[1].split(">", 1)[1].split("</script>")[0])
    assert [row["token"] for row in rows].count(hostile) == 1 and rows[0]["shared"] == 2
    assert rows[0]["relations"][0] == ["grilling cheese", "synonym", True, [50, 10, 30, 8], [50, 10, 30, 8]]


def test_the_command_compares_two_checkpoints(
    make_checkpoint: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = make_checkpoint(copied={"halloumi": "cheese", "kimchiq": "bread"})
    second = make_checkpoint(copied={"halloumi": "water", "kimchiq": "bread"})
    out, table, file = tmp_path / "runs.html", tmp_path / "runs.csv", tmp_path / "runs.json"
    assert main(["report", str(first), str(second), *map(str, ("--out", out, "--csv", table, "--json", file))]) == 0
    summary = json.loads(file.read_text())
    assert summary["models"] == [str(first), str(second)] and summary["tokens"] == 2
    by_token = {token["token"]: token for token in summary["per_token"]}
    assert by_token["kimchiq"]["shared_neighbors"] == 10 and by_token["kimchiq"]["change"] == "same"
    assert by_token["halloumi"]["neighbors"][0][0] == "cheese" and by_token["halloumi"]["neighbors"][1][0] == "water"
    assert table.read_text().splitlines()[0].startswith("token,change,shared_neighbors,first_verdict,")
    assert "Of 2 tokens of both runs" in out.read_text() and "Of 2 tokens" in capsys.readouterr().err
