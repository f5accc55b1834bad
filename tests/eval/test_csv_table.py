from __future__ import annotations

import csv
from pathlib import Path

import pytest

from contrastok.eval.csv_table import emit_csv


@pytest.mark.parametrize("text", ["=cmd()", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "a\r=1"])
def test_no_text_is_a_formula_to_a_spreadsheet(text: str, tmp_path: Path) -> None:
    emit_csv([{"token": text, "norm_z": -1.5, "reason": "a = b", "rank": None}], tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as file:
        [line] = csv.DictReader(file)
    assert line == {"token": ("" if text[0] == "a" else "'") + text.replace("\r", " ")} | {
        "norm_z": "-1.5", "reason": "a = b", "rank": "",
    }  # fmt: skip
