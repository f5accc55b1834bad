from __future__ import annotations

from typing import Any

import pytest

from contrastok.card import model_card


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
    assert "Initial rows: `charlen_mean`." in card and "onfidence" not in card and "predicted" not in card
