from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import contrastok
from contrastok.checkpoint import load_checkpoint
from contrastok.config import ApplyConfig, ExportConfig, GenPairsConfig, ImportConfig, TrainConfig
from contrastok.data_gen.pipeline import gen_pairs
from contrastok.exchange import export_adapter, import_adapter
from contrastok.export import apply
from contrastok.gate import run_gate
from contrastok.trainer import train
from contrastok.vocabulary import base_tokenizer, extend_tokenizer, plan_vocabulary

TOOL, OLD = "<|tool|>", "<|im|>"
TEMPLATE = "{% for m in messages %}" + OLD + "{{ m.role }}|{{ m.content }}{% endfor %}"
CHAT = [{"role": "user", "content": f"look it up{TOOL}halloumi"}]


@pytest.fixture(scope="module")
def chatty(tokenizers_by_family: dict[str, Any]) -> Callable[[str], Any]:
    """A function (family) -> tokenizer with a chat template and a special token of it."""
    from copy import deepcopy

    def make(family: str) -> Any:
        tokenizer = deepcopy(tokenizers_by_family[family])
        tokenizer.chat_template = TEMPLATE
        tokenizer.add_special_tokens({"extra_special_tokens": [OLD]})
        return tokenizer

    return make


@pytest.mark.parametrize("mode", ["added", "vocab"])
@pytest.mark.parametrize("family", ["wordpiece", "byte-bpe", "unigram"])
def test_a_special_token_is_found_anywhere_and_skipped_in_decoding(
    chatty: Callable[[str], Any], family: str, mode: str, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    base = chatty(family)
    plan = plan_vocabulary(base, [TOOL, "halloumi", OLD], mode, {TOOL, OLD})
    extended = extend_tokenizer(base, plan)
    assert plan.special == {TOOL} and [item.term for item in plan.skipped] == [OLD]
    gate = run_gate(base, extended, plan, {"mine": [f"x{TOOL}y", f"a {TOOL} b", "nothing"]}, len(base))
    assert [check for check in gate.checks if not check.passed and check.name != "collateral: words around terms"] == []
    extended.save_pretrained(tmp_path)
    (new,) = plan.ids_of(TOOL)
    for tokenizer in (extended, AutoTokenizer.from_pretrained(tmp_path)):
        ids = tokenizer.apply_chat_template(CHAT, tokenize=True)["input_ids"]
        assert ids.count(new) == 1 and set(ids) & set(plan.ids_of("halloumi"))
        assert TOOL in tokenizer.decode(ids) and OLD in tokenizer.decode(ids)
        assert "halloumi" in (said := tokenizer.decode(ids, skip_special_tokens=True))
        assert TOOL not in said and OLD not in said
        assert tokenizer.extra_special_tokens == [OLD, TOOL]
        assert tokenizer.convert_tokens_to_ids(OLD) == base.convert_tokens_to_ids(OLD)
    tokens = [{"ids": list(plan.ids_of(term))} for term in plan.terms]
    again = base_tokenizer(extended, {"tokens": tokens, "tokenizer": {"edits": plan.edits}})
    assert again.extra_special_tokens == base.extra_special_tokens == [OLD]
    assert again.all_special_ids == base.all_special_ids


def test_a_gate_knows_what_a_word_would_have_hurt(chatty: Callable[[str], Any]) -> None:
    """The same rules under a name that is no special token: texts that hold it inside words changed."""
    base = chatty("wordpiece")
    plan = plan_vocabulary(base, [TOOL], special={TOOL})
    extended = extend_tokenizer(base, plan)
    word = plan_vocabulary(base, [TOOL])
    gate = run_gate(base, extended, word, {"mine": [f"x{TOOL}y"]}, len(base))
    assert not next(check for check in gate.checks if check.name == "collateral: mine").passed


def test_it_learns_from_its_description_and_goes_all_ways(
    make_decoder: Callable[..., Path], chatty: Callable[[str], Any], tmp_path: Path
) -> None:
    """Pairs from description and glued text; then checkpoint, `apply`, an adapter of PEFT and back."""
    pytest.importorskip("peft")
    model = tmp_path / "base"
    model.mkdir()
    for file in make_decoder("qwen2").iterdir():
        (model / file.name).write_bytes(file.read_bytes())
    chatty("byte-bpe").save_pretrained(model)
    terms, corpus = tmp_path / "terms.jsonl", tmp_path / "corpus.txt"
    said = {"token": TOOL, "special": True, "definition": "here begins what a tool has answered"}
    terms.write_text(json.dumps(said) + '\n{"token": "halloumi"}\n')
    corpus.write_text(
        f"{OLD}user|what is in the oven{TOOL}there is bread in it\n\nwe grilled halloumi with mint today\n"
    )
    common: dict[str, Any] = {"terms": (terms,), "model": str(model), "quiet": True}
    about = gen_pairs(
        GenPairsConfig(corpus=(str(corpus),), out=tmp_path / "pairs", known_sentences=0, negatives=0, **common)
    )
    first = about["terms"][0]
    assert first["token"] == TOOL and first["sentences"] == 1 and first["pairs"]["template"] > 1
    config = TrainConfig(pairs=tmp_path / "pairs", out=tmp_path / "model", objective="causal_lm", epochs=1, **common)
    summary = train(config)
    assert summary["frozen"]["sha256_before"] == summary["frozen"]["sha256_after"]
    checkpoint = load_checkpoint(tmp_path / "model")
    told = checkpoint.manifest["tokens"][0]
    assert told["special"] and told["evidence"]["anchors"] > 1 and told["move"] > 0
    assert "special" not in checkpoint.manifest["tokens"][1]
    assert checkpoint.tokenizer.extra_special_tokens == [OLD, TOOL]
    assert told["ids"][0] in checkpoint.tokenizer.apply_chat_template(CHAT, tokenize=True)["input_ids"]
    rows, base = tmp_path / "model" / "new_rows.safetensors", str(model)
    apply(ApplyConfig(rows=rows, model=base, out=tmp_path / "again", quiet=True))
    export_adapter(ExportConfig(model=tmp_path / "model", out=tmp_path / "adapter", quiet=True))
    for name in ("contrastok.json", "new_rows.safetensors", "initial_rows.safetensors"):
        (tmp_path / "adapter" / name).unlink()  # as PEFT itself would have left it
    import_adapter(ImportConfig(adapter=tmp_path / "adapter", model=base, out=tmp_path / "back", quiet=True))
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "model.safetensors"):
        for folder in ("again", "back"):
            assert (tmp_path / folder / name).read_bytes() == (tmp_path / "model" / name).read_bytes(), (folder, name)


def test_attach_takes_them_and_gives_them_back(make_decoder: Callable[..., Path]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = make_decoder("qwen2")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    before = list(tokenizer.extra_special_tokens)
    handle = contrastok.attach(model, [TOOL, "halloumi"], tokenizer, special=[TOOL])
    assert handle.plan.special == {TOOL} and tokenizer.extra_special_tokens == [*before, TOOL]
    handle.detach()
    assert tokenizer.extra_special_tokens == before
