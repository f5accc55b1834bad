from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.disease_data import read_records
from benchmarks.disease_related import ASKED, GROUPS, summarise
from benchmarks.disease_tables import figures_table
from contrastok.eval.questions import Answer, Question


def test_the_best_right_answer_counts() -> None:
    asked = ASKED["hard synonyms"]
    shown, unseen = (Answer(name, "hard_synonyms", True, counts) for name, counts in (("a", False), ("b", True)))
    questions = [Question("x", (shown, unseen)), Question("y", (unseen,)), Question("z", ())]
    ranks = {"split word": [{0: 1, 1: 20}, {0: 4}, {}], "trained": [{0: 2, 1: 1}, {0: 1}, {}]}
    groups = {group: summarise(ranks, questions, wanted, asked) for group, wanted in GROUPS.items()}
    split = {group: found["views"]["split word"] for group, found in groups.items()}
    assert {group: found["units"] for group, found in split.items()} == {
        "all": 2, "leak-free": 2, "in training texts": 1,
    }  # fmt: skip
    assert split["all"]["mrr"] == pytest.approx((1 + 1 / 4) / 2)
    assert split["leak-free"]["mrr"] == pytest.approx((1 / 20 + 1 / 4) / 2)
    assert (split["leak-free"]["acc@1"], split["leak-free"]["acc@10"]) == (0, 0.5)
    assert groups["leak-free"]["differences"]["trained - split word"]["acc@1"] == 1
    assert np.isclose(groups["in training texts"]["differences"]["trained - split word"]["mrr"], -0.5)
    text = figures_table(groups, asked.figures)
    assert "| in training texts | trained - split word | 1 | -1.000 [-1.000, -1.000] |" in text


def test_data_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="is missing: this benchmark reads public data"):
        read_records(tmp_path)
