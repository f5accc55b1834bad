from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from contrastok.eval.advice import ENOUGH_SENTENCES
from contrastok.eval.data import Evidence, Ranks, ReportData
from contrastok.eval.relations import summarise
from contrastok.eval.summary import headline, statements


def _told(data: ReportData, ranks: list[Ranks]) -> str:
    groups = {"held_out": summarise([[r] for r in ranks]), "all": {}}
    return " ".join(map(str, statements(dataclasses.replace(data, relations=groups))))


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (50, 2, "Training helped."),
        (2, 50, "Training made the rows worse."),
        (3, 3, "Training did not measurably improve the rows."),
    ],
)
def test_the_effect_on_held_out_relations_is_said_plainly(data: ReportData, before: int, after: int, said: str) -> None:
    told = _told(data, [Ranks(100, before, after, 3)] * 10)
    assert said in told
    assert f"from {1 / before:.3f} (initial rows) to {1 / after:.3f} (trained rows)" in told


def test_the_split_word_is_the_bar(data: ReportData) -> None:
    assert "the new tokens are worse than the split words" in _told(data, [Ranks(100, 50, 5, 1)] * 10)
    assert "the new tokens are better than the split words" in _told(data, [Ranks(100, 50, 1, 5)] * 10)


def test_a_handful_of_relations_says_nothing(data: ReportData) -> None:
    told = _told(data, [Ranks(100, 50, 1, 5)] * 9)
    assert "Only 9 related words" in told and "95% interval" not in told and "Training helped" not in told
    assert "too few to tell" not in _told(data, [Ranks(100, 50, 1, 5)] * 10)


def test_no_held_out_relation_proves_nothing(data: ReportData) -> None:
    assert "No related word was held out" in _told(data, [])


def test_changed_weights_and_failed_checks_are_loud(data: ReportData) -> None:
    broken = dataclasses.replace(
        data,
        frozen={"tensors": 1, "sha256_before": "a", "sha256_after": "b"},
        gate={"checks": [{"name": "reachable", "passed": False, "detail": ""}]},
    )
    told = {s.text: s.tone for s in statements(broken)}
    assert any("Do not use this checkpoint" in text and tone == "bad" for text, tone in told.items())
    assert told["Tokenizer checks failed: reachable."] == "bad"


def test_confidence_is_said_as_a_number_of_tokens(data: ReportData) -> None:
    told = " ".join(map(str, statements(data)))
    assert "Of 400 words that the model knew before, hidden and placed anew in the same way, 60% came back" in told
    assert "expected of about 2 of 3." in told  # 0.4 + 0.9 + 0.2
    assert "1 definition was not used for the first rows" in told  # skyr's
    assert "predicted from spelling and names alone: skyr." in told
    assert f"Confidence below 50%, the least sure first: skyr, {data.per_token[0].token}." in told


def test_without_a_predictor_nothing_is_said_of_confidence(unpredicted: ReportData) -> None:
    told = " ".join(map(str, statements(unpredicted)))
    assert "onfidence" not in told and "lean on" not in told and "came back" not in told


def test_headline_and_names_of_the_far_ones(data: ReportData) -> None:
    assert headline(data) == "1 of 3 new tokens landed near their meaning, 1 is unclear, 1 is far from it"
    assert any(s.tokens == (data.per_token[0].token,) for s in statements(data))


def _far(data: ReportData, **changes: Any) -> ReportData:
    """The report with one far token, which has all evidence that the command asks for but for the changes."""
    whole = {"verdict": "far", "token": "riesling", "evidence": Evidence(sentences=ENOUGH_SENTENCES), **changes}
    return dataclasses.replace(data, per_token=(dataclasses.replace(data.per_token[1], **whole),))


@pytest.mark.parametrize(
    ("lack", "said"),
    [
        ({"definition": ""}, "Far, and without a definition"),
        ({"relations": ()}, "Far, and without a synonym, category or related name"),
        ({"evidence": Evidence(sentences=ENOUGH_SENTENCES - 1)}, f"Far, and with fewer than {ENOUGH_SENTENCES} sent"),
    ],
)
def test_a_far_token_is_told_what_it_lacks_and_nothing_else(data: ReportData, lack: dict[str, Any], said: str) -> None:
    far = [str(s) for s in statements(_far(data, **lack)) if s.text.startswith("Far")]
    assert len(far) == 1 and far[0].startswith(said) and far[0].endswith(": riesling.")


def test_a_far_token_that_lacks_nothing_points_to_the_run(data: ReportData) -> None:
    whole = _far(data)
    [told] = [str(s) for s in statements(whole) if s.text.startswith("Far")]
    assert "although they have a definition, names and sentences enough; look at their neighbours" in told
    short = {"options": {"init": "charlen_mean", "calibrate": 0, "epochs": 1}, "steps": 10, "epoch_steps": 34}
    told = _told(dataclasses.replace(whole, training=short, init="charlen_mean"), [])
    assert (
        "This run did without first rows predicted from the evidence (--init auto, not charlen_mean), settings calibrated "
        "on known words (--calibrate), all but 10 of its 34 steps (--max-steps) and the usual 3 epochs (--epochs)"
        in told
    )
    assert "sentences enough; train again first: riesling." in told
    near = dataclasses.replace(whole, per_token=(dataclasses.replace(whole.per_token[0], verdict="near"),))
    assert "did without" not in _told(dataclasses.replace(near, training=short), [])
    usual = {"options": {"init": "auto", "calibrate": 8, "epochs": 3}, "steps": 102, "epoch_steps": 34}
    assert "did without" not in _told(dataclasses.replace(whole, training=usual), [])


def test_unclear_tokens_are_named_with_the_commonest_cause_first(data: ReportData) -> None:
    unclear = data.per_token[2]
    assert "Unclear, because the best right answer beats chance but is not among the 10 nearest: skyr." in _told(
        data, []
    )
    tokens = (dataclasses.replace(unclear, token="feta", cause="odd row"), unclear, unclear)
    told = _told(dataclasses.replace(data, per_token=tokens), [])
    assert "Unclear, 2 of 3 because the best right answer" in told and "10 nearest: skyr, skyr. " in told
    assert "Unclear, 1 of 3 because a right answer is near, but the row itself is odd: feta." in told
    near = (dataclasses.replace(data.per_token[1], relations=()),)
    assert "Unclear" not in _told(dataclasses.replace(data, per_token=near), [])


@pytest.mark.parametrize(("of", "possible"), [(19, False), (20, True)])
def test_where_even_the_first_place_is_chance_no_verdict_is_claimed(data: ReportData, of: int, possible: bool) -> None:
    tokens = tuple(
        dataclasses.replace(t, relations=(), definition_ranks=Ranks(of, 1, 1), verdict="unclear", cause="few rivals")
        for t in data.per_token
    )
    few = dataclasses.replace(data, per_token=tokens, verdicts={"near": 0, "unclear": 3, "far": 0})
    why = "at most 19 names or definitions compete"
    assert (why in headline(few), f"No verdict is possible: {why}" in _told(few, [])) == (not possible, not possible)
    assert ("so few compete that chance would do as well" in _told(few, [])) is possible


def test_long_names_are_shortened_where_sentences_name_them(data: ReportData) -> None:
    named = dataclasses.replace(data.per_token[0], token="zq" * 150 + "\u202e")
    [told] = [str(s) for s in statements(dataclasses.replace(data, per_token=(named,))) if s.text.startswith("Far")]
    assert told.endswith(": " + "zq" * 19 + "z….")
    [told] = [s for s in statements(dataclasses.replace(data, skipped=({"term": "y" * 300, "reason": ""},)))
              if "did not become" in s.text]  # fmt: skip
    assert told.text.endswith("y….") and len(told.text) < 100
