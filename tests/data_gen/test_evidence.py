from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contrastok.data_gen.corpus import Document
from contrastok.data_gen.evidence import DUPLICATE, NOT_ENCODED, TOO_SHORT, Mined, MiningOptions, mine
from contrastok.data_gen.fold import Fold
from contrastok.data_gen.matcher import TermMatcher

TERMS = ["halloumi", "sumac"]


def everything(texts: Sequence[str], term: int) -> list[bool]:
    return [True] * len(texts)


@pytest.fixture(scope="module")
def fold(tokenizers_by_family: dict[str, Any]) -> Fold:
    return Fold(tokenizers_by_family["wordpiece"])


def mined(fold: Fold, *texts: str, confirm: Any = everything, **options: int) -> Mined:
    documents = [Document(text, f"corpus.txt:{i}") for i, text in enumerate(texts, start=1)]
    return mine(documents, TERMS, TermMatcher(TERMS, fold), confirm, MiningOptions(**options))


def texts_of(result: Mined, term: str) -> list[str]:
    return sorted(sentence.text for sentence in result.evidence[term].sentences)


def test_sentences_are_found_counted_and_placed(fold: Fold) -> None:
    result = mined(
        fold,
        "We grilled the HALLOUMI outside. Nobody came to see it.\n\nThen it rained on us.",
        "Put sumac on halloumi, halloumi on bread.",
        "Nothing of interest stands in here.",
    )
    assert (result.documents, result.characters, result.sentences) == (3, 154, 2)
    first, second = sorted(result.evidence["halloumi"].sentences)
    assert (first.text, first.source) == ("Put sumac on halloumi, halloumi on bread.", "corpus.txt:2")
    assert [first.text[a:b] for a, b in first.spans] == ["halloumi", "halloumi"]
    assert [second.text[a:b] for a, b in second.spans] == ["HALLOUMI"]
    assert texts_of(result, "sumac") == [first.text]


def test_terms_that_hold_the_marks_of_a_sentence_are_found(fold: Fold) -> None:
    terms = [".net", "joy! bar", "halloumi"]
    text = "We write all of it in .NET these days. A Joy! Bar lies on my desk. Eat more halloumi! Or do not."
    found = mine([Document(text, "a:1")], terms, TermMatcher(terms, fold), everything, MiningOptions())
    assert [texts_of(found, term) for term in terms] == [
        ["We write all of it in .NET these days."],
        ["A Joy! Bar lies on my desk."],
        [],  # too short
    ]
    assert found.dropped[TOO_SHORT] == 1


def test_short_sentences_are_dropped_and_counted(fold: Fold) -> None:
    result = mined(fold, "Halloumi and sumac! Eat more halloumi every day.")
    assert texts_of(result, "halloumi") == ["Eat more halloumi every day."]
    assert result.dropped == {TOO_SHORT: 2, NOT_ENCODED: 0, DUPLICATE: 0}
    assert result.sentences == 2


def test_near_duplicates_are_one_whatever_their_digits_case_and_punctuation(fold: Fold) -> None:
    lines = ["Page 7: We eat halloumi here.", "page 12: we eat halloumi here!", "Page 7: We eat halloumi there."]
    result = mined(fold, *lines, lines[0])
    assert texts_of(result, "halloumi") == [lines[0], lines[2]]
    halloumi = result.evidence["halloumi"]
    assert (halloumi.found, halloumi.repeated, result.dropped[DUPLICATE]) == (2, 2, 2)


def test_long_sentences_become_windows_around_each_term(fold: Fold) -> None:
    filler = " ".join(f"word{i}" for i in range(40))
    result = mined(fold, f"halloumi {filler} sumac {filler}", max_words=9)
    (first,), (second,) = (result.evidence[term].sentences for term in TERMS)
    assert first.text.split()[0] == "halloumi" and len(first.text.split()) == 9
    assert second.text.split()[4] == "sumac" and len(second.text.split()) == 9
    assert second.text[slice(*second.spans[0])] == "sumac"


def test_matches_that_the_tokenizer_does_not_confirm_are_dropped_and_counted(fold: Fold) -> None:
    def not_cold(texts: Sequence[str], term: int) -> list[bool]:
        return [TERMS[term] != "sumac" or "cold" not in text for text in texts]

    result = mined(fold, "Some cold halloumi with sumac on it.", "Red sumac is a spice.", confirm=not_cold)
    assert len(texts_of(result, "halloumi")) == 1 and texts_of(result, "sumac") == ["Red sumac is a spice."]
    assert result.dropped[NOT_ENCODED] == 1 and result.evidence["sumac"].found == 1


def test_the_cap_keeps_a_sample_that_the_seed_decides(fold: Fold) -> None:
    lines = [f"Number {chr(97 + i) * 3} of the halloumi lines." for i in range(26)]
    one, other = mined(fold, *lines, max_sentences=5), mined(fold, *lines, max_sentences=5, seed=1)
    assert one.evidence["halloumi"].found == 26
    assert len(texts_of(one, "halloumi")) == len(texts_of(other, "halloumi")) == 5
    assert texts_of(one, "halloumi") != texts_of(other, "halloumi")


@given(
    lines=st.lists(
        st.sampled_from(["a b", "a B.", "b 1", "b 2", "c", "d", "sumac"]).map("we see {} halloumi here".format)
    ),
    cap=st.integers(1, 4),
    shuffle=st.randoms(),
)
def test_the_order_of_documents_decides_nothing(fold: Fold, lines: list[str], cap: int, shuffle: random.Random) -> None:
    documents = [Document(line, f"{i}") for i, line in enumerate(lines)]
    matcher, options = TermMatcher(TERMS, fold), MiningOptions(max_sentences=cap)
    before = mine(documents, TERMS, matcher, everything, options)
    shuffle.shuffle(documents)
    assert mine(documents, TERMS, matcher, everything, options) == before


def test_decomposed_accents_are_composed_before_they_are_matched(tokenizers_by_family: dict[str, Any]) -> None:
    terms = ["gruyère"]
    matcher = TermMatcher(terms, Fold(tokenizers_by_family["byte-bpe"]))
    found = mine([Document("I like gruye\u0300re on toast.", "x")], terms, matcher, everything, MiningOptions())
    assert found.evidence["gruyère"].sentences[0].text == "I like gruyère on toast."
