from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from transformers import PreTrainedTokenizerFast

from contrastok.console import Console
from contrastok.data_gen.fold import Fold
from contrastok.data_gen.known import KnownOptions, KnownPlan, find_wordnet, known_evidence, known_words, plan_known
from contrastok.data_gen.reservoir import keyed_hash
from contrastok.data_gen.term_readers import TermGlossary
from contrastok.data_gen.terms import Term
from contrastok.data_gen.text_sample import SLICE, TextSample
from contrastok.data_gen.word_sentences import SentenceTable, WordSentences
from contrastok.data_gen.wordnet import WordNet
from contrastok.errors import InputError
from contrastok.evidence import WordEvidence
from contrastok.hiding import hide_words
from contrastok.vocabulary import pieces

from ..conftest import kitchen_lines

TINY = Path(__file__).parent / "data" / "wordnet"
QUIET = Console(quiet=True)
VOCABULARY = (
    "[UNK] a an and bread brine brined cheese cheeses eat for from in it keeps of 7 x c3 made ##board ##s ##ese "
    "pickled sell slice soft they to ' , ; known town its"
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    words = VOCABULARY.split()
    letters = [form for letter in "abcdefghijklmnopqrstuvwxyz" for form in (letter, f"##{letter}")]
    unreachable = ["hid den", "Bread"]  # no text, split at spaces and lower-cased, leads there
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys([*words, *letters, *unreachable]))}
    backend = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = BertNormalizer(lowercase=True), BertPreTokenizer()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")


def evidence(
    tokenizer: PreTrainedTokenizerFast, plan: KnownPlan, texts: list[str], options: KnownOptions, **more: Any
) -> dict[str, WordEvidence]:
    return {word.token: word for word in known_evidence(plan, texts, tokenizer, options, QUIET, **more)}


def test_known_words_are_those_that_text_gives_as_one_token(any_tokenizer: Any) -> None:
    words = known_words(any_tokenizer)
    assert len(words) > 50 and list(words.values()) == sorted(words.values())
    assert all(pieces(any_tokenizer, word) == [i] and sum(map(str.isalpha, word)) > 1 for word, i in words.items())
    assert {"cheese", "the"} <= set(words)


def test_what_has_no_two_letters_or_only_continues_a_word_is_no_word(tokenizer: PreTrainedTokenizerFast) -> None:
    words = known_words(tokenizer)
    assert {"cheese", "slice", "an"} <= set(words)
    assert not {"a", "7", "x", "c3", "board", "s", "'", "[UNK]"} & set(words)
    assert not {"hid den", "Bread"} & set(words)


def test_hidden_words_are_not_known(any_tokenizer: Any) -> None:
    before = known_words(any_tokenizer)
    hidden, gone = hide_words(any_tokenizer, [word for word in before if len(word) > 4][::3])
    after = known_words(hidden)
    assert gone.words and not set(gone.ids) & set(after.values())
    # BPE builds long words from short ones, so that a few go with those that were hidden
    lost = [word for word, i in before.items() if word not in after and i not in set(gone.ids)]
    assert set(after) <= set(before) and len(lost) < 5
    assert all(any(item.word.lower() in word.lower() for item in gone.words) for word in lost)


def test_sentences_hold_the_word_whole(any_tokenizer: Any) -> None:
    words = known_words(any_tokenizer)
    table = SentenceTable(0, Fold(any_tokenizer), 4, 80)
    for line in kitchen_lines():
        table.add(line)
    collected = WordSentences(any_tokenizer, tuple(words.values()), 5, QUIET)
    collected.read(table.by_hash)
    assert sum(collected.full) > 50
    for word, found in zip(words, collected.found, strict=True):
        assert len(set(found)) == len(found) <= 5
        assert all(re.search(rf"(?<![a-z]){re.escape(word)}(?![a-z])", text, re.IGNORECASE) for text in found), word


def test_a_word_within_a_longer_one_does_not_count(tokenizer: PreTrainedTokenizerFast) -> None:
    collected = WordSentences(tokenizer, [known_words(tokenizer)["cheese"]], 8, QUIET)
    collected.read(
        {3: "they sell it cheese", 1: "a cheeseboard for bread", 2: "cheese, bread", 4: "cheese cheeseboard"}
    )
    assert collected.found == [["cheese, bread", "they sell it cheese", "cheese cheeseboard"]]


def test_a_sentence_at_the_end_of_a_batch_does_not_run_into_the_next(tokenizer: PreTrainedTokenizerFast) -> None:
    continuing = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, unk_token="[UNK]")
    continuing.backend_tokenizer.pre_tokenizer = None  # "##s" alone is a piece of its own
    collected = WordSentences(continuing, [tokenizer.get_vocab()["cheese"]], 8, QUIET)
    collected.read({1: "cheese", 2: "##s"})
    assert collected.found == [["cheese"]]


def test_sentences_are_cut_and_near_duplicates_are_one(tokenizer: PreTrainedTokenizerFast) -> None:
    table = SentenceTable(0, Fold(tokenizer), 3, 8)
    assert table.add("Too short. We ate 7 cheeses.") == table.add("We ate 12 cheeses!")
    assert list(table.by_hash.values()) == ["We ate 12 cheeses!"]
    long = " ".join(f"w{chr(97 + i)}" for i in range(20))
    parts = [table.by_hash[key] for key in table.add(long)]
    assert [len(part.split()) for part in parts] == [6, 7, 7] and " ".join(parts) == long


@given(
    texts=st.lists(st.text(max_size=12) | st.text("ab", max_size=3), max_size=30),
    capacity=st.integers(0, 120),
    seed=st.integers(0, 3),
    data=st.data(),
)
@settings(max_examples=80)
def test_a_sample_is_the_largest_part_that_fits_in_any_order(
    texts: list[str], capacity: int, seed: int, data: st.DataObject
) -> None:
    sample = TextSample(seed, capacity)
    for text in data.draw(st.permutations(texts)):
        sample.offer(text)
    hashes = {keyed_hash(seed, "sample", text): text for text in texts if text}
    nested = ([text for key, text in sorted(hashes.items()) if key < 2**64 >> level] for level in range(66))
    assert sample.blocks() == next(part for part in nested if sum(map(len, part)) <= capacity)


def test_a_book_without_line_breaks_is_sampled_in_slices() -> None:
    sample = TextSample(0, capacity=3 * SLICE)
    sample.offer("".join(chr(97 + i % 7 + i % 11) for i in range(10 * SLICE)))
    assert 0 < sum(map(len, sample.blocks())) <= 3 * SLICE


def test_wordnet_fills_up_what_the_corpus_lacks_but_not_with_what_it_says_of_the_word(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    plan = plan_known(tokenizer, ["brined"], [], str(TINY))
    corpus = ["They sell a soft cheese.", "A slice of cheese", "A soft bread."]
    found = evidence(tokenizer, plan, corpus, KnownOptions(known_sentences=3, min_words=3))
    assert "brined" not in found  # it is to be learned
    cheese = found["cheese"]
    assert cheese.known and cheese.definition == "a solid made of pressed curds"
    assert cheese.broader == ("foodstuff", "Victuals")
    # first those of the corpus; "a slice of cheese" and "they sell cheese; and bread" are WordNet's own examples of it
    assert cheese.sentences[0] == "They sell a soft cheese." and len(cheese.sentences) == 3
    assert not {"A slice of cheese", "they sell cheese; and bread"} & set(cheese.sentences)
    assert found["slice"].sentences == ("A slice of cheese",) and found["slice"].definition == ""
    assert set(found["bread"].sentences) == {"A soft bread.", "they sell cheese; and bread"}
    alone = evidence(tokenizer, replace(plan, glossaries=(), wordnet=None), corpus, KnownOptions(min_words=3))
    assert alone["bread"].sentences == ("A soft bread.",) and alone["cheese"].definition == ""


def test_a_glossary_goes_before_wordnet_and_does_not_tell_of_new_terms(tokenizer: PreTrainedTokenizerFast) -> None:
    glossary = TermGlossary(
        [Term("halloumi", "a cheese that squeaks", synonyms=("slice", "bread"), broader=("cheese",))]
    )
    plan = plan_known(tokenizer, ["halloumi"], [glossary], str(TINY))
    found = evidence(tokenizer, plan, [], KnownOptions(), terms=["halloumi"], held_out=["Bread"])
    assert found["slice"].definition == "a cheese that squeaks" and found["slice"].synonyms == ("bread",)
    assert (found["bread"].definition, found["bread"].synonyms, found["bread"].broader) == ("", (), ())
    assert found["cheese"].definition == "a solid made of pressed curds"


def test_where_wordnet_is_looked_for(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WNSEARCHDIR", str(TINY))
    assert find_wordnet("auto") == TINY and find_wordnet("none") is None
    given = WordNet(TINY)
    assert plan_known(tokenizer, [], [given], "auto").wordnet is given
    assert plan_known(tokenizer, [], [given], "none").wordnet is None
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path))
    assert find_wordnet("auto") is None
    monkeypatch.delenv("WNSEARCHDIR")
    monkeypatch.setattr("contrastok.data_gen.known.WORDNET_FOLDERS", (str(tmp_path), str(TINY)))
    assert find_wordnet("auto") == TINY
    with pytest.raises(InputError, match="is no WordNet database"):
        plan_known(tokenizer, [], [], str(tmp_path))
