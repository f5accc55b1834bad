from __future__ import annotations

import re
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contrastok.data_gen.sentences import blocks, joined, split_sentences, window


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one line\nwrapped  on", ["one line wrapped on"]),
        ("first\n\n  second\n \nthird", ["first", "second", "third"]),
        ("Tools:\n- a colander\n  • a spatula\n2) a cleaver", ["Tools:", "a colander", "a spatula", "a cleaver"]),
        ("a\r\n\r\nb", ["a", "b"]),
        ("about 3\n1.5 kg of it, -\n5 degrees", ["about 3 1.5 kg of it, - 5 degrees"]),
        (" \n\n ", []),
    ],
)
def test_blocks(text: str, expected: list[str]) -> None:
    assert list(blocks(text)) == expected


def test_sentences_end_where_the_library_says() -> None:
    text = "Dr. Smith ate 3.5 kg, e.g. of cheese. Was he well? He was!"
    assert split_sentences(text) == ["Dr. Smith ate 3.5 kg, e.g. of cheese.", "Was he well?", "He was!"]


def test_a_name_stays_in_one_sentence() -> None:
    block = "Joy! Bar is made here. They write it in .NET today. Who? Nobody knows."
    spans = [(match.start(), match.end()) for match in re.finditer(r"Joy! Bar|\.NET", block)]
    assert split_sentences(block, whole=spans) == [
        "Joy! Bar is made here.",
        "They write it in .NET today.",
        "Who?",
        "Nobody knows.",
    ]


@given(st.lists(st.text(max_size=8)), st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40))))
def test_joined_keeps_the_text_and_the_spans(parts: list[str], spans: list[tuple[int, int]]) -> None:
    kept = list(joined(parts, spans))
    assert "".join(kept) == "".join(parts)
    ends = set(accumulate(map(len, kept)))
    assert not any(start < end < stop for end in ends - {len("".join(parts))} for start, stop in spans)


def test_a_list_that_lost_its_line_breaks_is_taken_apart_but_a_dash_is_not() -> None:
    assert split_sentences("Key points - one thing - another thing - a third") == [
        "Key points", "one thing", "another thing", "a third",
    ]  # fmt: skip
    assert split_sentences("It was - as ever - good.") == ["It was - as ever - good."]


@pytest.mark.parametrize(("position", "kept"), [(0, "x1 x2 x3 x4"), (5, "x5 x6 x7 x8"), (9, "x7 x8 x9 x10")])
def test_window_keeps_the_term_in_the_middle_where_it_can(position: int, kept: str) -> None:
    words = [f"x{i}" for i in range(1, 11)]
    sentence = " ".join(words)
    start = sentence.index(words[position])
    text, spans = window(sentence, [(start, start + len(words[position]))], 4)
    assert text == kept
    assert [text[a:b] for a, b in spans] == [words[position]]


@given(words=st.lists(st.text("abé.", min_size=1, max_size=4), min_size=1, max_size=30), data=st.data())
def test_window_is_a_part_that_holds_the_first_span(words: list[str], data: st.DataObject) -> None:
    sentence = " ".join(words)
    starts = [sum(map(len, words[:i])) + i for i in range(len(words))]
    chosen = sorted(data.draw(st.sets(st.integers(0, len(words) - 1), min_size=1)))
    spans = [(starts[i], starts[i] + len(words[i])) for i in chosen]
    limit = data.draw(st.integers(1, 12))
    text, kept = window(sentence, spans, limit)
    assert text in sentence and len(text.split(" ")) == min(limit, len(words))
    assert [text[a:b] for a, b in kept] == [sentence[a:b] for a, b in spans[: len(kept)]]
    assert kept and text[slice(*kept[0])] == words[chosen[0]]


def test_a_term_longer_than_the_window_stays_whole() -> None:
    text, spans = window("a b c d e f", [(2, 9)], 2)
    assert text == "b c d e" and spans == ((0, 7),)
