from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from contrastok.initializers import InitContext, initial_rows
from contrastok.vocabulary import encode_plain
from tests.conftest import FAMILIES

TABLE = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
WEIGHTS: dict[str, Callable[[int, int], float]] = {
    "subtoken_mean": lambda i, k: 1,
    "first_piece": lambda i, k: i == 1,
    "last_piece": lambda i, k: i == k,
    "linear_last": lambda i, k: i,
    "exponential_last": lambda i, k: np.exp(2 * i),
    "exponential_first": lambda i, k: np.exp(-2 * i),
}
"""By the position of a piece, from 1 to k."""


@pytest.mark.parametrize("name", WEIGHTS)
@given(pieces=st.lists(st.lists(st.integers(0, 19), min_size=1, max_size=9).map(tuple), min_size=1, max_size=4))
def test_weights_by_position(name: str, pieces: list[tuple[int, ...]]) -> None:
    terms = tuple(f"term {i}" for i in range(len(pieces)))
    context = InitContext(TABLE, terms, tuple(pieces), tuple((1,) * len(ids) for ids in pieces))
    table = TABLE.double().numpy()
    for row, ids in zip(initial_rows(name, context), pieces, strict=True):
        weights = [float(WEIGHTS[name](i, len(ids))) for i in range(1, len(ids) + 1)]
        expected = sum(w * table[i] for w, i in zip(weights, ids, strict=True)) / sum(weights)
        np.testing.assert_allclose(row.double().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_a_long_word_overflows_nothing() -> None:
    context = InitContext(TABLE, ("long",), (tuple(range(20)) * 30,), ((1,) * 600,))
    for name, end in (("exponential_last", 19), ("exponential_first", 0)):
        [row] = initial_rows(name, context)
        assert torch.cosine_similarity(row, TABLE[end], dim=0) > 0.9


def test_exponential_last_says_for_whom_it_is() -> None:
    said: list[str] = []
    context = InitContext(TABLE, ("a",), ((3, 4),), ((1, 1),), tell=said.append)
    initial_rows("exponential_last", context)
    assert len(said) == 1 and "left to right" in said[0] and "charlen_mean" in said[0]
    initial_rows("exponential_first", context)
    assert len(said) == 1


def test_interpolation_leaves_out_rows_that_pad_the_table(make_context: Callable[[str], InitContext]) -> None:
    context = make_context("wordpiece")
    assert context.tokenizer is not None
    padded = torch.cat([context.table.detach(), torch.full((8, 32), 100.0)])
    plain = initial_rows("subtoken_mean", context)
    rows = initial_rows("interpolated_mean", replace(context, table=padded))
    torch.testing.assert_close(rows, (plain + context.table.detach()[: len(context.tokenizer)].mean(0)) / 2)


@pytest.mark.parametrize("family", FAMILIES)
def test_pieces_are_those_before_the_extension(make_context: Callable[[str], InitContext], family: str) -> None:
    """To the extended tokenizer a term's only piece is the term: what `interpolation` of unsloth 2026.10.9 averages."""
    context = make_context(family)
    assert context.plan is not None and context.extended is not None
    new = set(context.plan.ids)
    assert all(len(ids) > 1 and new.isdisjoint(ids) for ids in context.pieces)
    assert all(new.intersection(ids) for ids in encode_plain(context.extended, context.terms))
