from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.recovery import DEFAULT, OBJECTIVES, lines_of, markdown, reliability_markdown, told_and_landed
from contrastok.config import TrainConfig

ROWS = ("pieces mean", "initial", "trained", "oracle")
RANKS = {"ant": 1, "bee": 4, "cow": 40}


def result(**more: Any) -> dict[str, Any]:
    def views(value: Any) -> dict[str, dict[str, Any]]:
        return {"rows": dict.fromkeys(ROWS, value), "encoded": dict.fromkeys(("split word", *ROWS), value)}

    return {
        "words": [
            {"token": word, "ranks": views(rank), "overlaps": views(0.5), "related": views(1), **more}
            for word, rank in RANKS.items()
        ]
    }


@pytest.fixture
def lines() -> dict[str, dict[str, Any]]:
    drawn = {1: ["ant", "bee"], 2: ["bee", "cow", "emu"]}  # the emu got no token
    return {line["name"]: line for line in lines_of(drawn, dict.fromkeys(OBJECTIVES, result()))}


def test_a_word_that_two_seeds_drew_counts_once(lines: dict[str, dict[str, Any]]) -> None:
    for name in (DEFAULT, "initial row: predictor", "pieces mean"):
        assert lines[name]["rows"]["units"] == len(RANKS)
        assert lines[name]["rows"]["mrr"] == pytest.approx(np.mean([1 / rank for rank in RANKS.values()]))
        assert lines[name]["related"]["encoded"]["units"] == len(RANKS)


def test_each_seed_has_its_own_words(lines: dict[str, dict[str, Any]]) -> None:
    assert lines[f"{DEFAULT}, seed 1"]["rows"]["mrr"] == pytest.approx((1 + 1 / 4) / 2)
    assert lines[f"{DEFAULT}, seed 2"]["rows"]["mrr"] == pytest.approx((1 / 4 + 1 / 40) / 2)


def test_what_a_line_lacks_stands_empty(lines: dict[str, dict[str, Any]]) -> None:
    table = {row.split(" | ")[0].strip("| "): row.split(" | ") for row in markdown(list(lines.values())).splitlines()}
    assert len({len(row) for row in table.values()}) == 1
    assert table["split word"][1:7] == [""] * 6 and table["split word"][7].startswith("0.425 [")
    assert table[DEFAULT][6].startswith("0.000 [") and table["initial row: predictor"][6] == ""


def test_confidence_stands_against_what_landed() -> None:
    confidence, landed = told_and_landed(result(confidence=0.75))
    assert landed.tolist() == [True, True, False] and confidence.tolist() == [0.75] * 3
    confidence = np.array([0.1, 0.69, 0.7, 0.8, 0.9, 0.91, 0.95, 0.95, 0.99, 0.99])
    landed = np.array([False, False, True, True, False, True, True, True, True, True])
    text = reliability_markdown(confidence, landed)
    assert "| 0.395 | 0.000 | 2 |\n| 0.750 | 1.000 | 2 |\n| 0.905 | 0.500 | 2 |" in text
    assert text.endswith(
        "\n\nof the 3 words said to be within rank 10 with confidence 0.7-0.9 (mean 0.800), 0.667 landed"
    )
    assert reliability_markdown(confidence[:2], landed[:2]).endswith(
        "of the 0 words said to be within rank 10 with confidence 0.7-0.9"
    )


def test_words_without_confidence_have_none() -> None:
    assert not len(told_and_landed(result())[0])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_is_an_option_of_train(name: str) -> None:
    problems = TrainConfig(**OBJECTIVES[name]).problems()
    assert problems == TrainConfig().problems()
