from __future__ import annotations

from benchmarks.markdown import cell, table


def test_a_figure_stands_with_its_interval() -> None:
    found = {"mrr": 0.5, "mrr_interval": [0.41, 0.6], "median_rank": 1234.5, "median_rank_interval": [2, 3456.0]}
    assert cell(found, "mrr") == "0.500 [0.410, 0.600]"
    assert cell(found, "mrr", "+") == "+0.500 [+0.410, +0.600]"
    assert cell(found, "mrr", interval=False) == "0.500"
    assert cell(found, "median_rank") == "1,234 [2, 3,456]"


def test_what_there_is_not_leaves_its_cell_empty() -> None:
    assert cell({"mrr": None, "mrr_interval": None}, "mrr") == cell({}, "mrr") == ""


def test_a_table() -> None:
    assert table(["", "mrr"], [["a", "1"]]) == "|  | mrr |\n| --- | --- |\n| a | 1 |"
