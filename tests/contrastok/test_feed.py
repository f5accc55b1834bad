from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from contrastok.batches import Anchor, TrainingSet
from contrastok.config import TrainConfig
from contrastok.feed import Batch, Feed, Inputs
from contrastok.models import load_tokenizer

CPU = torch.device("cpu")
KEYS = 40
SLOTS = torch.full((30,), -1, dtype=torch.int32)
SLOTS[[7, 8, 12]] = torch.tensor([0, 2, 1], dtype=torch.int32)


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return load_tokenizer(str(tiny_model))


@pytest.fixture(scope="module")
def data() -> TrainingSet:
    """Ten anchors of three rows, some with two rows or several positives."""
    draw = np.random.default_rng(0)
    anchors = tuple(
        Anchor(
            ids=tuple(draw.integers(5, 20, draw.integers(3, 9)).tolist()),
            rows=tuple(sorted({k % 3, k % 2})),
            key=k,
            positives=tuple(draw.integers(10, 20, 1 + k % 2).tolist()),
            negatives=(20 + k,),
        )
        for k in range(10)
    )
    owned = tuple(torch.tensor(sorted(draw.choice(KEYS, 6, replace=False).tolist())) for _ in range(3))
    return TrainingSet(anchors, torch.zeros(KEYS, 4), owned, 15, 0, (4, 5, 6))


def config(**options: Any) -> TrainConfig:
    return TrainConfig(**{"batch_size": 4, "epochs": 2, "seed": 3, **options})


def of(inputs: Inputs | None) -> list[torch.Tensor]:
    return [] if inputs is None else [*inputs.features.values(), *inputs.plan.tensors()]


def tensors(batch: Batch) -> list[torch.Tensor]:
    found = [*of(batch.anchors), batch.own, batch.pair_query, batch.targets, batch.blocked, batch.rows]
    return found + [batch.columns] * (batch.columns is not None) + of(batch.words)


def anchor_of(data: TrainingSet, own: int) -> Anchor:
    return next(anchor for anchor in data.anchors if anchor.key == own)


@pytest.mark.parametrize("bank_size", [KEYS, 12])
def test_batches_against_a_plain_loop(data: TrainingSet, tokenizer: Any, bank_size: int) -> None:
    feed = Feed(data, tokenizer, SLOTS, config(bank_size=bank_size), words=[(7,), (8, 9), (10,)])
    assert len(feed) == 6
    seen = []
    for step in range(len(feed)):
        (batch,) = feed[step]
        columns = list(range(KEYS)) if batch.columns is None else batch.columns.tolist()
        assert (batch.columns is None) == (bank_size == KEYS) and columns == sorted(set(columns))
        anchors = [anchor_of(data, own) for own in batch.own.tolist()]
        seen += batch.own.tolist()
        told = [(i, p) for i, anchor in enumerate(anchors) for p in anchor.positives]
        assert [(i, columns[t]) for i, t in zip(batch.pair_query.tolist(), batch.targets.tolist(), strict=True)] == told
        for i, anchor in enumerate(anchors):
            mine = set().union(*(data.owned[row].tolist() for row in anchor.rows))
            assert batch.blocked[i].tolist() == [column in mine for column in columns]
            assert set(anchor.negatives) <= set(columns)
            length = int(batch.anchors.features["attention_mask"][i].sum())
            assert batch.anchors.features["input_ids"][i, :length].tolist() == list(anchor.ids)
        told = SLOTS[batch.anchors.features["input_ids"]].flatten()
        plan = batch.anchors.plan
        assert sorted(plan.order.tolist()) == (told >= 0).nonzero().flatten().tolist() and plan.n == 3
        assert plan.rows.tolist() == sorted(set(told[told >= 0].tolist()))
        rows = sorted({row for anchor in anchors for row in anchor.rows})
        assert batch.rows.tolist() == rows and batch.words is not None
        assert batch.words.features["attention_mask"].sum(1).tolist() == [(1, 2, 1)[row] for row in rows]
    assert sorted(seen) == sorted(2 * list(range(10)))


def test_a_step_is_the_same_wherever_a_run_starts(data: TrainingSet, tokenizer: Any) -> None:
    feed = Feed(data, tokenizer, SLOTS, config(bank_size=12, gradient_accumulation=2))
    whole = [[t for batch in batches for t in tensors(batch)] for batches in feed.loader(0, CPU)]
    assert len(whole) == len(feed) == 4 and len(feed[0]) == 2 and len(feed[1]) == 1
    again = [[t for batch in batches for t in tensors(batch)] for batches in feed.loader(2, CPU)]
    for first, second in zip(whole[2:], again, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    other = Feed(data, tokenizer, SLOTS, config(bank_size=12, gradient_accumulation=2, seed=4))
    assert not torch.equal(other[0][0].own, feed[0][0].own)


def test_a_batch_moves_whole(data: TrainingSet, tokenizer: Any) -> None:
    (batch,) = Feed(data, tokenizer, SLOTS, config(bank_size=12), words=[(7,)] * 3)[0]
    assert all(t.device.type == "meta" for t in tensors(batch.to(torch.device("meta"))))
    assert replace(batch, words=None).to(CPU).words is None
