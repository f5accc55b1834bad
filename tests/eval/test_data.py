from __future__ import annotations

import json

from contrastok.eval.data import ReportData, as_json, rounded
from contrastok.files import to_json


def test_json_round_trip(data: ReportData) -> None:
    summary = as_json(data)
    assert json.loads(to_json(summary)) == summary
    assert summary["tokens"] == 3
    assert summary["verdicts"] == {"near": 1, "unclear": 1, "far": 1}
    assert set(summary["relations"]["held_out"]["trained"]) == {"mrr", "hit@10", "median_rank", "count"}
    assert summary["per_token"][1]["confidence"] == 0.9 and summary["per_token"][2]["leans_on"] == []
    assert (
        summary["relearned"]["landed"] == 0.6 and summary["relearned"]["word_stage"]["settings"]["prior_weight"] == 0.03
    )
    assert summary["per_token"][1]["neighbors"][2]["after"][0] == {"word": "cheese", "cosine": 0.6123}


def test_small_floats_keep_their_digits() -> None:
    assert rounded({"a": (0.123456, 0.00004, 1.0)}) == {"a": [0.1235, 0.00004, 1.0]}
