from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from contrastok.eval.charts import charts
from contrastok.eval.data import ReportData
from contrastok.eval.html import HERE, count, figure, render, share
from contrastok.eval.relearned import relearned

from .conftest import UNPLACED


class Page(HTMLParser):
    """Elements of a page as a browser would see them: (tag, attributes), and the text of each script."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        tag, attributes = self.elements[-1] if self.elements else ("", {})
        if tag == "script" and self.cdata_elem == "script":
            self.scripts.append((attributes, data))
        else:
            self.text.append(data)


@pytest.fixture(scope="module")
def page(data: ReportData) -> Page:
    return Page(render(data))


@pytest.fixture(scope="module")
def own(data: ReportData) -> str:
    """The page without the bundle of Vega, which holds addresses that it never asks for."""
    return re.sub(r"<script nonce=\"\w+\">(?!\s*\"use strict\").*?</script>", "", render(data), flags=re.DOTALL)


def rows_of(page: Page) -> list[dict[str, Any]]:
    """What the page's script makes the table from."""
    [block] = [text for attributes, text in page.scripts if attributes.get("id") == "rows"]
    rows: list[dict[str, Any]] = json.loads(block)
    return rows


def columns_of(page: Page) -> list[str | None]:
    return [a["data-column"] for t, a in page.elements if t == "th" and "data-column" in a]


def test_nothing_is_loaded_from_elsewhere(page: Page, own: str) -> None:
    for tag, attributes in page.elements:
        assert "src" not in attributes, tag
        assert attributes.get("href", "#").startswith("#"), tag
        assert tag not in {"link", "iframe", "object", "embed", "base", "img"}
    assert not re.search(r"https?://|@import|\bfetch\(|XMLHttpRequest|url\(", own)


def test_the_policy_forbids_the_network_and_scripts_without_the_nonce(page: Page) -> None:
    [policy] = [a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    nonce = re.search(r"'nonce-(\w{32})'", policy or "")[1]
    assert "default-src 'none'" in policy and "connect-src" not in policy
    assert "base-uri 'none'" in policy and "form-action 'none'" in policy  # default-src does not govern these
    assert page.scripts and all(attributes["nonce"] == nonce for attributes, _ in page.scripts)


def test_hostile_terms_are_text_everywhere(page: Page, data: ReportData) -> None:
    # the rows, 4 charts, the bundle and the page's own script; a term that became markup would add a script or an image
    assert len(page.scripts) == 7
    assert not [a for _, a in page.elements if any(name.startswith("on") for name in a)]
    assert not [t for t, _ in page.elements if t == "img"]
    told = "".join(page.text)
    hostile, hostile_word = data.skipped[0].values()
    assert hostile in told and hostile_word in told
    blocks = [json.loads(text) for a, text in page.scripts if a.get("type") == "application/json"]
    assert hostile in json.dumps(blocks[1:]) and len(blocks) == 5


def test_the_scripts_make_no_markup_of_text() -> None:
    for file in ("page.js", "report.js", "two_runs.js"):
        source = (HERE / file).read_text(encoding="utf-8")
        assert "textContent" in source or "el(" in source
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b", source), file


def test_what_scrolls_is_a_named_region_that_the_keyboard_reaches(page: Page) -> None:
    found = [a for _, a in page.elements if a.get("class") == "scroll"]
    assert len(found) == 5 and all(
        a.get("role") == "region" and a["aria-label"] and a["tabindex"] == "0" for a in found
    )
    for file in ("report.js", "two_runs.js"):
        assert 'class: "scroll"' not in (HERE / file).read_text(encoding="utf-8"), file


def test_every_token_is_in_the_tables_data(page: Page, data: ReportData) -> None:
    rows = rows_of(page)
    assert [(r["token"], r["kind"]) for r in rows] == [(t.token, t.verdict) for t in data.per_token]
    first, told = data.per_token[0], rows[0]
    assert told["spaces"][0][0] == "encoded"
    assert told["spaces"][0][2] == [["cheese", 0.61], [first.neighbors[0].after[1].word, 0.5]]
    assert told["relations"][0] == ["grilling cheese", "synonym", True, [50, 10, 30, 8], None]
    assert told["basis"] == ["'cheese'", True, [50, 10, 30, 8]]
    assert told["examples"] == list(first.evidence.examples) and told["sentences"] == 3 and told["confidence"] == 0.4
    assert told["generated"] == 2
    assert columns_of(page) == [
        "token", "verdict", "pieces", "before", "after", "rank", "sure", "sentences", "norm", "move",
    ]  # fmt: skip
    # the far one; the unclear one; the one with nothing to lean on; those that are unsure, least sure first
    assert [a["href"] for t, a in page.elements if t == "a" and re.match(r"#t\d", a["href"])] == [
        "#t0", "#t2", "#t2", "#t2", "#t0",
    ]  # fmt: skip


def test_a_link_inside_the_page_has_a_target(page: Page) -> None:
    ids = {a["id"] for _, a in page.elements if "id" in a}
    assert {(a["href"] or "")[1:] for t, a in page.elements if t == "a" and not re.match(r"#t\d", a["href"])} <= ids


def test_known_words_show_what_confidence_stands_on(data: ReportData) -> None:
    section = re.search(r'<section id="relearned">.*?</section>', render(data), flags=re.DOTALL)[0]
    found = re.findall(r"<tr( class=\"strong\")?><th scope=\"row\">(.*?)</th>(.*?)</tr>", section)
    before, *tried = found[:3]
    assert before[0] == "" and before[1] == "before: as predicted" and "<td>0.550</td><td>0.400</td>" in before[2]
    assert [bool(strong) for strong, *_ in tried] == [False, True]
    assert tried[1][1] == "temperature 0.05, prior weight 0.03, steps 20, rate 0.1, noise 0"
    start, *pairs = found[3:]
    assert "<td>0.345</td>" in pairs[0][2] and "untold" not in section.split("</table>")[0]
    assert start[1] == "before: as the word stage placed them" and [bool(strong) for strong, *_ in pairs] == [True]
    assert pairs[0][1] == "rate 0.02, temperature 0.05, contrast weight 0.3, distill weight 5, word weight 4"
    assert "<td>31%</td><td>25%</td><td>80</td>" in section and "<td>92%</td><td>95%</td><td>80</td>" in section
    assert "3,000 known words, 400 kept out, recovered with MRR 0.550." in section
    assert "MRR 0.560 (ridge alone 0.510)" in section


def test_without_calibration_the_settings_are_told_all_the_same(data: ReportData) -> None:
    stage = dataclasses.replace(data.relearned.word_stage, trials=data.relearned.word_stage.trials[:1])
    untried = dataclasses.replace(data.relearned, word_stage=stage)
    text = render(dataclasses.replace(data, relearned=untried))
    assert "None was tried; those that were taken: (temperature 0.05, prior weight 0.03" in text


def test_where_no_word_stage_was_chosen_the_prediction_is_marked(data: ReportData) -> None:
    section = re.search(
        r'<section id="relearned">.*?</section>',
        render(dataclasses.replace(data, relearned=relearned(UNPLACED))),
        flags=re.DOTALL,
    )[0]
    marks = re.findall(r"<tr( class=\"strong\")?><th scope=\"row\">", section)[:3]
    assert [bool(mark) for mark in marks] == [True, False, False]
    assert "there was no word stage" in section and "steps 0" not in section


def test_rows_of_other_initialisers_have_neither_column_nor_section(unpredicted: ReportData) -> None:
    page = Page(render(unpredicted))
    assert len(columns_of(page)) == 9 and "sure" not in columns_of(page)
    assert not [a for _, a in page.elements if a.get("id") == "relearned"]
    assert len(page.scripts) == 6


def test_the_page_says_what_the_data_says(data: ReportData) -> None:
    text = render(data)
    for said in ("1 of 3 new tokens landed near", "exact search over 100 rows", "PCA over 7 points", "4e-05"):
        assert said in text
    assert render(data) == text


def test_the_legend_says_what_near_is_among(data: ReportData) -> None:
    assert "among up to 50 glossary names or" in render(data)
    bare = tuple(dataclasses.replace(token, relations=()) for token in data.per_token)
    assert "related names, among glossary names or" in render(dataclasses.replace(data, per_token=bare))


def test_without_a_map_and_a_curve_the_bundle_stays_out(data: ReportData) -> None:
    text = render(dataclasses.replace(data, points=(), training={"steps": 0, "pairs": 0}, relearned=None))
    assert "vegaEmbed=" not in text and 'id="chart-map"' not in text
    assert len(text) < 60_000


def test_curves_are_means_over_an_epoch_with_the_steps_behind_them(data: ReportData) -> None:
    curve = [{"step": at + 1, "loss": 8.0 if at % 5 == 3 else 3.0, "accuracy": 0.5} for at in range(10)]
    run = dataclasses.replace(data, training={**data.training, "curve": curve, "epoch_steps": 5})
    single, mean = charts(run)["loss"]["layer"]
    assert [row["value"] for row in single["data"]["values"]] == [point["loss"] for point in curve]
    assert [(row["step"], row["value"]) for row in mean["data"]["values"]] == [(at, 4.0) for at in range(3, 9)]
    assert "the mean of the 5 steps around each place, an epoch" in render(run)
    short = dataclasses.replace(data, training={**data.training, "curve": curve, "epoch_steps": 6})
    assert len(charts(short)["loss"]["layer"]) == 1 and "There is no line" in render(short)


def test_a_page_of_no_tokens_renders(data: ReportData) -> None:
    empty = dataclasses.replace(data, tokens=0, per_token=(), points=(), verdicts={"near": 0, "unclear": 0, "far": 0})
    assert "0 of 0 new tokens" in render(empty)


def test_numbers() -> None:
    assert [figure(v) for v in (None, 0.0, 0.0001, 0.1234)] == ["–", "0.000", "<0.001", "0.123"]
    assert [count(v) for v in (None, 3, 1234.0, 11.5)] == ["–", "3", "1,234", "11.5"]
    assert [share(v) for v in (None, 0.0, 0.874)] == ["–", "0%", "87%"]


def _luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2.1, definition of that name)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    """Of two colours (WCAG 2.1, definition of contrast ratio)."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _style() -> str:
    return (HERE / "page.css").read_text(encoding="utf-8")


def _palette(theme: str) -> dict[str, str]:
    palettes = re.findall(r":root \{(.*?)\}", _style(), flags=re.DOTALL)
    return dict(re.findall(r"--([\w-]+): (#\w{6});", palettes[theme == "dark"]))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_stands_out_from_its_ground(theme: str) -> None:
    """WCAG 2.1, 1.4.3: 4.5 to 1."""
    palette = _palette(theme)
    for text in ("text", "muted", "accent", "near", "unclear", "far"):
        for ground in ("page", "card"):
            assert _contrast(palette[text], palette[ground]) >= 4.5, (text, ground)
    for text in ("text", "muted", "near"):  # a neighbour, its cosine, and a neighbour that is related
        assert _contrast(palette[text], palette["bar"]) >= 4.5, text


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("control", ["input[type=search]", ".tools button"])
def test_the_border_of_a_control_is_seen(theme: str, control: str) -> None:
    """WCAG 2.1, 1.4.11: 3 to 1."""
    border = re.search(rf"^{re.escape(control)} {{.*?border: 1px solid var\(--(\w+)\)", _style(), flags=re.MULTILINE)
    palette = _palette(theme)
    assert all(_contrast(palette[border[1]], palette[ground]) >= 3 for ground in ("page", "card"))
