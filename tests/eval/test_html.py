from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from contrastok.eval.data import ReportData
from contrastok.eval.html import count, figure, render, share, signed
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
    assert page.scripts and all(attributes["nonce"] == nonce for attributes, _ in page.scripts)


def test_hostile_terms_are_text_everywhere(page: Page, data: ReportData) -> None:
    # 4 charts, the bundle and the page's own script; a term that became markup would add a script or an image
    assert len(page.scripts) == 6
    assert not [a for _, a in page.elements if any(name.startswith("on") for name in a)]
    assert not [t for t, _ in page.elements if t == "img"]
    told = "".join(page.text)
    hostile, hostile_word = data.skipped[0].values()
    assert hostile in told and hostile_word in told
    blocks = [json.loads(text) for a, text in page.scripts if a.get("type") == "application/json"]
    assert hostile in json.dumps(blocks) and len(blocks) == 4


def test_every_token_has_a_row_that_search_and_sorting_can_use(page: Page, data: ReportData) -> None:
    bodies = [a for t, a in page.elements if t == "tbody" and "data-token" in a]
    assert [b["data-token"] for b in bodies] == [t.token for t in data.per_token]
    assert [b["data-verdict"] for b in bodies] == [t.verdict for t in data.per_token]
    cells = [a["data-key"] for t, a in page.elements if "data-key" in a]
    assert len(cells) == 10 * len(bodies)
    assert [a for t, a in page.elements if a.get("type") == "search"]
    assert len([a for t, a in page.elements if t == "th" and (a.get("class") or "").startswith("c-")]) == 10
    # the far one; the one with nothing to lean on; those that are unsure, least sure first
    assert [a["href"] for t, a in page.elements if t == "a"] == ["#t0", "#t2", "#t2", "#t0"]


def test_confidence_is_a_column_that_sorts_by_number(page: Page, data: ReportData) -> None:
    sure = [a for t, a in page.elements if t == "td" and (a.get("class") or "").startswith("c-sure")]
    assert [float(a["data-key"] or "") for a in sure] == [t.confidence for t in data.per_token]
    assert all("data-number" in a for a in sure)
    told = " ".join("".join(page.text).split())
    assert told.count("nothing to lean on") == 1
    assert "Sure to 20%. The first row was predicted from the spelling alone" in told
    assert "Sure to 90%. The first row was predicted from the spelling, the definition and the sentences." in told


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
    assert len([a for t, a in page.elements if "data-key" in a]) == 9 * len(unpredicted.per_token)
    assert not [a for _, a in page.elements if "c-sure" in (a.get("class") or "") or a.get("id") == "relearned"]
    assert len(page.scripts) == 5


def test_the_page_says_what_the_data_says(data: ReportData) -> None:
    text = render(data)
    for said in ("1 of 3 new tokens landed near", "exact search over 100 rows", "PCA over 7 points", "4e-05"):
        assert said in text
    assert render(data) == text


def test_without_a_map_and_a_curve_the_bundle_stays_out(data: ReportData) -> None:
    text = render(dataclasses.replace(data, points=(), training={"steps": 0, "pairs": 0}, relearned=None))
    assert "vegaEmbed=" not in text and 'id="chart-map"' not in text
    assert len(text) < 60_000


def test_a_page_of_no_tokens_renders(data: ReportData) -> None:
    empty = dataclasses.replace(data, tokens=0, per_token=(), points=(), verdicts={"near": 0, "unclear": 0, "far": 0})
    assert "0 of 0 new tokens" in render(empty)


def test_numbers() -> None:
    assert [figure(v) for v in (None, 0.0, 0.0001, 0.1234)] == ["–", "0.000", "<0.001", "0.123"]
    assert [count(v) for v in (None, 3, 1234.0, 11.5)] == ["–", "3", "1,234", "11.5"]
    assert [share(v) for v in (None, 0.0, 0.874)] == ["–", "0%", "87%"]
    assert [signed(v) for v in (-0.01, 1.26, -2.0)] == ["+0.0", "+1.3", "-2.0"]


def test_a_browser_draws_it_without_an_error(data: ReportData, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium")
    (tmp_path / "report.html").write_text(render(data), encoding="utf-8")
    done = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--enable-logging=stderr",
            "--virtual-time-budget=5000",
            "--dump-dom",
            (tmp_path / "report.html").as_uri() + "#t0",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in done.stderr, done.stderr
    assert len(re.findall(r'<svg[^>]* class="marks"', done.stdout)) == 4
    assert 'aria-expanded="true"' in done.stdout
