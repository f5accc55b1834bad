from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contrastok.data_gen.matcher import is_word_character
from contrastok.data_gen.suggest import counts as module
from contrastok.data_gen.suggest.counts import PARTS, WORD, WordCounts, dispersion


def counted(texts: list[str], capacity: int = 1000) -> WordCounts:
    counts = WordCounts(capacity)
    for text in texts:
        counts.read(text)
    counts.finish()
    return counts


def spread(counts: WordCounts, word: str) -> float:
    return dispersion(counts.places(word), counts.parts, counts.counts[word])


@given(st.text(st.sampled_from("aé_9 ,'.\u0301\u093f\u200d\u0e31हकżЖ漢\n")))
def test_words_are_what_a_token_may_match_alone(text: str) -> None:
    runs = ("".join(run) for word, run in itertools.groupby(text, is_word_character) if word)
    assert WORD.findall(text) == list(runs)


def test_hyphens_join() -> None:
    assert WORD.findall("well-known COVID-19, - il-6- -x") == ["well-known", "COVID-19", "il-6", "x"]


def test_every_occurrence_counts() -> None:
    counts = counted(["one two", "two three-four", "", "two"] * 300)
    assert counts.counts == {"one": 300, "two": 900, "three-four": 300}
    assert counts.characters == 300 * (7 + 14 + 3) and counts.missed == 0


@pytest.mark.parametrize("documents", [400, 40_000])
def test_spread_tells_even_words_from_clumped_ones_however_long_the_text(documents: int) -> None:
    third, last = documents // 3, documents - documents // 50
    texts = [
        f"everywhere {'third' if at < third else 'rest'} {'late' if at >= last else 'early'} filler words"
        for at in range(documents)
    ]
    counts = counted(texts)
    assert 10 < counts.parts <= PARTS
    assert spread(counts, "everywhere") == 1
    assert spread(counts, "third") == pytest.approx(1 / 3, abs=0.05)
    assert spread(counts, "late") < 0.2


def test_a_rare_word_is_not_taken_for_a_clumped_one() -> None:
    assert dispersion(0b1, 40, 1) == pytest.approx(1)
    assert dispersion(0b11, 40, 2) == 1
    assert dispersion(0b1, 40, 40) == pytest.approx(1 / (40 * (1 - (39 / 40) ** 40)))


def test_memory_is_bounded_and_counts_are_too_low_by_what_is_told_at_most() -> None:
    texts = [f"often rare{at} sometimes{at % 40}" for at in range(6000)]
    counts = counted(texts, capacity=300)
    assert len(counts.counts) <= 300 and counts.missed > 0
    assert 6000 - counts.missed <= counts.counts["often"] <= 6000
    for at in range(40):
        assert 150 - counts.missed <= counts.counts[f"sometimes{at}"] <= 150
    assert all(counts.places(word) for word in counts.counts)


def test_a_line_as_long_as_a_book(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLICE", 50)
    counts = counted(["one two " * 1000 + "x" * 5000])
    assert counts.counts["one"] == counts.counts["two"] == 1000 and counts.parts > 8
    assert all(len(word) <= 64 for word in counts.counts)
