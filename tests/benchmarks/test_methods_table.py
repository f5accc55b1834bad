"""Parts of the table of methods, joined."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.methods_table import join, main


def line(method: str, mrr: float) -> dict[str, Any]:
    views = {"initial": {"units": 200, "mrr": mrr}, "trained": {"units": 200, "mrr": mrr + 0.1}}
    return {"method": method, "cost": {"times_first": 1.0, "peak_mb": 100 * mrr}, "recovery": views}


def part(*lines: dict[str, Any]) -> dict[str, Any]:
    asked = {"steps": 40, "terms": 300, "hidden": 200, "queries": 100, "donor": True, "versions": {"torch": "2"}}
    return {**asked, "lines": list(lines)}


def test_lines_of_all_parts_in_the_order_of_compare() -> None:
    parts = [part(line("default", 0.5), line("two-stage", 0.5)), part(line("default", 0.5), line("init=zero", 0.1))]
    lines, apart = join(parts)
    assert [found["method"] for found in lines] == ["default", "init=zero", "two-stage"]
    assert apart == {"default": 0.0}


def test_how_far_apart_is_told_without_what_machines_differ_by() -> None:
    first, second = part(line("default", 0.5)), part(line("default", 0.502))
    lines, apart = join([first, second])
    assert lines == first["lines"]
    assert apart["default"] == pytest.approx(0.002)


def test_a_figure_that_one_part_lacks_is_far_apart() -> None:
    first, second = part(line("default", 0.5)), part(line("default", 0.5))
    del second["lines"][0]["recovery"]["trained"]
    assert join([first, second])[1]["default"] > 1


def test_parts_of_different_runs_are_refused() -> None:
    first = part(line("default", 0.5))
    second = copy.deepcopy(first) | {"steps": 100}
    with pytest.raises(ValueError, match="steps"):
        join([first, second])


def test_a_part_without_the_default_is_refused() -> None:
    with pytest.raises(ValueError, match="default"):
        join([part(line("init=zero", 0.1))])


def test_seconds_of_different_machines_stand_in_no_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = [part(line("default", 0.5), line("two-stage", 0.5)), part(line("default", 0.5), line("lora", 0.1))]
    for seconds, (path, told) in enumerate(zip((tmp_path / "a", tmp_path / "b"), parts, strict=True), 100):
        for found in told["lines"]:
            found["cost"]["cpu_seconds"] = seconds
        path.write_text(json.dumps(told))
    monkeypatch.setattr("sys.argv", ["methods_table", str(tmp_path / "a"), str(tmp_path / "b")])
    main()
    told_us = capsys.readouterr().out
    assert "CPU s" not in told_us and "CPU time, to the first" in told_us
    assert "default: 0.0e+00 apart" in told_us
