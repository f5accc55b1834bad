from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models

from contrastok.data_gen.fold import Fold
from contrastok.data_gen.matcher import TermMatcher, contains_name, is_word_character, surface_forms
from contrastok.vocabulary import encode_plain, extend_tokenizer, plan_vocabulary

TERMS = ["il-6", "il-6 receptor", "receptor blocker", "C++", "crème", "a"]


def found(matcher: TermMatcher, terms: list[str], text: str) -> list[tuple[str, str]]:
    return [(terms[m.term_index], text[m.start : m.end]) for m in matcher.find(text)]


def reference(terms: list[str], fold: Fold, text: str) -> list[tuple[int, int, int]]:
    """Every term at every position by `re`, then leftmost and longest."""
    folded, offsets = fold.fold_with_offsets(text)
    hits = set()
    for index, term in enumerate(terms):
        for form in surface_forms(term, fold):
            for hit in re.finditer(f"(?=({re.escape(form)}))", folded):
                start, end = hit.span(1)
                around = folded[max(0, start - 1) : start] + folded[end : end + 1]
                if not any(re.match(r"\w", character) for character in around):
                    hits.add((index, start, end))
    kept: list[tuple[int, int, int]] = []
    for index, start, end in sorted(hits, key=lambda hit: (hit[1], -hit[2])):
        if not kept or start >= kept[-1][2]:
            kept.append((index, start, end))
    return [(index, offsets[start], offsets[end - 1] + 1) for index, start, end in kept]


@pytest.fixture(scope="module")
def fold(tokenizers_by_family: dict[str, Any]) -> Fold:
    return Fold(tokenizers_by_family["wordpiece"])


def test_the_longest_match_wins_and_offsets_are_those_of_the_original(fold: Fold) -> None:
    text = "An IL-6 receptor blocker, IL-6 and CRE\u0300ME in c++."
    assert found(TermMatcher(TERMS, fold), TERMS, text) == [
        ("il-6 receptor", "IL-6 receptor"), ("il-6", "IL-6"), ("crème", "CRE\u0300ME"), ("C++", "c++"),
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["il-60", "xil-6", "il-6_a", "il-6s", "5il-6", "C++11", "crèmes"])
def test_a_word_that_goes_on_is_no_match(fold: Fold, text: str) -> None:
    assert TermMatcher(TERMS, fold).find(text) == []


@given(parts=st.lists(st.sampled_from([*TERMS, "IL-6", " ", "-", "_", ".", "x", "3", "é", "ß", "\u00ad", "\n", "中"])))
@example(parts=["\u00ad", "il-6", "中", " ", "receptor blocker"])
def test_matches_are_those_of_a_slow_reference(fold: Fold, parts: list[str]) -> None:
    text = "".join(parts)
    matches = [(m.term_index, m.start, m.end) for m in TermMatcher(TERMS, fold).find(text)]
    assert matches == reference(TERMS, fold, text)


@given(
    parts=st.lists(st.sampled_from(["halloumi", "Halloumi", "HALLOUMI", "zorb-7", " ", ".", "(", "_", "s", "4", "é"]))
)
def test_matches_are_the_tokens_that_the_tokenizer_makes(any_tokenizer: Any, parts: list[str]) -> None:
    terms = ["halloumi", "zorb-7"]
    plan = plan_vocabulary(any_tokenizer, terms)
    text = "".join(parts)
    ids = encode_plain(extend_tokenizer(any_tokenizer, plan), [text])[0]
    made = [token.term for i in ids for token in plan.tokens if token.id == i]
    assert [terms[m.term_index] for m in TermMatcher(terms, Fold(any_tokenizer)).find(text)] == made


@given(
    texts=st.lists(st.lists(st.sampled_from(["blue", "blue cheese", "\u00ad", "中", "ß", "x", " ", "."])).map("".join))
)
@example(texts=["\u00ad\u00ad blue", "cheese", "", "中", "blue cheese"])
def test_many_texts_are_searched_at_once_as_one_by_one(fold: Fold, texts: list[str]) -> None:
    """Also where folding changes their lengths, and where a term would stand across the end of one."""
    matcher = TermMatcher(["blue cheese", "中"], fold)
    assert matcher.holding(texts) == [bool(matcher.find(text)) for text in texts]


def test_a_cased_tokenizer_is_asked_for_the_capital_too(tokenizers_by_family: dict[str, Any]) -> None:
    cased = Fold(tokenizers_by_family["byte-bpe"])
    assert found(TermMatcher(["halloumi"], cased), ["halloumi"], "Halloumi, halloumi, HALLOUMI") == [
        ("halloumi", "Halloumi"), ("halloumi", "halloumi"),
    ]  # fmt: skip


def test_word_characters_are_those_of_the_tokenizers_library() -> None:
    backend = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    backend.add_tokens([AddedToken("xyz", single_word=True)])
    new = backend.token_to_id("xyz")
    characters = [chr(code) for code in range(1, 0x600)] + list("²₂⁀‿\u200c\u200d₀ⅣⅫµªÂ\u0e31\u0e50\u3005")
    for character, encoding in zip(characters, backend.encode_batch([c + "xyz" for c in characters]), strict=True):
        assert is_word_character(character) == (new not in encoding.ids), hex(ord(character))


def test_special_tokens_are_found_inside_words(fold: Fold) -> None:
    """As the tokenizer finds them: chat templates put nothing around them."""
    terms, text = ["<|tool|>", "il-6"], "answer<|tool|>xil-6"
    assert found(TermMatcher(terms, fold, {"<|tool|>"}), terms, text) == [("<|tool|>", "<|tool|>")]
    assert found(TermMatcher(terms, fold), terms, text) == []


def test_names_count_as_whole_words_only() -> None:
    assert contains_name("an egg, a grill.", "grill") and contains_name("regrill grill", "grill")
    assert not contains_name("grilled", "grill") and not contains_name("anything", "")


def test_no_terms_no_matches(fold: Fold) -> None:
    assert TermMatcher([], fold).find("anything") == []
