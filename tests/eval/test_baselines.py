from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from contrastok.bank import FrozenEncoder
from contrastok.checkpoint import Checkpoint, load_checkpoint
from contrastok.eval.baselines import Ground, baseline_views, complete_rows, encode_rows
from contrastok.models import load_model
from contrastok.vocabulary import pieces


def _frozen(checkpoint: Checkpoint) -> FrozenEncoder:
    base = load_model(checkpoint.manifest["base_model"]["name"])
    return FrozenEncoder(base, base.tokenizer, cache=False)


@pytest.mark.parametrize("family", ["wordpiece", "byte-bpe", "unigram"])
def test_every_view_of_a_checkpoint(family: str, make_checkpoint: Callable[..., Path]) -> None:
    checkpoint = load_checkpoint(make_checkpoint(family))
    frozen = _frozen(checkpoint)
    before = checkpoint.table().copy()
    gold = checkpoint.rows[::-1].copy()
    views = baseline_views(checkpoint, frozen, seed=3, gold=gold)
    assert list(views) == [
        "split word", "encode(gloss)", "random", "pieces mean", "gloss mean", "initial", "trained", "oracle"
    ]  # fmt: skip
    assert np.array_equal(checkpoint.table(), before)
    assert all(view.present.all() and view.missing == 0 for view in views.values())
    for view in views.values():
        assert np.allclose(np.linalg.norm(view.encoded, axis=1), 1, atol=1e-5)
    tokens = checkpoint.manifest["tokens"]
    split = [pieces(checkpoint.base_tokenizer, token["token"]) for token in tokens]
    mean = np.stack([before[ids].mean(axis=0) for ids in split])
    assert np.allclose(views["pieces mean"].rows, mean, atol=1e-6)
    assert np.array_equal(views["trained"].rows, checkpoint.rows)
    assert np.array_equal(views["oracle"].rows, gold)
    assert np.allclose(views["oracle"].encoded, views["trained"].encoded[::-1], atol=1e-5)
    direct = FrozenEncoder(checkpoint.model, checkpoint.tokenizer, cache=False).encode_ids(
        [[t["ids"][0]] for t in tokens]
    )
    assert np.array_equal(views["trained"].encoded, direct)
    assert np.array_equal(views["split word"].encoded, frozen.encode([t["token"] for t in tokens]))


def test_random_rows_follow_the_seed_and_the_vocabulary(tiny_checkpoint: Path) -> None:
    checkpoint = load_checkpoint(tiny_checkpoint)
    frozen = _frozen(checkpoint)
    one, same, other = (baseline_views(checkpoint, frozen, seed=s)["random"].rows for s in (1, 1, 2))
    assert np.array_equal(one, same) and not np.array_equal(one, other)
    old = checkpoint.table()[: checkpoint.manifest["base_model"]["table_rows"]]
    assert abs(one.std() / old.std() - 1) < 0.3
    assert "oracle" not in baseline_views(checkpoint, frozen, seed=1)


def test_a_token_without_definition_is_missing_and_not_zero(make_checkpoint: Callable[..., Path]) -> None:
    checkpoint = load_checkpoint(make_checkpoint(definitions=False))
    frozen = _frozen(checkpoint)
    views = baseline_views(checkpoint, frozen, seed=0)
    for name in ("gloss mean", "encode(gloss)"):
        assert views[name].missing == 1 and not views[name].present[0]
        assert np.isnan(views[name].encoded[0]).all() and not np.isnan(views[name].encoded[1:]).any()
    assert views["trained"].missing == 0
    rows, filled = complete_rows(Ground(checkpoint, frozen))
    assert filled == {"gloss mean": 1}
    assert np.array_equal(rows["gloss mean"][0], rows["pieces mean"][0])
    assert np.array_equal(rows["gloss mean"][1:], views["gloss mean"].rows[1:])


def test_rows_are_put_back_when_encoding_fails(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = load_checkpoint(tiny_checkpoint)
    before = checkpoint.table().copy()
    monkeypatch.setattr(FrozenEncoder, "encode_ids", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        encode_rows(checkpoint, checkpoint.rows * 2)
    assert np.array_equal(checkpoint.table(), before)
