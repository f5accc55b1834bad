from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastok.errors import ConfigError
from contrastok.initializers import InitContext, initial_rows
from contrastok.initializers.merge_tree import merges_of

Context = Callable[[str], InitContext]


def test_halves_are_joined_by_how_often_they_stand_together(make_context: Context) -> None:
    context = make_context("byte-bpe")
    pieces = ((5, 6, 7), (9, 6, 7), (6, 7), (5, 9))
    rows = initial_rows("merge_tree", replace(context, terms=("a", "b", "c", "d"), pieces=pieces))
    e = context.table.detach()
    pair = (e[6] + e[7]) / 2  # the most frequent neighbours: in three of four terms
    torch.testing.assert_close(rows, torch.stack([(e[5] + pair) / 2, (e[9] + pair) / 2, pair, (e[5] + e[9]) / 2]))


def test_two_pieces_give_their_mean(make_context: Context) -> None:
    context = replace(make_context("byte-bpe"), terms=("a",), pieces=((5, 6),))
    torch.testing.assert_close(initial_rows("merge_tree", context), initial_rows("subtoken_mean", context))


@given(words=st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=7).map(tuple), min_size=1, max_size=6))
@settings(max_examples=60)
def test_merges_are_those_of_byte_pair_encoding(words: list[tuple[int, ...]]) -> None:
    """Each merge joins a pair that no other pair outnumbers, and in the end every word is one symbol."""
    sequences = [[(i,) for i in word] for word in words]
    for pair in merges_of(words):
        counts = Counter(found for symbols in sequences for found in pairwise(symbols))
        # In "aaa" the pair "aa" stands twice but can be joined once, and libraries count it either way.
        assert pair in counts
        if all(left != right for left, right in counts):
            assert counts[pair] == max(counts.values())
        for symbols in sequences:
            at = 0
            while at + 1 < len(symbols):
                if (symbols[at], symbols[at + 1]) == pair:
                    symbols[at : at + 2] = [pair[0] + pair[1]]
                at += 1
    assert sequences == [[word] for word in words]


@pytest.mark.parametrize("family", ["wordpiece", "unigram"])
def test_without_merges_it_says_why_it_does_not_apply(make_context: Context, family: str) -> None:
    with pytest.raises(ConfigError, match=rf"does not apply: the tokenizer is a {family} one.*\n.*subtoken_mean"):
        initial_rows("merge_tree", make_context(family))
