"""The pages in a real Chromium: one start for each page, driven by a script that is put into it."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from contrastok.eval.data import Evidence, MapPoint, Neighbor, ReportData
from contrastok.eval.html import render, render_two
from contrastok.eval.map2d import TOKENS
from contrastok.eval.two_runs import compare_runs

MANY = 10_000
"""Tokens of the page."""

TOOLS = """
const result = {}, at = id => document.getElementById(id), rows = () => [...document.querySelectorAll("#table .row")];
const tokens = () => rows().map(row => row.querySelector("button").textContent);
const type = text => { at("search").value = text; at("search").dispatchEvent(new Event("input")); };
const until = async done => { for (let i = 0; i < 200 && !done(); i++) await new Promise(go => setTimeout(go, 20)); };
const hostile = () => document.querySelectorAll("img, iframe, script:not([nonce])").length;
const nameless = () => [...document.querySelectorAll("a, button, input, [role=img], [role=region], nav, table")].filter(
  found => !(found.getAttribute("aria-label") || found.textContent.trim() || found.closest("label"))).length;
const press = key => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
const tabbed = () => [...document.querySelectorAll("a[href], button, input, summary, [tabindex]")].filter(
  found => !found.disabled && found.tabIndex >= 0 && found.checkVisibility());
"""
"""What the scripts of the tests share."""
DARK = "--blink-settings=preferredColorScheme=0"
"""The flag with which Chromium tells a page that its reader wants it dark."""
FRAME = '<!doctype html><style>body {{margin: 0}}</style><iframe src="page.html" width={} height=900 frameborder=0></iframe>'
"""The page in a frame, because Chromium makes no window narrower than 500 pixels."""


@pytest.fixture(scope="module")
def browse(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """A function (page, script, width, flags) -> `result` as the script left it; any other word of the console fails."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium")

    def run(page: str, script: str, width: int = 1200, flags: tuple[str, ...] = ()) -> dict[str, Any]:
        folder = tmp_path_factory.mktemp("browser")
        nonce = re.search(r"'nonce-(\w+)'", page)[1]
        driven = f"(async () => {{ {TOOLS} {script}; console.log('RESULT' + JSON.stringify(result) + 'END'); }})();"
        body, end, rest = page.rpartition("</body>")
        (folder / "page.html").write_text(
            f'{body}<script nonce="{nonce}">{driven}</script>{end}{rest}', encoding="utf-8"
        )
        (folder / "frame.html").write_text(FRAME.format(width), encoding="utf-8")
        done = subprocess.run(
            [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
                "--disable-background-networking", "--disable-component-update", f"--user-data-dir={folder / 'profile'}",
                "--enable-logging=stderr", "--virtual-time-budget=8000", "--window-size=1200,900",
                f"--screenshot={folder / 'page.png'}", *flags, (folder / "frame.html").as_uri(),
            ],
            capture_output=True, text=True, timeout=300, check=True,
        )  # fmt: skip
        told = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
        assert len(told) == 1 and "RESULT" in told[0], "\n".join(told) or done.stderr
        result: dict[str, Any] = json.loads(re.search(r"RESULT(.*)END", told[0])[1])
        return result

    return run


@pytest.fixture(scope="module")
def many(data: ReportData) -> ReportData:
    """The made-up report with as many tokens as anybody would add, and a map with as many as it draws."""
    tokens = data.per_token + tuple(
        dataclasses.replace(data.per_token[1 + i % 2], token=f"token{i:05d}") for i in range(MANY - 3)
    )
    places = [(token.token, at % 40, at // 40) for at, token in enumerate(tokens[3 : TOKENS + 3])]
    points = [point for point in data.points if point.when == "vocabulary"]
    points += [MapPoint(word, "before", x + 0.4, y + 0.4) for word, x, y in places]
    points += [MapPoint(word, "after", float(x), float(y)) for word, x, y in places]
    verdicts = {"near": 5000, "unclear": 4999, "far": 1}
    return dataclasses.replace(data, per_token=tokens, tokens=MANY, verdicts=verdicts, points=tuple(points))


def test_ten_thousand_tokens_are_searched_sorted_turned_and_opened(
    browse: Callable[..., dict[str, Any]], many: ReportData
) -> None:
    result = browse(
        render(many),
        """
        await until(() => document.querySelectorAll("svg.marks").length === 4);
        result.charts = document.querySelectorAll("svg.marks").length;
        result.elements = document.querySelectorAll("main *:not(svg *)").length;
        result.first = [rows().length, at("shown").textContent, at("place").textContent, at("previous").disabled];
        const marks = [...document.querySelectorAll("#chart-map .mark-symbol path")].filter(
          found => found.__data__?.datum?.token?.startsWith("token"));
        const asked = marks.findLast(found => found.__data__.datum.token === "token00500");
        asked.dispatchEvent(new PointerEvent("pointermove", {bubbles: true, clientX: 9, clientY: 9}));
        await until(() => document.querySelector("#vg-tooltip-element.visible"));
        result.map = [marks.length, document.querySelector("#vg-tooltip-element").textContent.includes("token00500")];
        at("next").click();
        result.second = [tokens()[0], at("place").textContent, at("previous").disabled];
        const fastest = work => Math.min(...[1, 2, 3, 4].map(() => {
          const began = performance.now();
          work();
          return performance.now() - began;
        }));
        result.milliseconds = [fastest(() => at("next").click()), fastest(() => type("token 7")),
          fastest(() => document.querySelector("th[data-column=verdict] button").click())];
        document.querySelector("th[data-column=verdict] button").click();
        type("TOKEN00042 grilling");
        result.found = [tokens(), at("shown").textContent, at("pager").hidden];
        type("no such word");
        result.nothing = [rows().length, at("nothing").hidden];
        type("");
        const [far, unclear, near] = document.querySelectorAll("input[data-kind]");
        near.click(); unclear.click();
        result.far = tokens();
        near.click(); unclear.click();
        const head = name => document.querySelector(`th[data-column=${name}]`);
        head("sure").firstElementChild.click();
        result.unsure = [tokens()[0], head("sure").getAttribute("aria-sort")];
        head("token").firstElementChild.click(); head("token").firstElementChild.click();
        result.last = [tokens()[0], head("token").getAttribute("aria-sort"), head("sure").getAttribute("aria-sort")];
        location.hash = "#t9999";
        await until(() => document.activeElement.closest("[data-at='9999']"));
        const opened = document.querySelector("[data-at='9999']");
        result.opened = [opened.querySelector("button").getAttribute("aria-expanded"), opened.rows[1].hidden];
        result.focus = document.activeElement.textContent;
        location.hash = "#t0";
        await until(() => document.activeElement.closest("[data-at='0']"));
        result.detail = at("d0").textContent;
        result.marked = [...at("d0").querySelectorAll(".related, .fresh")].map(found => found.firstChild.textContent);
        const region = at("d0").querySelector(".scroll");
        region.focus();
        press("ArrowDown"); press("ArrowUp");
        result.scrolls = document.activeElement === region;
        press("Escape");
        result.closed = [at("d0").hidden, document.activeElement.closest("[data-at='0']") !== null];
        rows()[0].querySelector("button").focus();
        press("ArrowDown"); press("ArrowDown"); press("ArrowUp");
        result.arrows = [rows().findIndex(row => row.contains(document.activeElement))];
        press("ArrowUp"); press("ArrowUp");
        result.arrows.push(rows().findIndex(row => row.contains(document.activeElement)));
        const order = tabbed();
        result.places = [at("search"), head("token").firstElementChild, rows()[0].querySelector("button"),
          rows()[1].querySelector("button"), at("previous")].map(found => order.indexOf(found));
        result.jumps = order.filter(found => found.tabIndex > 0).length;
        result.hostile = hostile(); result.nameless = nameless();
        """,
    )
    hostile = many.per_token[0].token
    assert result["charts"] == 4 and result["elements"] < 2500
    turning, *others = result["milliseconds"]  # to turn a page draws fifty rows, however many there are
    assert max(others) < 20 * turning
    assert result["map"] == [3 * TOKENS, True]  # where it began, where it is, and the head of the arrow
    assert result["first"] == [50, "10,000 shown", "Page 1 of 200", True]
    assert result["second"] == ["token00047", "Page 2 of 200", False]
    assert result["found"] == [["token00042"], "1 shown", True] and result["nothing"] == [0, False]
    assert result["far"] == [hostile]
    assert result["unsure"] == ["skyr", "ascending"] and result["last"] == ["token09996", "descending", None]
    assert result["opened"] == ["true", False] and result["focus"] == "token09996"
    assert f"A {hostile} sentence." in result["detail"] and "10 → 30 of 50" in result["detail"]
    assert "predicted from the spelling and the definition." in result["detail"]
    assert result["marked"].count(many.per_token[0].relations[1].name) == 3
    assert result["scrolls"] and result["closed"] == [True, True] and result["arrows"] == [1, 0]
    assert min(result["places"]) > -1 and result["places"] == sorted(result["places"]) and result["jumps"] == 0
    assert result["hostile"] == 0 and result["nameless"] == 0


def test_a_narrow_window_shows_everything_without_scrolling_sideways(
    browse: Callable[..., dict[str, Any]], data: ReportData
) -> None:
    once = dataclasses.replace(data.per_token[0], evidence=Evidence(sentences=1, negatives=1))
    result = browse(
        render(dataclasses.replace(data, per_token=(once, *data.per_token[1:]))),
        """
        await until(() => document.querySelectorAll("svg.marks").length === 4);
        rows().forEach(row => row.click());
        result.widths = [document.documentElement.scrollWidth, innerWidth];
        const open = [...document.querySelectorAll(".detail")].filter(detail => !detail.hidden);
        result.opened = open.length;
        const edge = document.getElementById("table").parentElement.getBoundingClientRect().right;
        result.beyond = open.flatMap(detail => [...detail.querySelectorAll("td > *, .spaces, .sides, .words")]).filter(
          found => !found.closest(".relations") && found.getBoundingClientRect().right > edge + 1).length;
        result.regions = [...document.querySelectorAll(".scroll")].filter(
          found => found.tabIndex < 0 || !found.getAttribute("aria-label")).length;
        result.bold = [...rows()[0].querySelectorAll(".c-after b")].map(found => found.textContent);
        result.evidence = open[0].textContent;
        """,
        width=360,
    )
    wide, window = result["widths"]
    assert window == 360 and wide <= window and result["opened"] == 3
    assert result["beyond"] == 0 and result["regions"] == 0
    assert result["bold"] == [once.neighbors[0].after[1].word]  # the one that was no neighbour before training
    assert "1 sentence;" in result["evidence"] and "1 negative." in result["evidence"]


def test_a_term_of_300_characters_stays_inside_the_page_and_the_map(
    browse: Callable[..., dict[str, Any]], data: ReportData
) -> None:
    far = dataclasses.replace(data.per_token[0], token="zq" * 150, definition="z" * 300, relations=())
    turned = dataclasses.replace(data.per_token[1], token="abc\u202edef")
    mended = {
        "per_token": (far, turned, data.per_token[2]),
        "skipped": ({"term": "y" * 300, "reason": "x" * 300},),
        "points": (
            MapPoint(far.token, "before", 8.0, 1.5),
            MapPoint(far.token, "after", 9.0, 2.0),
            MapPoint(turned.token, "after", 0.0, 0.0),
            MapPoint("w" * 300, "vocabulary", 3.0, 1.0),
        ),
    }
    result = browse(
        render(dataclasses.replace(data, **mended)),
        """
        await until(() => document.querySelectorAll("svg.marks").length === 4);
        rows().forEach(row => row.click());
        result.widths = [document.documentElement.scrollWidth, innerWidth];
        result.beyond = [...document.querySelectorAll(".summary li, .summary a, dt, dd, h1, .row th")].filter(
          found => found.checkVisibility() && found.getBoundingClientRect().right > innerWidth + 1).length;
        const link = [...document.querySelectorAll(".summary a")].find(found => found.textContent.startsWith("zq"));
        result.link = [link.textContent, link.title.length];
        const box = document.querySelector("#chart-map svg").getBoundingClientRect();
        const labels = [...document.querySelectorAll("#chart-map .mark-text text")].filter(
          found => found.textContent && !found.closest(".role-legend"));
        result.cut = labels.filter(found => found.getBoundingClientRect().right > box.right + 1 ||
          found.getBoundingClientRect().left < box.left - 1).map(found => found.textContent);
        result.labels = labels.map(found => found.textContent).sort();
        result.turning = labels.filter(found => /[\u202a-\u202e]/.test(found.textContent)).length;
        """,
        width=400,
    )
    wide, window = result["widths"]
    assert window == 400 and wide <= window and result["beyond"] == 0
    assert result["link"] == ["zq" * 19 + "z…", 300]
    assert result["labels"] == [r"abc\u202edef", "w" * 23 + "…", "zq" * 11 + "z…"]
    assert result["cut"] == [] and result["turning"] == 0


def test_two_runs_are_sorted_searched_and_opened(browse: Callable[..., dict[str, Any]], data: ReportData) -> None:
    *others, skyr = data.per_token
    hoods = tuple(dataclasses.replace(hood, after=(Neighbor("yogurt", 0.7), hood.after[0])) for hood in skyr.neighbors)
    better = dataclasses.replace(skyr, verdict="near", neighbors=hoods)
    runs = compare_runs(data, dataclasses.replace(data, per_token=(*others, better)))
    result = browse(
        render_two(runs),
        """
        result.first = [tokens(), at("shown").textContent];
        result.kinds = rows().map(row => row.querySelector(".c-change").textContent);
        result.sorted = Object.fromEntries([...document.querySelectorAll("th[data-column]")].map(head => {
          head.firstElementChild.click();
          const up = tokens();
          head.firstElementChild.click();
          return [head.dataset.column, [up, tokens(), head.getAttribute("aria-sort")]];
        }));
        type("yogurt");
        result.found = tokens();
        type("");
        rows().forEach(row => row.querySelector("button").click());
        result.opened = rows().map(row => row.nextElementSibling.hidden);
        result.expanded = rows().map(row => row.querySelector("button").getAttribute("aria-expanded"));
        result.detail = at("d0").textContent;
        result.fresh = ["d0", "d1"].map(id => [...at(id).querySelectorAll("li.fresh")].map(
          found => found.firstChild.textContent));
        result.hostile = hostile(); result.nameless = nameless();
        """,
    )
    hostile, near = (token.token for token in others)
    assert result["first"] == [["skyr", hostile, near], "3 shown"] and result["kinds"] == ["better", "same", "same"]
    assert len(result["sorted"]) == 11 and {told for *_, told in result["sorted"].values()} == {"descending"}
    orders = {name: result["sorted"][name][:2] for name in ("token", "verdict-first", "verdict-second", "shared")}
    assert orders["token"] == [[hostile, near, "skyr"], ["skyr", near, hostile]]
    assert orders["verdict-first"] == [[hostile, "skyr", near], [near, "skyr", hostile]]
    assert orders["verdict-second"][0][0] == hostile and orders["shared"][0][0] == "skyr"
    assert result["found"] == ["skyr"]
    assert result["opened"] == [False] * 3 and result["expanded"] == ["true"] * 3
    assert "first rununclear: skyr ranks somewhere." in result["detail"] and "second runnear: " in result["detail"]
    assert result["fresh"] == [[skyr.neighbors[0].after[1].word, "yogurt"], []]  # what one run shows alone
    assert result["hostile"] == 0 and result["nameless"] == 0


def test_a_reader_who_wants_it_dark_gets_it_dark(browse: Callable[..., dict[str, Any]], data: ReportData) -> None:
    script = """
        result.dark = matchMedia("(prefers-color-scheme: dark)").matches;
        result.ground = getComputedStyle(document.body).backgroundColor;
        """
    plain = dataclasses.replace(data, points=(), training={"steps": 0, "pairs": 0}, relearned=None)
    assert browse(render(plain), script, flags=(DARK,)) == {"dark": True, "ground": "rgb(20, 24, 22)"}
    assert browse(render(plain), script) == {"dark": False, "ground": "rgb(251, 251, 249)"}
