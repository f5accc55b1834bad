from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers
from transformers import PreTrainedTokenizerFast

from contrastok.data_gen.fold import Fold
from contrastok.models import load_tokenizer
from contrastok.vocabulary import normalise


def fold_of(normalizer: Any) -> Fold:
    backend = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    if normalizer is not None:
        backend.normalizer = normalizer
    return Fold(PreTrainedTokenizerFast(tokenizer_object=backend))


BERT = fold_of(normalizers.BertNormalizer(lowercase=True))
LLAMA = fold_of(normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]))
FOLDS = {"bert": BERT, "llama": LLAMA, "nfkc": fold_of(normalizers.NFKC()), "none": fold_of(None)}


@pytest.mark.parametrize(
    ("fold", "text", "expected"),
    [
        (BERT, "Crème Brûlée\tETC", "creme brulee etc"),
        (BERT, "soft\u00adhyphen cafe\u0301", "softhyphen cafe"),
        (BERT, "\u4e2dHalloumi", " \u4e2d halloumi"),  # the tokenizer puts Chinese characters between spaces
        (LLAMA, "Two words", "Two words"),  # neither the prepended mark nor marks in the place of spaces
        (FOLDS["nfkc"], "ﬁne １２", "fine 12"),
        (FOLDS["none"], "Crème\nBrûlée", "Crème Brûlée"),
    ],
)
def test_fold_does_what_the_normaliser_does(fold: Fold, text: str, expected: str) -> None:
    assert fold.fold(text) == expected


@given(text=st.text(), name=st.sampled_from(sorted(FOLDS)))
def test_offsets_point_at_the_character_that_was_folded(text: str, name: str) -> None:
    fold = FOLDS[name]
    folded, offsets = fold.fold_with_offsets(text)
    assert folded == fold.fold(text)
    assert len(offsets) == len(folded) + 1 and offsets[len(folded)] == len(text)
    assert list(offsets) == sorted(offsets)
    assert all(character in fold.fold(text[offsets[i]]) for i, character in enumerate(folded))


@given(text=st.text(alphabet=st.characters(max_codepoint=0x24F)))
def test_fold_agrees_with_the_tokenizer_on_latin_text(text: str, tokenizers_by_family: dict[str, Any]) -> None:
    for tokenizer in tokenizers_by_family.values():
        assert " ".join(Fold(tokenizer).fold(text).split()) == normalise(tokenizer.backend_tokenizer, text)


def test_identity_of_length_costs_no_list_of_offsets() -> None:
    assert BERT.fold_with_offsets("Café Noir")[1] == range(10)
    assert BERT.fold_with_offsets("a\u00adß中")[1] == [0, 2, 3, 3, 3, 4]


def test_key_ignores_case_and_spacing_even_for_a_cased_tokenizer() -> None:
    assert FOLDS["none"].key("  Goat\n Cheese ") == "goat cheese"
    assert FOLDS["none"].fold("Goat") == "Goat"


def test_the_packaged_model_folds_case_and_accents() -> None:
    assert Fold(load_tokenizer("minilm")).fold("Señor HbA1c") == "senor hba1c"


def test_plain_text_folds_fast() -> None:
    text = "Some plain English text, with Words in it. " * 100_000
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        BERT.fold(text)
        seconds.append(time.perf_counter() - started)
    assert len(text) / 1e6 / min(seconds) > 50  # MB/s; several hundred when nothing else runs
