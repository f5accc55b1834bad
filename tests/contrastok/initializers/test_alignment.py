from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from contrastok.initializers import InitContext, initial_rows
from contrastok.initializers.alignment import _covering, segmentations

Context = Callable[[str], InitContext]
TEXTS = (
    "Zorblaxin is good",
    "we eat zorblaxin, and (zorblaxin)",
    "no such thing here",
    "try Quib vexalotl or quib  vexalotl",
)


def only(context: InitContext, *texts: str) -> InitContext:
    return replace(context, texts=texts)


@pytest.mark.parametrize("family", ["byte-bpe", "unigram"])
def test_ways_to_write_a_word_count_as_often_as_they_stand_in_the_text(make_context: Context, family: str) -> None:
    context = only(make_context(family), *TEXTS)
    tokenizer = context.tokenizer
    assert tokenizer is not None

    def ids(text: str) -> tuple[int, ...]:
        return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])

    start, inside = ids("Zorblaxin"), context.pieces[0]
    bracket = ids("a (zorblaxin")[len(ids("a (")) :]
    found = segmentations(context)[0]
    assert start != inside and found.total() == 3 and found[start] == 1 and found[inside] >= 1
    table = context.table.detach().double()
    expected = sum(table[list(way)].mean(0) for way in (start, inside, bracket)) / 3
    torch.testing.assert_close(initial_rows("align", context)[0].double(), expected)


def test_with_one_way_it_is_the_mean_of_the_pieces(make_context: Context) -> None:
    context = only(make_context("wordpiece"), *TEXTS, "sharpen the BRIMWAX")
    assert [len(found) for found in segmentations(context)] == [1, 1, 1]
    assert torch.equal(initial_rows("align", context), initial_rows("subtoken_mean", context))


def test_a_term_that_no_text_holds_is_told(make_context: Context) -> None:
    said: list[str] = []
    context = replace(only(make_context("wordpiece"), *TEXTS, "zorblaxins and brimwaxes"), tell=said.append)
    rows = initial_rows("align", context)
    assert torch.equal(rows[1], initial_rows("charlen_mean", context)[1])
    assert said == ["align knows nothing of 1 of 3 terms (brimwax); they start at charlen_mean."]


def test_a_piece_that_reaches_beyond_the_term_is_not_counted() -> None:
    tokens = [(7, 0, 2), (8, 2, 5), (9, 5, 9)]
    assert _covering(2, 9, tokens) == (8, 9)
    assert _covering(3, 9, tokens) == _covering(2, 8, tokens) == ()
