from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contrastok.bank import FrozenEncoder, special_frame
from contrastok.features import WordInput
from contrastok.known_pairs import known_pairs, put, told_names, untold_names
from contrastok.models import load_model

FIRST = 10_000


@pytest.fixture(scope="module")
def encoder(tiny_model: Path) -> FrozenEncoder:
    model = load_model(str(tiny_model))
    return FrozenEncoder(model, model.tokenizer, cache=False)


@given(st.lists(st.lists(st.integers(0, 5), max_size=4), min_size=1, max_size=5), st.integers(1, 3))
def test_a_word_is_replaced_wherever_it_stands(between: list[list[int]], pieces: int) -> None:
    """Texts of 0..5, between which a word of the pieces 90, 91, ... stands."""
    word = tuple(range(90, 90 + pieces))
    text = tuple(i for part in between for i in (*part, *word))[: -pieces or None]
    places = tuple(at for at, i in enumerate(text) if i >= 90)
    expected = tuple(i for part in between for i in (*part, 7, 8))[:-2]
    assert put(text, places, pieces, (7, 8)) == expected


def test_names_are_told_or_asked_for_and_never_both() -> None:
    word = WordInput((1, 2), (1, 1), synonyms=((3,), (4,), (5,), (1, 2)), broader=((3,), (6,), (4,)))
    assert told_names(word) == ((3,), (5,)) and untold_names(word) == ((4,), (6,))


def test_an_occurrence_that_the_window_cut_is_one_too() -> None:
    assert put((1, 90, 91, 2, 90), (1, 2, 4), 2, (7,)) == (1, 7, 2, 7)


def test_the_pairs_are_those_of_gen_pairs_and_the_word_is_nowhere(encoder: FrozenEncoder) -> None:
    cat = WordInput(
        pieces=(20, 21),
        lengths=(1, 2),
        sentences=((30, 20, 21), (20, 21, 31)),
        places=((1, 2), (0, 1)),
        definition=((40, 41),),
        synonyms=((50,), (51, 52)),
    )
    bare = WordInput(pieces=(22, 23), lengths=(1, 1), sentences=((32, 22, 23),), places=((1, 2),))
    nothing = WordInput(pieces=(24, 25), lengths=(1, 1))
    data = known_pairs([cat, bare, nothing], encoder, FIRST)

    frame = special_frame(encoder.tokenizer)
    keys = [(40, 41), (20, 21, 31), (30, 20, 21), (30, 50), (50, 31), (50,), (32, 22, 23), (20, 21)]
    encoded = dict(zip(keys, encoder.encode_ids(keys), strict=True))

    def texts(indices: Any) -> set[tuple[int, ...]]:
        found = [min(keys, key=lambda k: float(np.abs(encoded[k] - data.keys[i].numpy()).max())) for i in indices]
        assert all(np.allclose(encoded[k], data.keys[i], atol=1e-6) for k, i in zip(found, indices, strict=True))
        return set(found)

    told = {anchor.ids: (texts([anchor.key]), texts(anchor.positives)) for anchor in data.anchors}
    assert told == {
        tuple(frame([30, FIRST])): ({(30, 20, 21)}, {(40, 41), (20, 21, 31), (30, 20, 21), (30, 50)}),
        tuple(frame([FIRST, 31])): ({(20, 21, 31)}, {(40, 41), (30, 20, 21), (20, 21, 31), (50, 31)}),
        tuple(frame([FIRST])): ({(20, 21)}, {(40, 41), (50,)}),
        tuple(frame([32, FIRST + 1])): ({(32, 22, 23)}, {(32, 22, 23)}),
    }
    assert [anchor.rows for anchor in data.anchors] == [(0,), (0,), (0,), (1,)]
    assert data.updates == (3, 1, 0) and data.pairs == 11 and data.dropped == 0
    assert texts(data.owned[0]) == set(keys) - {(32, 22, 23)} and texts(data.owned[1]) == {(32, 22, 23)}
    assert not len(data.owned[2])
