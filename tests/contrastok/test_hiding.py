from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from contrastok.candidates import candidates
from contrastok.errors import ModelError
from contrastok.hiding import FORMS, UNREACHABLE, hidden_alone, hide_in_model, hide_words, independent_groups, pieces_of
from contrastok.lm_head import load_with_head, save_with_head
from contrastok.models import input_embedding, load_model, load_tokenizer, tokenizer_fingerprint
from contrastok.token_modes import tokenizer_family, with_backend
from contrastok.vocabulary import POSITIONS, encode_plain, pieces
from tests.conftest import kitchen_lines


def long_words(tokenizer: Any, count: int = 12) -> list[str]:
    """Words of the vocabulary, lower case, spread over it."""
    words = [w for w in candidates(tokenizer).words if w.isalpha() and w.islower() and len(w) > 3]
    known = [w for w in words if len(pieces(tokenizer, w)) == 1]
    return known[:: max(1, len(known) // count)][:count]


def holds(text: str, words: list[str]) -> bool:
    return any(word in text.casefold() for word in words)


def test_a_hidden_word_is_split_everywhere_and_its_ids_are_gone(any_tokenizer: Any) -> None:
    words = long_words(any_tokenizer)
    hidden, found = hide_words(any_tokenizer, words)
    assert [w.word for w in found.words] == words and not found.skipped
    forms = [form for w in words for form in (w, w.capitalize())]
    texts = [position.format(form) for form in forms for position in (*POSITIONS, "{}", "x{}y")] + kitchen_lines()
    seen = {i for ids in encode_plain(hidden, texts) for i in ids}
    assert seen.isdisjoint(found.ids)
    for word in found.words:
        assert pieces(any_tokenizer, word.word) == [word.id] and word.id in word.ids
        assert pieces(hidden, word.word) == list(word.pieces) and len(word.pieces) > 1
        assert hidden.unk_token_id not in word.pieces


def test_all_forms_are_hidden(tokenizers_by_family: dict[str, Any]) -> None:
    for family, tokenizer in tokenizers_by_family.items():
        vocab = tokenizer.get_vocab()
        for word in long_words(tokenizer, 40):
            forms = {f for v in (word, word.capitalize()) for f in FORMS[family](tokenizer.backend_tokenizer, [v])}
            _, found = hide_words(tokenizer, [word])
            assert {w.ids for w in found.words} in (set(), {tuple(sorted(vocab[f] for f in forms if f in vocab))})


def test_ids_have_no_hole_and_everything_else_keeps_its_own(any_tokenizer: Any) -> None:
    words = long_words(any_tokenizer)
    hidden, found = hide_words(any_tokenizer, words)
    before, after = any_tokenizer.get_vocab(), hidden.get_vocab()
    assert len(hidden) == len(any_tokenizer)
    assert sorted(after.values()) == sorted(before.values())
    assert {i for form, i in before.items() if after.get(form) != i} == set(found.ids)


def test_hidden_entries_are_no_words_and_cannot_be_written(any_tokenizer: Any) -> None:
    hidden, found = hide_words(any_tokenizer, long_words(any_tokenizer))
    assert set(candidates(any_tokenizer).ids) & set(found.ids)
    assert not set(candidates(hidden).ids) & set(found.ids)
    names = [UNREACHABLE.format(i) for i in found.ids]
    texts = [form.format(name) for name in names for form in ("{}", "a {}", "a{}b", "a▁{}", "aĠ{}")]
    assert {i for ids in encode_plain(hidden, texts) for i in ids}.isdisjoint(found.ids)


def test_saved_and_loaded_it_is_the_same(any_tokenizer: Any, tmp_path: Path) -> None:
    hidden, _ = hide_words(any_tokenizer, long_words(any_tokenizer))
    hidden.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    assert tokenizer_fingerprint(load_tokenizer(str(tmp_path))) == tokenizer_fingerprint(hidden)


@pytest.fixture(scope="module")
def words_by_family(tokenizers_by_family: dict[str, Any]) -> dict[str, list[str]]:
    return {family: long_words(tokenizer, 60) for family, tokenizer in tokenizers_by_family.items()}


@given(data=st.data())
def test_text_without_the_words_keeps_its_ids(
    tokenizers_by_family: dict[str, Any], words_by_family: dict[str, list[str]], data: st.DataObject
) -> None:
    family = data.draw(st.sampled_from(sorted(tokenizers_by_family)))
    tokenizer, known = tokenizers_by_family[family], words_by_family[family]
    words = data.draw(st.lists(st.sampled_from(known), min_size=1, max_size=5, unique=True))
    hidden, _ = hide_words(tokenizer, words)
    piece = st.one_of(st.text(max_size=12), st.sampled_from(kitchen_lines()), st.sampled_from(sorted(known)))
    text = " ".join(data.draw(st.lists(piece, min_size=1, max_size=6)))
    for word in words:
        text = text.replace(word, "").replace(word.capitalize(), "")
    if not holds(text, words):
        assert encode_plain(hidden, [text]) == encode_plain(tokenizer, [text])


def test_what_cannot_be_hidden_is_named(tokenizers_by_family: dict[str, Any]) -> None:
    tokenizer = tokenizers_by_family["wordpiece"]
    word = long_words(tokenizer)[0]
    _, found = hide_words(tokenizer, ["a", word, word.upper(), "zorblaxin", "[MASK]", "\u0bf5"])
    assert [w.word for w in found.words] == [word]
    assert {s.term: s.reason for s in found.skipped} == {
        "a": "cannot be written without its own token",
        word.upper(): f"is the same token as {word!r} to this tokenizer",
        "zorblaxin": f"is no word of this model: it has {len(pieces(tokenizer, 'zorblaxin'))} pieces",
        "[MASK]": "is an added token, no entry of the tokenizer's own vocabulary",
        "\u0bf5": "is unknown to this model",
    }


def test_pieces_of_many_words_are_those_of_each(any_tokenizer: Any) -> None:
    words = [*long_words(any_tokenizer), "zorblaxin", "Olive oil", "é"]
    assert pieces_of(any_tokenizer, words) == [tuple(pieces(any_tokenizer, word)) for word in words]


def test_hidden_in_groups_each_word_is_as_hidden_alone(any_tokenizer: Any) -> None:
    words = [w for w in candidates(any_tokenizer).words if w.isalpha()]
    found = hidden_alone(any_tokenizer, words)
    assert len(found) > 20
    for word in words[::7]:
        _, alone = hide_words(any_tokenizer, [word])
        assert found.get(word) == (alone.words[0] if alone.words else None)


@given(st.lists(st.text("abA", min_size=1, max_size=5), max_size=40))
def test_no_word_of_a_group_is_part_of_another(words: list[str]) -> None:
    groups = independent_groups(words)
    assert sorted(w for group in groups for w in group) == sorted(set(words))
    for group in groups:
        assert not any(a.lower() in b.lower() for a in group for b in group if a is not b)


def test_a_word_hidden_with_a_part_of_it_still_gets_its_pieces(tokenizers_by_family: dict[str, Any]) -> None:
    for tokenizer in tokenizers_by_family.values():
        words = [w for w in candidates(tokenizer).words if w.isalpha()]
        pairs = [(a, b) for a in words for b in words if len(a) > 1 and a != b and a in b][:5]
        for pair in pairs:
            hidden, found = hide_words(tokenizer, pair)
            ids = {i for row in encode_plain(hidden, [f"a {w}" for w in pair]) for i in row}
            assert ids.isdisjoint(found.ids)


@pytest.mark.parametrize("family", ["wordpiece", "byte-bpe", "unigram"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gold_rows_are_kept_aside_and_overwritten(make_model: Callable[..., Path], family: str, dtype: Any) -> None:
    folder = make_model(family, padding=3, dtype=dtype)
    base, model = load_model(str(folder)), load_model(str(folder))
    words = long_words(model.tokenizer, 4)
    hidden, gold = hide_in_model(model, [*words, "zorblaxin"])
    before, after = input_embedding(base).weight, input_embedding(model).weight
    assert after.dtype == before.dtype and after.shape == before.shape
    assert np.array_equal(gold, before[[w.id for w in hidden.words]].float().numpy()) and gold.dtype == np.float32
    rest = [i for i in range(len(before)) if i not in hidden.ids]
    assert torch.equal(after[rest], before[rest])
    assert torch.equal(after[hidden.ids], before[rest].float().mean(0).to(before.dtype).expand(len(hidden.ids), -1))
    assert pieces(model.tokenizer, words[0]) == list(hidden.words[0].pieces)
    assert [item.term for item in hidden.skipped] == ["zorblaxin"]


def test_classes_of_a_head_are_overwritten_too(make_decoder: Callable[..., Path], tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    folder = str(make_decoder("phi"))
    model: Any = load_with_head(folder)
    hidden, _ = hide_in_model(model, long_words(model.tokenizer, 3))
    save_with_head(model, tmp_path)
    before, after = (AutoModelForCausalLM.from_pretrained(name).lm_head for name in (folder, tmp_path))
    rest = [i for i in range(len(before.weight)) if i not in hidden.ids]
    for old, new in zip(before.parameters(), after.parameters(), strict=True):  # weight and bias
        assert torch.equal(old[rest], new[rest])
        assert torch.equal(new[hidden.ids], old[rest].mean(0).expand(len(hidden.ids), *old.shape[1:]))


def test_bpe_that_takes_whole_entries_loses_them_too(tokenizers_by_family: dict[str, Any]) -> None:
    from tokenizers import Tokenizer

    tokenizer = tokenizers_by_family["byte-bpe"]
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["model"]["ignore_merges"] = True
    whole = with_backend(tokenizer, Tokenizer.from_str(json.dumps(state)))
    word = long_words(whole)[0]
    hidden, found = hide_words(whole, [word])
    assert len(pieces(hidden, word)) > 1 and not set(pieces(hidden, word)) & set(found.ids)


def sentencepiece_bpe() -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    backend.decoder = decoders.Metaspace()
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False)
    words = [word for line in kitchen_lines() for word in line.split()]
    backend.train_from_iterator(words, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def test_sentencepiece_bpe_loses_merges_and_words() -> None:
    tokenizer = sentencepiece_bpe()
    assert tokenizer_family(tokenizer.backend_tokenizer) == "sentencepiece-bpe"
    words = long_words(tokenizer)
    hidden, found = hide_words(tokenizer, words)
    assert [w.word for w in found.words] == words and len(words) > 5
    seen = {i for ids in encode_plain(hidden, kitchen_lines() + [f"we saw {w} there" for w in words]) for i in ids}
    assert seen.isdisjoint(found.ids)


def wordlevel(pre_tokenizer: Any) -> Any:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    vocab = {"[UNK]": 0, "a": 1, "cheese": 2, "b c": 3}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    if pre_tokenizer is not None:
        backend.pre_tokenizer = pre_tokenizer
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")


def test_a_word_list_has_no_pieces_to_fall_back_on() -> None:
    from tokenizers import pre_tokenizers

    _, found = hide_words(wordlevel(pre_tokenizers.Whitespace()), ["cheese"])
    assert not found.words
    assert found.skipped[0].reason == "cannot be written without its own token"


def test_a_tokenizer_that_sees_spaces_is_refused() -> None:
    from tokenizers import Regex, pre_tokenizers

    lines = pre_tokenizers.Split(Regex("\n"), "removed")
    with pytest.raises(ModelError, match="does not split or mark spaces"):
        hide_words(wordlevel(lines), ["cheese"])
