from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastok.errors import ModelError
from contrastok.gate import run_gate
from contrastok.models import load_tokenizer, tokenizer_fingerprint
from contrastok.vocabulary import (
    base_tokenizer,
    encode_plain,
    extend_tokenizer,
    normalise,
    piece_lengths,
    pieces,
    plan_vocabulary,
    tokenizer_family,
)

TERMS = ["halloumi", "zorblaxin", "il-6", "quib vexalotl", "C++", "brimwax"]


def manifest_of(plan: Any) -> dict[str, Any]:
    tokens = [{"ids": list(plan.ids_of(term))} for term in plan.terms]
    return {"tokens": tokens, "tokenizer": {"edits": dict(plan.edits)}}


def test_families(tokenizers_by_family: dict[str, Any]) -> None:
    found = {name: tokenizer_family(t.backend_tokenizer) for name, t in tokenizers_by_family.items()}
    assert found == {name: name for name in tokenizers_by_family}


@pytest.mark.parametrize("mode", ["added", "vocab"])
def test_new_tokens_are_reachable_and_undone(any_tokenizer: Any, mode: str) -> None:
    before = tokenizer_fingerprint(any_tokenizer)
    plan = plan_vocabulary(any_tokenizer, TERMS, mode)
    extended = extend_tokenizer(any_tokenizer, plan)
    assert plan.terms == tuple(TERMS) and not plan.skipped
    assert min(plan.ids) >= len(any_tokenizer)
    assert tokenizer_fingerprint(any_tokenizer) == before
    for term in TERMS:
        ids = encode_plain(extended, [f"we had {term} there"])[0]
        assert len(set(ids) & set(plan.ids_of(term))) == 1, term
    again = base_tokenizer(extended, manifest_of(plan))
    assert tokenizer_fingerprint(again) == before


def test_terms_that_cannot_be_added_are_named(tokenizers_by_family: dict[str, Any]) -> None:
    tokenizer = tokenizers_by_family["wordpiece"]
    plan = plan_vocabulary(tokenizer, ["Halloumi", "halloumi", "halloumi", "the", "\u200b", "cheese", "hállouмі"])
    assert plan.terms == ("Halloumi", "hállouмі")
    reasons = [(item.term, item.reason) for item in plan.skipped]
    assert ("halloumi", "is the same token as 'Halloumi' to this tokenizer") in reasons
    assert ("the", "is already one token of this model") in reasons
    assert ("\u200b", "nothing is left of it after the tokenizer's normaliser") in reasons


def test_an_entry_that_is_never_produced_is_not_reused() -> None:
    """MiniLM's vocabulary holds "..." but its tokenizer never makes it: adding it would hand out an old row."""
    plan = plan_vocabulary(load_tokenizer("minilm"), ["...", "halloumi"])
    assert plan.terms == ("halloumi",) and plan.ids == (30522,)
    assert "never produced" in plan.skipped[0].reason


def test_cased_tokenizers_get_the_capitalised_form_on_the_same_row(tokenizers_by_family: dict[str, Any]) -> None:
    plan = plan_vocabulary(tokenizers_by_family["byte-bpe"], ["halloumi", "HbA1c"])
    forms = {token.form: token.row for token in plan.tokens}
    assert forms == {"halloumi": 0, "Halloumi": 0, "HbA1c": 1}


def test_vocab_mode_is_refused_by_name_where_it_does_not_exist() -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE(vocab={"a": 0, "b": 1}, merges=[]))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    with pytest.raises(ModelError, match="sentencepiece-bpe"):
        plan_vocabulary(tokenizer, ["ab"], "vocab")


def qwen2_of(tokenizer: Any) -> Any:
    """The same tokens in a class that builds its tokenizer anew from vocabulary and merges, and forgets all else."""
    from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer

    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    merges = [tuple(pair) for pair in model["merges"]]
    return Qwen2Tokenizer(vocab=model["vocab"], merges=merges, unk_token="<unk>", eos_token="</s>", pad_token="<pad>")


def test_spaced_tokens_are_written_as_they_were_read_by_any_class(tokenizers_by_family: dict[str, Any]) -> None:
    base = qwen2_of(tokenizers_by_family["byte-bpe"])
    vocab = plan_vocabulary(base, TERMS, "vocab")
    with pytest.raises(ModelError, match=r"(?s)save and reload.*another --token-mode"):
        run_gate(base, extend_tokenizer(base, vocab), vocab, {}, len(base)).require("vocab", strict=False)
    plan = plan_vocabulary(base, TERMS, "spaced")
    extended = extend_tokenizer(base, plan)
    gate = run_gate(base, extended, plan, {"mine": ["grilled halloumi, (halloumi), xhalloumi and C++"]}, len(base))
    assert [c.name for c in gate.checks if not c.passed] == ["collateral: words around terms"]
    gate.require("spaced", strict=False)
    with pytest.raises(ModelError, match="halloumis"):
        gate.require("spaced", strict=True)
    assert plan.terms == tuple(TERMS) and [token.form for token in plan.tokens[:2]] == [" halloumi", "halloumi"]
    for text, tokens in (
        ("we grilled halloumi with mint", [" halloumi"]),
        ("halloumi (halloumi) Halloumi\nquib vexalotl", ["halloumi", "halloumi", " Halloumi", "quib vexalotl"]),
        ("xhalloumi un-halloumi2 zhalloumi", []),
        ("two halloumis", [" halloumi"]),  # what the gate tells: a word that begins with the term
    ):
        ids = extended(text)["input_ids"]
        assert [extended.convert_ids_to_tokens(i) for i in ids if i in plan.ids] == tokens
        assert extended.decode(ids) == text
    assert tokenizer_fingerprint(base_tokenizer(extended, manifest_of(plan))) == tokenizer_fingerprint(base)
    with pytest.raises(ModelError, match="spaced does not exist for unigram"):
        plan_vocabulary(tokenizers_by_family["unigram"], TERMS, "spaced")


def test_extending_another_tokenizer_is_refused(tokenizers_by_family: dict[str, Any]) -> None:
    plan = plan_vocabulary(tokenizers_by_family["wordpiece"], ["halloumi"])
    with pytest.raises(ModelError, match="another tokenizer"):
        extend_tokenizer(load_tokenizer("minilm"), plan)


def test_pieces_are_those_of_running_text() -> None:
    tokenizer = load_tokenizer("minilm")
    assert tokenizer.convert_ids_to_tokens(pieces(tokenizer, "halloumi")) == ["hall", "##oum", "##i"]
    assert [length for _, length in piece_lengths(tokenizer, "halloumi")] == [4, 3, 1]
    tokenizer.backend_tokenizer.enable_padding(length=32)  # a caller's setting must not leak into ids
    assert len(encode_plain(tokenizer, ["halloumi"])[0]) == 3


@pytest.fixture(scope="module")
def fingerprints(tokenizers_by_family: dict[str, Any]) -> dict[str, str]:
    return {family: tokenizer_fingerprint(tokenizer) for family, tokenizer in tokenizers_by_family.items()}


WORDS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "M", "Zs")), min_size=1, max_size=12)


@settings(max_examples=60)
@given(words=st.lists(WORDS, min_size=1, max_size=5), text=st.text(max_size=60))
def test_text_without_a_term_keeps_its_ids(
    tokenizers_by_family: dict[str, Any], fingerprints: dict[str, str], words: list[str], text: str
) -> None:
    """Whatever the terms are, text in which none stands as a whole word is tokenised as before."""
    for family, tokenizer in tokenizers_by_family.items():
        plan = plan_vocabulary(tokenizer, words)
        extended = extend_tokenizer(tokenizer, plan)
        plain = normalise(tokenizer.backend_tokenizer, text).lower()
        held = [t for t in plan.tokens if re.search(rf"(?<!\w){re.escape(t.form.lower())}(?!\w)", plain)]
        symbols = [t for t in plan.tokens if not re.search(r"\w", t.form) and t.form in plain]
        before, after = encode_plain(tokenizer, [text])[0], encode_plain(extended, [text])[0]
        if not held and not symbols:
            assert before == after
        assert len(set(plan.ids)) == len(plan.tokens)
        assert tokenizer_fingerprint(base_tokenizer(extended, manifest_of(plan))) == fingerprints[family]


def test_many_terms_take_no_more_calls(any_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call of a tokenizer for each of 100,000 terms would take minutes."""
    tokenizer, calls = any_tokenizer, []
    kind = type(tokenizer)
    real = kind.__call__
    monkeypatch.setattr(kind, "__call__", lambda self, *args, **kw: calls.append(1) or real(self, *args, **kw))
    counts = []
    for n in (3, 300):
        calls.clear()
        plan = plan_vocabulary(tokenizer, [f"zorb{i}laxin" for i in range(n)])
        own = [token for token in plan.tokens if token.term == "zorb2laxin"]
        assert len(plan.terms) == n and plan.ids_of("zorb2laxin") == tuple(token.id for token in own)
        assert plan.forms_of("zorb2laxin") == tuple(token.form for token in own) and own
        counts.append(len(calls))
    assert counts[0] == counts[1]
