from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from contrastok.errors import ModelError
from contrastok.gate import control_sentences, run_gate
from contrastok.vocabulary import extend_tokenizer, plan_vocabulary

TERMS = ["halloumi", "zorblaxin", "il-6", "quib vexalotl", "C++", "brimwax"]


def test_gate_passes_in_the_default_mode(any_tokenizer: Any) -> None:
    plan = plan_vocabulary(any_tokenizer, TERMS)
    texts = {"mine": [f"a {term}, and {term}." for term in TERMS] + ["no term is here"]}
    gate = run_gate(any_tokenizer, extend_tokenizer(any_tokenizer, plan), plan, texts, len(any_tokenizer))
    assert [check.name for check in gate.checks if not check.passed] == []
    gate.require(plan.mode, strict=True)


def test_gate_finds_the_damage_of_a_naive_extension(tokenizers_by_family: dict[str, Any]) -> None:
    """A token that matches inside words changes text without the term; the gate must say so."""
    tokenizer = tokenizers_by_family["wordpiece"]
    plan = plan_vocabulary(tokenizer, ["halloumi"])
    naive = extend_tokenizer(tokenizer, plan)
    from tokenizers import AddedToken

    naive.backend_tokenizer.add_tokens([AddedToken("ee", single_word=False)])
    gate = run_gate(tokenizer, naive, plan, {}, len(tokenizer))
    assert any(c.name.startswith("collateral") and not c.passed for c in gate.checks)
    with pytest.raises(ModelError, match="collateral"):
        gate.require("added", strict=False)


def test_vocab_mode_collateral_is_told_and_strict_refuses(tokenizers_by_family: dict[str, Any]) -> None:
    tokenizer = tokenizers_by_family["wordpiece"]
    plan = plan_vocabulary(tokenizer, ["halloumi"], "vocab")
    gate = run_gate(tokenizer, extend_tokenizer(tokenizer, plan), plan, {}, len(tokenizer))
    around = next(c for c in gate.checks if c.name == "collateral: words around terms")
    assert not around.passed and "halloumis" in around.detail
    gate.require("vocab", strict=False)
    with pytest.raises(ModelError, match="halloumis"):
        gate.require("vocab", strict=True)


def test_terms_without_a_letter_pass(any_tokenizer: Any) -> None:
    """Emoji and symbols have no word boundary: a text that holds them anywhere holds the term."""
    plan = plan_vocabulary(any_tokenizer, ["\U0001f9c0\U0001f35e", ".*+?^$", "halloumi"])
    texts = {"mine": ["so\U0001f9c0\U0001f35eso", "x.*+?^$x", "nothing"]}
    gate = run_gate(any_tokenizer, extend_tokenizer(any_tokenizer, plan), plan, texts, len(any_tokenizer))
    assert len(plan.terms) == 3
    assert [check for check in gate.checks if not check.passed] == []


def test_control_sentences_hold_every_word_of_the_vocabulary(tokenizers_by_family: dict[str, Any]) -> None:
    tokenizer = tokenizers_by_family["wordpiece"]
    words = {form for form in tokenizer.get_vocab() if form.isalpha() and form.islower()}
    assert words <= set(
        " ".join(control_sentences(tokenizer))
        .replace(",", " ")
        .replace(".", " ")
        .replace("'s", " ")
        .replace(";", " ")
        .replace("(", " ")
        .replace(")", " ")
        .split()
    )


def test_an_id_of_an_old_token_is_found(tokenizers_by_family: dict[str, Any]) -> None:
    tokenizer = tokenizers_by_family["wordpiece"]
    plan = plan_vocabulary(tokenizer, ["halloumi"])
    stolen = replace(plan, tokens=(replace(plan.tokens[0], id=7),))
    gate = run_gate(tokenizer, extend_tokenizer(tokenizer, plan), stolen, {}, len(tokenizer))
    assert not next(check for check in gate.checks if check.name == "embedding table").passed


def test_a_normaliser_that_prepends_its_mark_hides_no_term() -> None:
    """Llama 2 and the first Mistral: the mark is put before every stretch of text, a new token's own too."""
    marks = ["<unk>", "▁", *map(chr, range(33, 127))]
    backend = Tokenizer(models.BPE({piece: i for i, piece in enumerate(marks)}, [], unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    plan = plan_vocabulary(tokenizer, ["zorblaxin", "quib vexalotl"])
    assert plan.terms == ("zorblaxin", "quib vexalotl") and not plan.skipped
    extended = extend_tokenizer(tokenizer, plan)
    texts = ["we bought zorblaxin, she says", "Quib vexalotl (zorblaxin)", "two zorblaxins and soup"]
    assert run_gate(tokenizer, extended, plan, {"own": texts}, 200).passed
    assert extended(texts[2])["input_ids"] == tokenizer(texts[2])["input_ids"]
