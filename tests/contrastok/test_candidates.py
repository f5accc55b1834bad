from __future__ import annotations

import pytest
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import BPE, WordPiece
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerFast

from contrastok.candidates import WordStarts, candidates, is_readable


def test_wordpiece_keeps_whole_words_only() -> None:
    tokens = ["[PAD]", "[UNK]", "[unused0]", "[unused17]", "!", "a", "cheese", "##ese", "...", "7", "1990", "##", "日"]
    backend = Tokenizer(WordPiece({token: i for i, token in enumerate(tokens)}, unk_token="[UNK]"))
    backend.decoder = WordPieceDecoder()
    found = candidates(PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]"))
    assert found.words == ("cheese", "1990", "日")
    assert [tokens[i] for i in found.ids] == list(found.words)


def test_byte_level_keeps_pieces_that_begin_a_word_and_shows_them_without_the_mark() -> None:
    tokens = ["<s>", "Ġcheese", "cheese", "ese", "ĠCheese", "Ġ!", "Ã", "ĠÃ©tÃ©", "ĠÃ"]
    backend = Tokenizer(BPE({token: i for i, token in enumerate(tokens)}, []))
    backend.pre_tokenizer, backend.decoder = ByteLevel(), ByteLevelDecoder()
    found = candidates(PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>"))
    assert found.words == ("cheese", "Cheese", "été")
    assert found.positions() == {"cheese": 0, "Cheese": 1, "été": 2}


@pytest.mark.parametrize(
    ("word", "readable"),
    [
        ("cheese", True),
        ("c-3", True),
        ("\U0001f9c0", True),
        ("日", True),
        ("x", False),
        ("7", False),
        ("!", False),
        ("--", False),
        ("\u093f", False),
        ("", False),
        ("ca\ufffd", False),
    ],
)
def test_what_a_person_reads(word: str, readable: bool) -> None:
    assert is_readable(word) is readable


def test_ideographs_are_words_where_the_language_is_written_in_them() -> None:
    assert not is_readable("日", ideographs=False)
    few = {"[UNK]": 0, "日": 1, **{f"word{i}": i + 2 for i in range(40)}}
    backend = Tokenizer(WordPiece(few, unk_token="[UNK]"))
    assert "日" not in candidates(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")).words


@pytest.mark.parametrize(
    ("vocabulary", "goes_on"),
    [
        ("cheese ##ese ## , c", ["##ese"]),
        ("Ġcheese Ġ, ese , -", ["ese"]),
        ("▁cheese ▁, ese , - 7", ["ese", "7"]),
    ],
)
def test_which_pieces_continue_a_word(vocabulary: str, goes_on: list[str]) -> None:
    starts = WordStarts(vocabulary.split())
    assert [token for token in vocabulary.split() if starts.continues(token)] == goes_on
