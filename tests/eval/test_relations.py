from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contrastok.eval.data import Ranks
from contrastok.eval.relations import chance, figures, mrr_change, rank_all, summarise, token_relations, unique_names

E = np.eye(4, dtype=np.float32)


def test_ranks_of_a_hand_made_example() -> None:
    # scores of "trained": candidate 0 .9, 1 .8, 2 .7, 3 .7, 4 .1; right are 1 and 4, candidate 0 is none
    candidates = np.array([[0.9], [0.8], [0.7], [0.7], [0.1]], np.float32)
    views = {"initial": np.array([-1], np.float32), "trained": np.array([1], np.float32)}
    left_out = np.array([True, False, False, False, False])
    first, second = rank_all(views, candidates, [1, 4], left_out)
    assert first == Ranks(of=3, initial=3, trained=1)  # 2 and 3 compete; 4, the other right answer, does not
    assert second == Ranks(of=3, initial=1, trained=3)


def test_ties_do_not_push_the_right_answer_down() -> None:
    [ranks] = rank_all({"initial": E[0], "trained": E[0]}, np.stack([E[0], E[0], E[1]]), [1], np.zeros(3, bool))
    assert ranks == Ranks(of=3, initial=1, trained=1)


def test_names_that_hold_the_token_are_no_candidates_and_get_no_rank() -> None:
    token = {
        "token": "Brie",
        "relations": [
            {"name": "brie de Meaux", "kind": "synonym", "held_out": False},
            {"name": "Cheese", "kind": "broader", "held_out": True},
        ],
    }
    names = {"brie": 0, "brie de meaux": 1, "cheese": 2, "bread": 3}
    views = {"initial": E[3], "trained": E[2], "split_word": E[0]}
    row_views = {"initial": E[3], "trained": E[2]}
    found = token_relations(token, names, E, views, {"cheese": 0, "bread": 1}, E[2:], row_views)
    assert found[0].glossary is None and found[0].vocabulary is None
    assert found[1].glossary == Ranks(of=2, initial=2, trained=1, split_word=1)
    assert found[1].vocabulary == Ranks(of=2, initial=2, trained=1)
    assert found[1].held_out


def test_every_name_once_case_aside() -> None:
    tokens = [
        {"token": token, "relations": [{"name": name}]} for token, name in (("Brie", "Cheese"), ("feta", "cheese"))
    ]
    assert unique_names(tokens) == ["Brie", "Cheese", "feta"]


def test_figures() -> None:
    assert figures([1, 2, 100]) == {
        "mrr": pytest.approx((1 + 0.5 + 0.01) / 3),
        "hit@10": pytest.approx(2 / 3),
        "median_rank": 2,
        "count": 3,
    }
    assert figures([]) == {"mrr": None, "hit@10": None, "median_rank": None, "count": 0}


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_chance_is_the_mean_over_all_places(sizes: list[int]) -> None:
    truth = [figures(list(range(1, size + 1))) for size in sizes]
    for name in ("mrr", "hit@10"):
        assert chance(sizes)[name] == pytest.approx(np.mean([t[name] for t in truth]))


def test_change_has_the_sign_of_the_improvement_and_an_interval_around_it() -> None:
    better = mrr_change([[(10, 1)], [(8, 2), (4, 2)], [(5, 3)]] * 5)
    assert better["low"] <= better["mrr"] <= better["high"] and better["low"] > 0
    assert mrr_change([[(3, 3)], [(2, 2)]]) == {"mrr": 0.0, "low": 0.0, "high": 0.0}
    assert mrr_change([[], []]) == {"mrr": None, "low": None, "high": None}


def test_summary_counts_only_what_has_a_rank() -> None:
    summary = summarise([[Ranks(10, 4, 2, 8), None], []])
    assert summary["initial"]["mrr"] == 0.25
    assert summary["trained"]["mrr"] == 0.5
    assert summary["split_word"]["mrr"] == 0.125
    assert summary["change"]["mrr"] == 0.25
    assert "split_word" not in summarise([[Ranks(10, 4, 2)]])
