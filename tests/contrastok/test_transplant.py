from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from contrastok.errors import ModelError
from contrastok.lm_head import load_with_head
from contrastok.models import frozen_hash, input_embedding, language_head, load_model
from contrastok.token_text import token_texts
from contrastok.transplant import plan_transfer, replace_tokenizer, require_replaceable


def test_the_same_tokenizer_copies_every_row(any_tokenizer: Any) -> None:
    plan = plan_transfer(any_tokenizer, any_tokenizer)
    assert plan.copied == {i: i for i in range(len(any_tokenizer))}
    assert plan.predicted == plan.lost == () and plan.same_frame


@pytest.mark.parametrize("new", ["byte-bpe", "unigram"])
def test_words_of_both_are_copied_across_families(tokenizers_by_family: dict[str, Any], new: str) -> None:
    old, other = tokenizers_by_family["wordpiece"], tokenizers_by_family[new]
    plan = plan_transfer(old, other)
    known, texts = old.get_vocab(), token_texts(other)
    whole = {i: known[t.text] for i, t in texts.items() if t.starts and t.text.isalpha() and t.text in known}
    inside = {i: known[f"##{t.text}"] for i, t in texts.items() if not t.starts and f"##{t.text}" in known}
    assert len(whole) > 50 and len(inside) > 20
    for i, source in {**whole, **{i: s for i, s in inside.items() if texts[i].text.isalpha()}}.items():
        assert plan.copied[i] == source, texts[i]


def test_every_row_comes_from_one_place(tokenizers_by_family: dict[str, Any]) -> None:
    for old in tokenizers_by_family.values():
        for new in tokenizers_by_family.values():
            plan = plan_transfer(old, new)
            assert sorted([*plan.copied, *plan.predicted, *plan.lost]) == list(range(plan.size))
            assert all(len(pieces) > 1 for pieces in plan.pieces)
            assert [len(p) for p in plan.pieces] == [len(lengths) for lengths in plan.lengths]


def test_the_pieces_of_a_predicted_token_spell_it(tokenizers_by_family: dict[str, Any]) -> None:
    old, new = tokenizers_by_family["unigram"], tokenizers_by_family["wordpiece"]
    texts, plan = token_texts(old), plan_transfer(old, new)
    checked = 0
    for text, pieces in zip(plan.texts, plan.pieces, strict=True):
        if text.isascii() and text.isalpha():
            assert "".join(texts[i].text for i in pieces) == text
            checked += 1
    assert checked > 50


def test_special_tokens_go_by_role(tokenizers_by_family: dict[str, Any]) -> None:
    old, new = tokenizers_by_family["wordpiece"], tokenizers_by_family["unigram"]
    plan = plan_transfer(old, new)
    for role in ("cls", "sep", "pad", "mask", "unk"):
        own, other = (getattr(tokenizer, f"{role}_token_id") for tokenizer in (new, old))
        assert own is not None and plan.copied[own] == other, role
    assert plan.same_frame


def test_another_frame_is_noticed(tokenizers_by_family: dict[str, Any]) -> None:
    from tokenizers.processors import TemplateProcessing

    from contrastok.token_modes import with_backend

    old = tokenizers_by_family["wordpiece"]
    backend = type(old.backend_tokenizer).from_str(old.backend_tokenizer.to_str())
    backend.post_processor = TemplateProcessing(single="$A", special_tokens=[])
    assert not plan_transfer(old, with_backend(old, backend)).same_frame


def test_copied_rows_keep_their_bits_and_lost_ones_get_the_mean(tokenizers_by_family: dict[str, Any]) -> None:
    old, new = tokenizers_by_family["wordpiece"], tokenizers_by_family["byte-bpe"]
    plan = plan_transfer(old, new)
    assert plan.copied and plan.predicted and plan.lost
    for dtype in (torch.float32, torch.bfloat16):
        table = torch.randn(len(old), 8, generator=torch.Generator().manual_seed(0)).to(dtype)
        rows = torch.full((len(plan.predicted), 8), 7.0)
        made = plan.table(table, rows)
        assert made.dtype == dtype and made.shape == (len(new), 8)
        for i, source in plan.copied.items():
            assert torch.equal(made[i], table[source])
        assert (made[list(plan.predicted)] == 7).all()
        for i in plan.lost:
            assert torch.equal(made[i], table.float().mean(0).to(dtype))


def test_only_the_table_changes(tiny_model: Path, tokenizers_by_family: dict[str, Any], tmp_path: Path) -> None:
    import copy

    model = load_model(str(tiny_model))
    body, limit = frozen_hash(model, [], 0), model.max_seq_length
    pooling = repr(model[1])
    new = copy.deepcopy(tokenizers_by_family["unigram"])
    table = torch.randn(len(new), 32, generator=torch.Generator().manual_seed(0))
    replace_tokenizer(model, new, table)
    model.save_pretrained(str(tmp_path))
    saved = load_model(str(tmp_path))
    assert frozen_hash(saved, [], 0) == body
    assert saved.max_seq_length == limit and repr(saved[1]) == pooling
    assert torch.equal(input_embedding(saved).weight, table)
    assert saved.tokenizer("the cook likes it")["input_ids"] == new("the cook likes it")["input_ids"]
    assert saved[0].auto_model.config.vocab_size == len(new)
    assert saved[0].auto_model.config.pad_token_id == new.pad_token_id
    assert input_embedding(saved).padding_idx == new.pad_token_id


def test_a_model_that_counts_positions_from_the_padding_id_is_refused(
    make_model: Callable[..., Path], tokenizers_by_family: dict[str, Any]
) -> None:
    model = load_model(str(make_model("byte-bpe")))
    with pytest.raises(ModelError, match=r"counts its positions.*1.*is 0"):
        require_replaceable(model, tokenizers_by_family["wordpiece"])
    require_replaceable(model, tokenizers_by_family["unigram"])  # has the same id


def test_a_tokenizer_without_padding_is_refused(tiny_model: Path, tokenizers_by_family: dict[str, Any]) -> None:
    import copy

    new = copy.deepcopy(tokenizers_by_family["unigram"])
    new.pad_token = None
    with pytest.raises(ModelError, match="no padding token"):
        require_replaceable(load_model(str(tiny_model)), new)


@pytest.mark.parametrize(("kind", "tied"), [("llama", False), ("phi", False), ("gpt2", True), ("qwen2", True)])
def test_a_head_of_its_own_is_refused_and_a_tied_one_is_the_table(
    make_decoder: Callable[..., Path], tokenizers_by_family: dict[str, Any], kind: str, tied: bool
) -> None:
    model = load_with_head(str(make_decoder(kind)))
    assert language_head(model) is not None
    with nullcontext() if tied else pytest.raises(ModelError, match="an output head with rows of its own"):
        require_replaceable(model, tokenizers_by_family["unigram"])


def test_another_tensor_with_a_row_for_each_token_is_refused(
    tiny_model: Path, tokenizers_by_family: dict[str, Any]
) -> None:
    model = load_model(str(tiny_model))
    rows = len(input_embedding(model).weight)
    model[0].auto_model.register_parameter("second", torch.nn.Parameter(torch.zeros(rows, 3)))
    with pytest.raises(ModelError, match="second has a row for each token"):
        require_replaceable(model, tokenizers_by_family["unigram"])
