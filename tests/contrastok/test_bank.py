from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contrastok import bank
from contrastok.bank import FrozenEncoder, collate, encode_sequences, special_frame
from contrastok.candidates import candidates
from contrastok.errors import OutputError
from contrastok.models import load_model


def test_encodings_are_those_of_sentence_transformers(tiny_model: Path) -> None:
    model = load_model(str(tiny_model))
    texts = ["the cheese is old", "a knife", "we had soup and bread for dinner"]
    ours = FrozenEncoder(model, model.tokenizer).encode(texts)
    theirs = model.encode(texts, normalize_embeddings=True)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_cache_is_used_and_gives_the_same_bits(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CONTRASTOK_CACHE", str(tmp_path))
    monkeypatch.setattr(bank, "SHARD", 2)
    model = load_model(str(tiny_model))
    texts = [f"cheese number {i}" for i in range(5)]
    first = FrozenEncoder(model, model.tokenizer).encode(texts)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 3

    def never(*_: object) -> None:
        raise AssertionError("encoded again")

    with monkeypatch.context() as patch:
        patch.setattr(bank, "encode_sequences", never)
        assert (FrozenEncoder(model, model.tokenizer).encode(texts) == first).all()
        one = FrozenEncoder(model, model.tokenizer).encode(texts[:2])
        one[0] = 0  # its own copy
        assert (FrozenEncoder(model, model.tokenizer).encode(texts) == first).all()
    broken, other, _ = tmp_path.rglob("*.safetensors")
    broken.write_bytes(b"cut short")
    other.write_bytes(b"")
    assert (FrozenEncoder(model, model.tokenizer).encode(texts) == first).all()
    changed = bytearray(other.read_bytes())
    changed[-3] ^= 1
    other.write_bytes(changed)  # a flipped bit
    assert (FrozenEncoder(model, model.tokenizer).encode(texts) == first).all()
    broken.write_bytes(broken.read_bytes()[:-8])
    with monkeypatch.context() as patch:  # a folder that nobody may write to
        patch.setattr(Path, "unlink", _no_right)
        patch.setattr(bank, "atomic_file", _refuse)
        assert (FrozenEncoder(model, model.tokenizer).encode(texts) == first).all()
    assert (FrozenEncoder(model, model.tokenizer, cache=False).encode(texts) == first).all()


def _no_right(*_: object, **__: object) -> None:
    raise PermissionError(30, "Read-only file system")


def _refuse(*_: object, **__: object) -> None:
    raise OutputError("is read-only")


def test_more_texts_cost_only_their_own_shard(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CONTRASTOK_CACHE", str(tmp_path))
    monkeypatch.setattr(bank, "SHARD", 2)
    model = load_model(str(tiny_model))
    texts = [f"cheese number {i}" for i in range(5)]
    real, encoded = bank.encode_sequences, []

    def counted(*given: Any) -> np.ndarray:
        encoded.append(len(given[2]))
        if len(encoded) == 3:
            raise KeyboardInterrupt  # killed: the shards before are kept
        return real(*given)

    monkeypatch.setattr(bank, "encode_sequences", counted)
    with pytest.raises(KeyboardInterrupt):
        FrozenEncoder(model, model.tokenizer).encode(texts)
    FrozenEncoder(model, model.tokenizer).encode(texts)
    FrozenEncoder(model, model.tokenizer).encode([*texts, "soup"])
    assert encoded == [2, 2, 1, 1, 2]


def test_all_who_ask_for_words_share_what_is_kept(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CONTRASTOK_CACHE", str(tmp_path))
    model = load_model(str(tiny_model))
    encoder, words = FrozenEncoder(model, model.tokenizer), candidates(model.tokenizer).ids
    pad = model.tokenizer.pad_token_id
    asked = [words[7], words[3], pad, words[7]]
    few = FrozenEncoder(model, model.tokenizer, cache=False).encode_words(asked)
    np.testing.assert_allclose(few, encoder.encode_ids([[i] for i in asked]), atol=1e-6)
    encoder.encode_words(words[5:9])
    monkeypatch.setattr(bank, "encode_sequences", None)
    assert (encoder.encode_words(words)[[7, 3]] == few[:2]).all()


def test_another_model_has_another_cache(make_model: object, tiny_model: Path) -> None:
    model = load_model(str(tiny_model))
    folder = FrozenEncoder(model, model.tokenizer).folder
    model[0].auto_model.embeddings.word_embeddings.weight.data[5, 0] += 1e-3
    assert FrozenEncoder(model, model.tokenizer).folder != folder


def test_isolated_tokens_are_framed(tiny_model: Path) -> None:
    model = load_model(str(tiny_model))
    tokenizer = model.tokenizer
    frame = special_frame(tokenizer)
    assert frame([7, 8]) == [tokenizer.cls_token_id, 7, 8, tokenizer.sep_token_id]
    by_ids = FrozenEncoder(model, tokenizer).encode_ids([tokenizer("cheese", add_special_tokens=False)["input_ids"]])
    np.testing.assert_allclose(by_ids, FrozenEncoder(model, tokenizer).encode(["cheese"]), atol=1e-6)


def test_padding_side_and_order(tiny_model: Path) -> None:
    model = load_model(str(tiny_model))
    batch = collate(model.tokenizer, [[1, 2, 3], [4]], "cpu")
    assert batch["input_ids"].tolist() == [[1, 2, 3], [4, model.tokenizer.pad_token_id, model.tokenizer.pad_token_id]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    sequences = [[2, 9, 9, 9, 3], [2, 8, 3], [2, 7, 7, 3]]
    together = encode_sequences(model, model.tokenizer, sequences)
    for one, sequence in zip(together, sequences, strict=True):
        np.testing.assert_allclose(one, encode_sequences(model, model.tokenizer, [sequence])[0], atol=1e-5)


def test_nothing_to_encode(tiny_model: Path) -> None:
    model = load_model(str(tiny_model))
    assert FrozenEncoder(model, model.tokenizer).encode([]).shape == (0, 32)


def test_other_pooling_is_another_model(tiny_model: Path) -> None:
    """The same weights with another pooling give other outputs and must never share a cache."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer

    transformer = Transformer(str(tiny_model))
    folders = set()
    for mode in ("mean", "cls"):
        model = SentenceTransformer(modules=[transformer, Pooling(32, pooling_mode=mode)], device="cpu")
        folders.add(FrozenEncoder(model, model.tokenizer).folder)
    assert len(folders) == 2


def test_a_cache_that_cannot_be_written_is_done_without(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTRASTOK_CACHE", "/proc/no-such-place")
    model = load_model(str(tiny_model))
    assert FrozenEncoder(model, model.tokenizer).encode(["a knife"]).shape == (1, 32)
    monkeypatch.setattr(bank, "SHARD", 2)
    assert FrozenEncoder(model, model.tokenizer).encode(["a knife"] * 3).shape == (3, 32)
