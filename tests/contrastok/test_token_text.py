from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastok.candidates import candidates
from contrastok.hiding import pieces_of
from contrastok.token_text import READERS, Splitter, TokenText, token_texts


@pytest.mark.parametrize(
    ("family", "token", "expected"),
    [
        ("wordpiece", "##ing", TokenText("ing", False)),
        ("wordpiece", "##", TokenText("##", True)),
        ("wordpiece", "cook", TokenText("cook", True)),
        ("byte-bpe", "Ġcook", TokenText("cook", True)),
        ("byte-bpe", "ing", TokenText("ing", False)),
        ("byte-bpe", "Ġcaf\u00c3\u00a9", TokenText("café", True)),
        ("byte-bpe", "\u00c3", None),
        ("unigram", "▁cook", TokenText("cook", True)),
        ("unigram", "ing", TokenText("ing", False)),
        ("sentencepiece-bpe", "<0x0A>", None),
    ],
)
def test_marks_are_read(family: str, token: str, expected: TokenText | None) -> None:
    assert READERS[family](token) == expected


def test_special_tokens_and_spaces_are_no_text(any_tokenizer: Any) -> None:
    found = token_texts(any_tokenizer)
    assert found and not found.keys() & set(any_tokenizer.all_special_ids)
    assert all(token.text.strip() == token.text != "" for token in found.values())
    assert list(found) == sorted(found)


def test_a_word_falls_apart_as_in_running_text(any_tokenizer: Any) -> None:
    words = [*candidates(any_tokenizer).words, "zorblaxin", "quinoa", "well-done", "x3000", "don't"]
    split = Splitter(any_tokenizer)
    unknown = any_tokenizer.unk_token_id
    for word, ids in zip(words, pieces_of(any_tokenizer, words), strict=True):
        assert split.pieces(TokenText(word, True)) == tuple(i for i in ids if i != unknown), word


def test_a_piece_inside_a_word_is_its_own_split(any_tokenizer: Any) -> None:
    split, found = Splitter(any_tokenizer), token_texts(any_tokenizer)
    inside = {i: token for i, token in found.items() if not token.starts and token.text.isalpha()}
    assert len(inside) > 50
    same = [split.pieces(token) == (i,) for i, token in inside.items()]
    assert sum(same) > 0.95 * len(same)  # a few merges of a BPE are never reached


@settings(max_examples=60)
@given(word=st.text("abcdefghijklmnoprst", min_size=1, max_size=12))
def test_pieces_inside_a_word_spell_it_and_begin_none(tokenizers_by_family: dict[str, Any], word: str) -> None:
    for tokenizer in tokenizers_by_family.values():
        found = token_texts(tokenizer)
        pieces = [found[i] for i in Splitter(tokenizer).pieces(TokenText(word, False))]
        assert "".join(piece.text for piece in pieces) == word
        assert not any(piece.starts for piece in pieces)


def test_unknown_characters_are_left_out(tokenizers_by_family: dict[str, Any]) -> None:
    assert Splitter(tokenizers_by_family["wordpiece"]).pieces(TokenText("\u4e2d\u6587", True)) == ()
