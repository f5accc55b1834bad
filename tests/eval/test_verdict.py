from __future__ import annotations

import pytest

from contrastok.eval.data import Basis, Neighbor, Ranks, Relation
from contrastok.eval.verdict import Signals, Standing, best_standing, judge


def _standing(rank: int, of: int = 400, tries: int = 1, held_out: bool = True, before: int = 100) -> Standing:
    return Standing(Basis("'cheese'", "glossary names", Ranks(of, before, rank), held_out), tries)


NEAR, WEAK, LOST = _standing(3), _standing(60), _standing(390)
SEEN = _standing(2, held_out=False)


@pytest.mark.parametrize(
    ("signals", "label"),
    [
        (Signals(held_out=NEAR), "near"),
        (Signals(held_out=NEAR, seen=LOST), "near"),
        (Signals(held_out=WEAK), "unclear"),
        (Signals(held_out=WEAK, seen=SEEN), "near"),
        (Signals(held_out=LOST, seen=SEEN), "unclear"),
        (Signals(held_out=LOST, seen=WEAK), "unclear"),
        (Signals(held_out=LOST, seen=LOST), "far"),
        (Signals(held_out=LOST), "far"),
        (Signals(seen=SEEN), "near"),
        (Signals(definition=NEAR), "near"),
        (Signals(seen=LOST, definition=NEAR), "far"),
        (Signals(), "unclear"),
        (Signals(held_out=NEAR, norm_z=-9.0), "unclear"),
        (Signals(held_out=NEAR, norm_z=-3.0), "near"),
        (Signals(definition=NEAR, nearest=0.2, lonely_below=0.5), "unclear"),
        (Signals(held_out=NEAR, nearest=0.2, lonely_below=0.5), "near"),
        (Signals(held_out=NEAR, twin=Neighbor("feta", 0.97)), "far"),
        (Signals(held_out=NEAR, twin=Neighbor("feta", 0.90)), "near"),
        (Signals(held_out=_standing(1, of=4)), "unclear"),
        (Signals(held_out=_standing(3, tries=10)), "unclear"),
    ],
)
def test_verdicts(signals: Signals, label: str) -> None:
    verdict = judge(signals)
    assert verdict.label == label
    assert verdict.reason.endswith(".")


def test_the_reason_names_the_rank_before_and_after_and_what_chance_would_do() -> None:
    assert judge(Signals(held_out=NEAR, sentences=0)).reason == (
        "held-out 'cheese' ranks 3 of 400 glossary names (100 before training; by chance under 1%); "
        "no sentence in the corpus."
    )


def test_a_lost_token_that_is_not_far_says_what_spared_it() -> None:
    seen = Standing(Basis("'bread'", "glossary names", Ranks(400, 100, 60)), 1)
    assert judge(Signals(held_out=LOST, seen=seen)).reason == (
        "held-out 'cheese' ranks 390 of 400 glossary names (100 before training; by chance 98%); "
        "but not far, for the seen 'bread' ranks 60 of 400 glossary names (100 before training; by chance 15%)."
    )
    assert "not far" not in judge(Signals(held_out=WEAK, seen=LOST)).reason
    assert "not far" not in judge(Signals(held_out=LOST, seen=seen, twin=Neighbor("feta", 0.97))).reason


def test_chance_is_that_of_the_best_of_several() -> None:
    assert _standing(100).chance == pytest.approx(0.25)
    assert _standing(100, tries=2).chance == pytest.approx(1 - 0.75**2)


def test_a_relation_that_landed_in_the_vocabulary_goes_before_one_that_did_not_in_the_glossary() -> None:
    lost, landed = Ranks(400, 5, 300), Ranks(20_000, 900, 4)
    relations = [Relation("x", "broader", True, lost, landed), Relation("y", "broader", False, landed, None)]
    assert best_standing(relations, held_out=True).basis.among == "vocabulary words"
    assert best_standing(relations[:1], held_out=False) is None
    weak = [Relation("x", "broader", True, lost, lost)]
    assert best_standing(weak, held_out=True).basis.among == "glossary names"


def test_an_unclear_token_has_a_cause() -> None:
    asked = (
        Signals(), Signals(held_out=WEAK), Signals(held_out=LOST, seen=SEEN), Signals(held_out=NEAR, norm_z=-9.0),
        Signals(held_out=_standing(1, of=4)), Signals(held_out=NEAR), Signals(held_out=LOST),
    )  # fmt: skip
    assert [judge(signals).cause for signals in asked] == [
        "nothing to judge by", "weak rank", "lost but spared", "odd row", "few rivals", "", "",
    ]  # fmt: skip
