from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from contrastok.card import SHOWN, cell, model_card


@pytest.fixture
def manifest() -> dict[str, Any]:
    token = {"pieces": ["a", "b"], "definition": "", "evidence": {"sentences": 1}}
    return {
        "base_model": {"name": "minilm"},
        "tokens": [{**token, "token": name, "ids": [i]} for i, name in enumerate(("brie", "skyr", "ghee"))],
        "frozen": {"tensors": 3, "sha256_before": "a" * 64, "sha256_after": "a" * 64},
        "tokenizer": {"family": "wordpiece", "mode": "added"},
        "init": "charlen_mean",
        "training": {"steps": 1, "pairs": 2},
        "seed": 0,
        "skipped": [],
    }


def card_of(manifest: dict[str, Any], settings: dict[str, float]) -> str:
    prior = {"fits": {"form+sentences": {"known_words": 9000}}, "settings": settings, "confidence_within": 10}
    return " ".join(model_card({**manifest, "init": "predictor", "prior": prior}).split())


def test_the_card_tells_how_rows_were_predicted(manifest: dict[str, Any]) -> None:
    for token, confidence in zip(manifest["tokens"], (0.1, 0.874, 0.9), strict=True):
        token["confidence"] = confidence
    card = card_of(manifest, {"temperature": 0.05, "prior_weight": 0.01, "steps": 20})
    assert "Initial rows: `predictor`." in card
    assert "(form, sentences: 9000 words), and placed with temperature 0.05, prior weight 0.01, steps 20." in card
    assert "within rank 10 of its word's true place: 87 %." in card


def test_a_rejected_word_stage_is_told_as_none(manifest: dict[str, Any]) -> None:
    manifest["tokens"][0]["confidence"] = 0.5
    card = card_of(manifest, {"temperature": 0.05, "prior_weight": 0.01, "steps": 0})
    assert "(form, sentences: 9000 words), with no word stage: on known words" in card
    assert "placed" not in card and "steps 0" not in card and "Median confidence" in card


def test_other_initialisers_are_named_without_a_prior(manifest: dict[str, Any]) -> None:
    card = model_card(manifest)
    assert (
        "Initial rows: `charlen_mean`." in card and "by calibrated confidence" not in card and "predicted" not in card
    )


def test_without_known_words_the_card_says_that_nothing_was_measured(manifest: dict[str, Any]) -> None:
    card = " ".join(model_card(manifest).split())
    assert "Nothing was measured: with rows that begin as `charlen_mean` training asks no words" in card
    assert "so there is no confidence. `contrastok report` ranks" in card and "expected" not in card
    assert "mean loss" not in card and "too few to tell" not in card  # no curve


def test_the_card_says_how_many_tokens_should_have_landed_and_what_training_did(manifest: dict[str, Any]) -> None:
    for token, confidence in zip(manifest["tokens"], (0.25, 0.5, 1.0), strict=True):
        token["confidence"] = confidence
    curve = [{"step": i + 1, "loss": loss, "accuracy": 0.5, "move": 0.1} for i, loss in enumerate((9.0, 1.0, 7.0, 1.0))]
    manifest["training"] |= {"steps": 4, "curve": curve, "epoch_steps": 2}
    reliability = [{"confidence": 0.4, "landed": 0.5, "words": 10}, {"confidence": 0.9, "landed": 1.0, "words": 30}]
    prior = {"fits": {}, "settings": {"steps": 0}, "confidence_within": 10, "reliability": reliability}
    card = " ".join(model_card({**manifest, "prior": prior}).split())
    assert "40 words that the base model knew were hidden and placed anew in the same way: 88 % came back" in card
    assert "about 2 of the 3 new tokens are expected to be as near" in card and "Nothing was measured" not in card
    assert "From the first 2 steps to the last 2 the mean loss went from 5.000 to 4.000, and the share" in card
    manifest["training"] |= {"epoch_steps": 3}
    assert "4 steps are too few to tell from the loss" in model_card({**manifest, "prior": prior})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("zq'\"&amp;", "zq'\"\\&amp;"),
        ("http://a.b", "http:<!-- -->//a.b"),
        ("HTTPS://a.b", "HTTPS:<!-- -->//a.b"),
        ("www.a.b", "www<!-- -->.a.b"),
        ("me@a.b", "me@<!-- -->a.b"),
        ("ab\u202ecd", r"ab\\u202ecd"),
    ],
)
def test_no_entity_link_or_control_of_direction_comes_out_of_a_term(text: str, shown: str) -> None:
    assert cell(text) == shown


def front(card: str) -> dict[str, Any]:
    """The card's head as the Hub reads it."""
    head: dict[str, Any] = yaml.safe_load(card.split("\n---\n")[0].removeprefix("---\n"))
    return head


def test_licence_and_languages_are_those_of_the_base_models_card(manifest: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    stated = (
        "license: other\nlicense_name: 'the: odd\\n one'\nlanguage:\n- de\n- 'no'\ntags:\n- theirs\nbase_model: x/y"
    )
    (tmp_path / "README.md").write_text(f"---\n{stated}\n---\n# Theirs\n")
    manifest["base_model"]["name"] = str(tmp_path)
    head = front(model_card(manifest))
    assert head["license"] == "other" and head["license_name"] == "the: odd\\n one" and head["language"] == ["de", "no"]
    assert "base_model" not in head and "theirs" not in head["tags"]  # a folder of this machine means nothing elsewhere
    assert "states the licence the: odd" in model_card(manifest)


@pytest.mark.parametrize("card", [None, "no head at all", "---\n: : [\n---\n", "---\n- a list\n---\n"])
def test_without_a_readable_card_no_licence_is_claimed(
    manifest: dict[str, Any], tmp_path: Path, card: str | None
) -> None:
    (tmp_path / "config.json").write_text("{}")
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    manifest["base_model"]["name"] = str(tmp_path)
    text = model_card(manifest)
    assert "license" not in front(text) and "whose card states none or was not at hand" in text


def test_the_packaged_model_is_named_as_the_hub_does(manifest: dict[str, Any]) -> None:
    head = front(model_card(manifest))
    assert head["base_model"] == "sentence-transformers/all-MiniLM-L6-v2" and head["license"] == "apache-2.0"
    assert head["library_name"] == "sentence-transformers" and "vocabulary-extension" in head["tags"]


def test_words_that_are_markdown_show_as_what_they_are(manifest: dict[str, Any]) -> None:
    manifest["tokens"][0] |= {"token": 'a|b`*_[x](y)"', "definition": "<img src=x>\nnext\n# line"}
    card = model_card(manifest)
    line = next(line for line in card.splitlines() if line.startswith("| a"))
    assert line == r'| a\|b\`\*\_\[x\](y)" | 0 | a b | 1 | \<img src=x\> next # line |'
    assert r'model.encode("a|b`*_[x](y)\"")' in card


def test_figures_and_a_table_that_ends(manifest: dict[str, Any]) -> None:
    for token, confidence in zip(manifest["tokens"], (0.25, 0.5, 1.0), strict=True):
        token["confidence"] = confidence
    manifest["tokens"] += [{**manifest["tokens"][0], "token": f"word{i}"} for i in range(SHOWN)]
    reliability = [{"confidence": 0.4, "landed": 0.5, "words": 10}, {"confidence": 0.9, "landed": 1.0, "words": 30}]
    prior = {"fits": {}, "settings": {"steps": 0}, "confidence_within": 10, "reliability": reliability}
    card = model_card({**manifest, "prior": prior})
    assert "| expected within rank 10 of their true place, by calibrated confidence | 52 of 203 |" in card
    assert "came back | 88 % of 40 |" in card and "| frozen tensors that changed | 0 of 3 |" in card
    assert "| brie | 0 | a b | 1 | 25 % |  |" in card
    assert f"word{SHOWN - 4} |" in card and f"word{SHOWN - 3} |" not in card and "And 3 more" in card
    assert "\n\n\n\n" not in card
