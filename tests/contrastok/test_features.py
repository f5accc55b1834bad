from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from contrastok import features as module
from contrastok.bank import FrozenEncoder
from contrastok.data_gen.known import known_words
from contrastok.evidence import WordEvidence
from contrastok.features import (
    SOURCES,
    WINDOW,
    EvidenceEncoder,
    Features,
    WordInput,
    bag_weights,
    word_inputs,
)
from contrastok.hiding import hidden_alone, hide_words, pieces_of
from contrastok.models import input_embedding, load_model, transformer
from contrastok.vocabulary import encode_plain, extend_tokenizer, plan_vocabulary
from tests.conftest import kitchen_lines

FAMILIES = ("wordpiece", "byte-bpe", "unigram")


@pytest.fixture(scope="module")
def words_of(tokenizers_by_family: dict[str, Any]) -> dict[str, list[str]]:
    """For each family some words that can be hidden."""
    found = {}
    for family, tokenizer in tokenizers_by_family.items():
        words = [w for w in known_words(tokenizer) if w.isalpha() and w.islower() and len(w) > 3]
        found[family] = list(hidden_alone(tokenizer, words[:: max(1, len(words) // 25)]))
    return found


def as_known(tokenizer: Any, word: WordEvidence, sentences: int = 4) -> WordInput:
    hidden = hidden_alone(tokenizer, [word.token])[word.token]
    (found,) = word_inputs([word], [hidden.ids], [hidden.pieces], [(1,) * len(hidden.pieces)], tokenizer, sentences)
    return found


def as_new(tokenizer: Any, word: WordEvidence, sentences: int = 4) -> WordInput:
    """The word hidden, taught as a new one, and looked at as gen-pairs and train would."""
    hidden, _ = hide_words(tokenizer, [word.token])
    plan = plan_vocabulary(hidden, [word.token])
    (pieces,) = pieces_of(hidden, [word.token])
    new = replace(word, known=False)
    forms = [plan.ids_of(word.token)]
    (found,) = word_inputs([new], forms, [pieces], [(1,) * len(pieces)], extend_tokenizer(hidden, plan), sentences)
    return found


@given(data=st.data())
@settings(max_examples=40)
def test_a_known_word_looks_as_it_would_as_a_new_one(
    tokenizers_by_family: dict[str, Any], words_of: dict[str, list[str]], data: st.DataObject
) -> None:
    family = data.draw(st.sampled_from(FAMILIES))
    word = data.draw(st.sampled_from(words_of[family]))
    # Without "in" byte-level BPE cannot build "thing" either: the texts hold the word as a word only.
    assume(all(word not in frame for frame in ("a thing", "so", "and")))
    others = st.sampled_from([line for line in kitchen_lines() if word not in line.casefold()])
    form = st.sampled_from([word, word.capitalize()])
    text = st.lists(st.tuples(others, form), min_size=1, max_size=3).map(
        lambda parts: "So " + " and ".join(f"{line} {form}" for line, form in parts)
    )
    tokenizer = tokenizers_by_family[family]
    capital = pieces_of(tokenizer, [word.capitalize()])[0]
    evidence = WordEvidence(
        word, True, data.draw(text), (f"so {word}",), ("a thing",), tuple(data.draw(st.lists(text, max_size=3)))
    )
    if len(capital) > 1:  # a capital form that the model has no token for stays as it is, while a new word brings one
        evidence = replace(
            evidence,
            definition=evidence.definition.replace(word.capitalize(), word),
            sentences=tuple(s.replace(word.capitalize(), word) for s in evidence.sentences),
        )
    known, new = as_known(tokenizer, evidence), as_new(tokenizer, evidence)
    assert known == new
    own = set(hidden_alone(tokenizer, [word])[word].ids)
    for ids in (*known.sentences, *known.definition, *known.synonyms, known.pieces):
        assert own.isdisjoint(ids)


def test_every_form_of_a_known_word_is_split(tokenizers_by_family: dict[str, Any]) -> None:
    """Byte-level BPE has a word with and without its space, and capitalised: each would give its meaning away."""
    tokenizer = tokenizers_by_family["byte-bpe"]
    several = {w: h for w, h in hidden_alone(tokenizer, list(known_words(tokenizer))).items() if len(h.ids) > 1}
    assert several
    for word, hidden in several.items():
        forms = " ".join([word, f"a {word}", f"a {word.capitalize()}", f"({word})"])
        found = as_known(tokenizer, WordEvidence(word, True, forms, (), (), (forms,)))
        assert not set(hidden.ids) & {i for ids in (*found.sentences, *found.definition) for i in ids}


def test_windows_hold_the_first_place(any_tokenizer: Any) -> None:
    (word,) = [w for w in ("cheese",) if len(pieces_of(any_tokenizer, [w])[0]) == 1]
    long = " ".join(line for line in kitchen_lines() if word not in line.casefold())[:2000]
    texts = (f"we eat {word} {long}", f"{long} {word} {long}", f"{long} {word}", f"no such word here {long}")
    found = as_known(any_tokenizer, WordEvidence(word, True, texts[1], (), (), texts))
    assert len(found.sentences) == len(found.places) == 3  # the last text does not hold it
    assert len(found.definition[0]) == WINDOW
    for ids, places in zip(found.sentences, found.places, strict=True):
        assert len(ids) <= WINDOW and tuple(ids[p] for p in places) == found.pieces
    assert found.places[1][0] == WINDOW // 2
    assert (
        found.sentences[0]
        == tuple(
            i for ids in (encode_plain(any_tokenizer, [texts[0]])[0],) for i in _split(ids, any_tokenizer, found.pieces)
        )[:WINDOW]
    )
    assert as_known(any_tokenizer, WordEvidence(word, True, "", (), (), texts), 1).sentences == found.sentences[:1]


def _split(ids: list[int], tokenizer: Any, pieces: tuple[int, ...]) -> list[int]:
    own = pieces_of(tokenizer, ["cheese"])[0][0]
    return [part for i in ids for part in (pieces if i == own else (i,))]


def test_a_text_of_which_nothing_is_left_takes_no_other_place(tokenizers_by_family: dict[str, Any]) -> None:
    tokenizer = tokenizers_by_family["wordpiece"]
    assert encode_plain(tokenizer, ["\u200b"]) == [[]]
    found = as_known(tokenizer, WordEvidence("cheese", True, "\u200b", ("\u200b", "brie"), ("food",), ()))
    assert found.definition == () and len(found.synonyms) == len(found.broader) == 1
    assert [found.broader[0]] == [tuple(encode_plain(tokenizer, ["food"])[0])]


def test_a_word_of_very_many_pieces_is_cut(tokenizers_by_family: dict[str, Any]) -> None:
    term = "z" + "q" * 90
    found = as_new_term(tokenizers_by_family["byte-bpe"], term)
    assert len(found.pieces) == len(found.lengths) == WINDOW


def as_new_term(tokenizer: Any, term: str) -> WordInput:
    plan = plan_vocabulary(tokenizer, [term])
    (pieces,) = pieces_of(tokenizer, [term])
    (found,) = word_inputs(
        [WordEvidence(term, False, "", (), (), ())], [plan.ids_of(term)], [pieces], [(1,) * len(pieces)],
        extend_tokenizer(tokenizer, plan), 4,
    )  # fmt: skip
    return found


def test_in_the_texts_of_a_term_all_new_tokens_are_split(any_tokenizer: Any) -> None:
    terms = ["breadzorb", "saltimax"]
    plan = plan_vocabulary(any_tokenizer, terms)
    split = pieces_of(any_tokenizer, terms)
    words = [WordEvidence(term, False, "", (), (), ("we eat breadzorb and saltimax",)) for term in terms]
    lengths = [(1,) * len(pieces) for pieces in split]
    forms = [plan.ids_of(term) for term in terms]
    found = word_inputs(words, forms, split, lengths, extend_tokenizer(any_tokenizer, plan), 4)
    plain = tuple(encode_plain(any_tokenizer, ["we eat breadzorb and saltimax"])[0])
    for word, pieces in zip(found, split, strict=True):
        assert word.sentences == (plain,)
        assert tuple(plain[p] for p in word.places[0]) == pieces
    assert set(found[0].places[0]).isdisjoint(found[1].places[0])


@pytest.fixture(scope="module")
def models(make_model: Callable[..., Path]) -> dict[str, Any]:
    return {family: load_model(str(make_model(family))) for family in FAMILIES}


def inputs_for(tokenizer: Any, words: list[str], sentences: int = 3) -> list[WordInput]:
    """Known words with the kitchen's sentences; every third lacks a definition, every fourth sentences."""
    lines = kitchen_lines()
    found = []
    for k, word in enumerate(words):
        texts = tuple(line for line in lines if f" {word} " in line)[:sentences] if k % 4 else ()
        evidence = WordEvidence(
            word, True, f"it is {lines[k][:40]}" if k % 3 else "", ("good bread",) * (k % 2), (), texts
        )
        found.append(replace(as_known(tokenizer, evidence), per_million=float(k)))
    return found


def encode(model: Any, words: list[WordInput], ids: list[int] | None = None, *, cache: bool = False) -> Features:
    encoder = EvidenceEncoder(FrozenEncoder(model, model.tokenizer, cache=cache))
    return encoder.features(words, bag_weights(words, len(model.tokenizer)), "Reading", ids or ())


def equal(a: Features, b: Features) -> bool:
    return (
        a.blocks.keys() == b.blocks.keys()
        and all(np.array_equal(block, b.blocks[name]) for name, block in a.blocks.items())
        and all(np.array_equal(flags, b.present[name]) for name, flags in a.present.items())
        and np.array_equal(a.sentences, b.sentences)
    )


@pytest.mark.parametrize(
    ("family", "side"), [*((f, "right") for f in FAMILIES), ("byte-bpe", "left"), ("unigram", "left")]
)
def test_states_are_those_at_the_words_pieces(
    models: dict[str, Any], words_of: dict[str, list[str]], family: str, side: str
) -> None:
    """Against the model on one sentence at a time, without padding."""
    model = models[family]
    words = inputs_for(model.tokenizer, words_of[family][:9])
    before, model.tokenizer.padding_side = model.tokenizer.padding_side, side
    try:
        found = encode(model, words)
    finally:
        model.tokenizer.padding_side = before
    frame = EvidenceEncoder(FrozenEncoder(model, model.tokenizer, cache=False)).frame
    body = transformer(model)
    for k, word in enumerate(words):
        texts = {
            "form": [(word.pieces, range(len(word.pieces)))],
            "sentences": list(zip(word.sentences, word.places, strict=True)),
        }
        for source, pairs in texts.items():
            states, outputs = [], []
            for ids, places in pairs:
                tokens = torch.tensor([frame(list(ids))])
                with torch.no_grad():
                    layers = body(
                        tokens, attention_mask=torch.ones_like(tokens), output_hidden_states=True
                    ).hidden_states
                    mean = layers[-1][0].mean(0)
                states.append(
                    torch.stack(
                        [layer[0, [1 + p for p in places]].mean(0) for layer in (layers[1], layers[1], layers[2])]
                    )
                )
                outputs.append(mean / mean.norm())
            expected = torch.stack(states).mean(0) if states else torch.zeros(3, 32)
            for layer, name in zip(expected, ("early", "middle", "last"), strict=True):
                np.testing.assert_allclose(found.blocks[f"{source}/state {name}"][k], layer.numpy(), atol=4e-3)
            output = torch.stack(outputs).mean(0) if outputs else torch.zeros(32)
            np.testing.assert_allclose(found.blocks[f"{source}/output"][k], output.numpy(), atol=2e-3)


def test_what_is_missing_is_zero_and_marked(models: dict[str, Any], words_of: dict[str, list[str]]) -> None:
    model = models["wordpiece"]
    words = inputs_for(model.tokenizer, words_of["wordpiece"][:9])
    found = encode(model, words)
    assert set(found.present) == set(SOURCES) and found.present["form"].all()
    assert not found.present["broader"].any() and found.present["definition"].sum() == 6
    assert list(found.present["synonyms"]) == [bool(k % 2) for k in range(9)]
    assert {name.split("/")[0] for name in found.blocks} == set(SOURCES)
    for name, block in found.blocks.items():
        has = found.present[name.split("/")[0]]
        assert block.dtype == np.float32 and np.isfinite(block).all() and not block[~has].any()
        assert not len(block[has]) or block[has].any()
    assert list(found.sentences) == [len(word.sentences) for word in words] and 0 in found.sentences


def test_bags_of_rows_against_a_plain_loop(models: dict[str, Any], words_of: dict[str, list[str]]) -> None:
    model = models["wordpiece"]
    words = inputs_for(model.tokenizer, words_of["wordpiece"][:9])
    words[1] = replace(words[1], lengths=tuple(range(1, 1 + len(words[1].pieces))))
    weights, found = bag_weights(words, len(model.tokenizer)), encode(model, words)
    texts = [text for word in words for text in (*word.sentences, *word.definition)]
    for i in (words[1].definition[0][0], words[1].pieces[0], 5):
        count = sum(i in text for text in texts)
        assert weights[i] == pytest.approx(max(np.log(len(texts) / max(count, 1)), 1e-3), rel=1e-6)
    table = input_embedding(model).weight.detach().numpy()
    for k, word in enumerate(words):
        around = [
            i for ids, at in zip(word.sentences, word.places, strict=True) for p, i in enumerate(ids) if p not in at
        ]
        for name, ids in (("sentences", around), ("definition", [i for text in word.definition for i in text])):
            expected = sum(weights[i] * table[i] for i in ids) / sum(weights[i] for i in ids) if ids else np.zeros(32)
            np.testing.assert_allclose(found.blocks[f"{name}/rows"][k], expected, atol=1e-5)
        np.testing.assert_allclose(found.blocks["form/subtoken mean"][k], table[list(word.pieces)].mean(0), atol=1e-6)
        by_length = np.average(table[list(word.pieces)], axis=0, weights=word.lengths)
        np.testing.assert_allclose(found.blocks["form/character length mean"][k], by_length, atol=1e-6)


def test_neighbours_in_a_batch_do_not_matter(
    models: dict[str, Any], words_of: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models["wordpiece"]
    words = inputs_for(model.tokenizer, words_of["wordpiece"][:9])
    weights = bag_weights(words, len(model.tokenizer))
    whole = encode(model, words)
    assert equal(whole, encode(model, words))
    for shard, batch in ((4, 64), (256, 3)):
        monkeypatch.setattr(module, "SHARD", shard)
        monkeypatch.setattr(module, "BATCH", batch)
        other = encode(model, words)
        for name, block in whole.blocks.items():
            np.testing.assert_allclose(other.blocks[name], block, atol=4e-3)
    encoder = EvidenceEncoder(FrozenEncoder(model, model.tokenizer, cache=False))
    alone = encoder.features(words[5:6], weights, "Reading")
    for name, block in whole.blocks.items():
        np.testing.assert_allclose(alone.blocks[name][0], block[5], atol=4e-3)


def test_the_cache_gives_the_same_bits(
    models: dict[str, Any], words_of: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CONTRASTOK_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "SHARD", 3)
    model = models["wordpiece"]
    words = inputs_for(model.tokenizer, words_of["wordpiece"][:9])
    first = encode(model, words, cache=True)
    assert equal(first, encode(model, words))  # as without a cache
    files = sorted(tmp_path.rglob("evidence/*.arrays"))
    assert len(files) == 3

    def never(*_: object) -> None:
        raise AssertionError("encoded again")

    with monkeypatch.context() as patch:
        patch.setattr(EvidenceEncoder, "_encode", never)
        assert equal(first, encode(model, words, cache=True))
    whole = files[0].read_bytes()
    for broken, content in zip(files, (whole[: len(whole) // 2], b"", b"no archive at all"), strict=True):
        broken.write_bytes(content)
    assert equal(first, encode(model, words, cache=True))
    assert files[0].read_bytes() == whole  # mended


def test_a_word_less_leaves_what_is_kept_of_others(
    models: dict[str, Any], words_of: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CONTRASTOK_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "SHARD", 4)
    model = models["wordpiece"]
    words, ids = inputs_for(model.tokenizer, words_of["wordpiece"][:6]), [1, 3, 4, 9, 10, 11]
    encode(model, words, ids, cache=True)
    assert len(list(tmp_path.rglob("evidence/*.arrays"))) == 3
    found = encode(model, words[1:], ids[1:], cache=True)
    assert len(list(tmp_path.rglob("evidence/*.arrays"))) == 4
    assert len(found) == 5


def test_some_of_the_words(models: dict[str, Any], words_of: dict[str, list[str]]) -> None:
    model = models["wordpiece"]
    found = encode(model, inputs_for(model.tokenizer, words_of["wordpiece"][:9]))
    for rows in (np.array([4, 1]), found.present["definition"]):
        part = found.take(rows)
        assert np.array_equal(part.blocks["sentences/output"], found.blocks["sentences/output"][rows])
        assert np.array_equal(part.present["synonyms"], found.present["synonyms"][rows])
        assert np.array_equal(part.sentences, found.sentences[rows]) and len(part) == len(found.sentences[rows])
