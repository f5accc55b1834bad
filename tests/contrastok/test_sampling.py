from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from contrastok.hypernet import sampling
from contrastok.hypernet.sampling import MARK, PieceSampler
from contrastok.token_text import TokenText, token_texts

PIECES = {
    3: TokenText("ban", True),
    4: TokenText("an", False),
    5: TokenText("a", False),
    6: TokenText("banana", True),
    7: TokenText("b", True),
    8: TokenText("n", False),
}


@pytest.fixture(scope="module")
def texts(tokenizers_by_family: dict[str, Any]) -> dict[int, TokenText]:
    return token_texts(tokenizers_by_family["wordpiece"])


def test_scores_are_shares_of_frequency_times_length() -> None:
    sampler = PieceSampler(PIECES, {"banana": 2, "an": 5})
    counts = {"▁ban": 2 * 3, "an": 2 * 2 * 2, "a": 2 * 3, "▁banana": 2 * 6, "▁b": 2, "n": 2 * 2 + 5}
    total = sum(counts.values())
    found = dict(zip(sampler.strings, sampler.scores.tolist(), strict=True))
    assert found == pytest.approx({piece: count / total for piece, count in counts.items()})


def test_pieces_spell_the_token_which_is_never_one_of_them(texts: dict[int, TokenText]) -> None:
    sampler = PieceSampler(texts, {})
    ids, tokens = zip(*((i, text) for i, text in texts.items() if len(text.text) > 1), strict=True)
    split = sampler.split(tokens, 4, np.random.default_rng(0))
    assert sum(map(bool, split)) > 0.9 * len(split)
    for i, token, pieces in zip(ids, tokens, split, strict=True):
        assert i not in pieces
        if pieces:
            spelled = "".join(texts[piece].text for piece in pieces)
            assert spelled == token.text and texts[pieces[0]].starts == token.starts
            assert not any(texts[piece].starts for piece in pieces[1:])


def test_the_seed_decides_the_splits(texts: dict[int, TokenText]) -> None:
    sampler, tokens = PieceSampler(texts, {}), [text for text in texts.values() if len(text.text) > 3]

    def split(seed: int) -> list[tuple[int, ...]]:
        return sampler.split(tokens, 4, np.random.default_rng(seed))

    assert split(1) == split(1)
    assert sum(a != b for a, b in zip(split(1), split(2), strict=True)) > len(tokens) // 4


def test_without_noise_the_best_pieces_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "NOISE", (-100.0, 1e-9))
    monkeypatch.setattr(sampling, "KEPT", 0.5)
    sampler = PieceSampler(PIECES, {"banana": 1})
    kept = {piece for piece in PIECES.values() if len(piece.text) > 1}
    # of six pieces banana (6), an (4) and ban, a (3 each) score best; banana is taken away from itself
    (pieces,) = sampler.split([PIECES[6]], 1, np.random.default_rng(0))
    assert kept and [PIECES[i].text for i in pieces] == ["ban", "an", "a"]


def test_what_cannot_be_written_has_no_split() -> None:
    sampler = PieceSampler(PIECES, {})
    assert sampler.split([TokenText("bad", True), TokenText("ban", False)], 1, np.random.default_rng(0)) == [(), ()]
    assert sampler.split([TokenText("bana", True)], 1, np.random.default_rng(0))[0]


def test_the_mark_itself_is_no_text() -> None:
    assert PieceSampler({1: TokenText(MARK, True), 2: TokenText("a b", True)}, {}).strings == []
