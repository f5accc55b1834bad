"""What each step looks at, as tensors, made on the host before the device asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from contrastok.bank import collate
from contrastok.batches import Anchor, TrainingSet, steps
from contrastok.config import TrainConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Features = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Batch:
    """Anchors of one forward pass: A of them, of P pairs, against K keys; R rows occur in them.

    Attributes:
        anchors: input_ids, attention_mask, ..., int64 `[A, T]`.
        own: place of each anchor's own text in the bank, int64 `[A]`.
        pair_query: for each pair its anchor, int64 `[P]`.
        targets: for each pair the column of its positive, int64 `[P]`.
        columns: places of the keys in the bank, int64 `[K]`; None when they are the whole bank.
        blocked: bool `[A, K]`, true where a key speaks of the anchor's terms, so that it is no negative.
        rows: the rows that occur, int64 `[R]`.
        words: input_ids, ... of their isolated tokens, int64 `[R, T]`; None without a predictor.
    """

    anchors: Features
    own: torch.Tensor
    pair_query: torch.Tensor
    targets: torch.Tensor
    columns: torch.Tensor | None
    blocked: torch.Tensor
    rows: torch.Tensor
    words: Features | None

    def to(self, device: torch.device) -> Batch:
        """The same on a device; copies from pinned memory do not wait."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The same in pinned memory; a DataLoader calls this."""
        return self._each(lambda tensor: tensor.pin_memory())

    def _each(self, change: Any) -> Batch:
        def changed(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: change(tensor) for name, tensor in value.items()}
            return None if value is None else change(value)

        return Batch(**{field.name: changed(getattr(self, field.name)) for field in fields(self)})


class Feed(Dataset[list[Batch]]):
    """Step by step the batches of a run. What a step holds depends on its number alone, so a run can go on anywhere.

    Args:
        data: anchors, and which keys are no negatives of which row.
        tokenizer: the extended tokenizer, for padding.
        config: the options.
        words: for each row the finished ids of its isolated token; empty without a predictor.
    """

    def __init__(
        self,
        data: TrainingSet,
        tokenizer: PreTrainedTokenizerFast,
        config: TrainConfig,
        words: Sequence[Sequence[int]] = (),
    ) -> None:
        self.data, self.tokenizer, self.config, self.words = data, tokenizer, config, words
        lengths = [len(anchor.ids) for anchor in data.anchors]
        self.plan = list(steps(lengths, config.batch_size, config.epochs, config.gradient_accumulation, config.seed))

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, step: int) -> list[Batch]:
        batches = [[self.data.anchors[j] for j in batch] for batch in self.plan[step]]
        return [self._batch(anchors, (step, i)) for i, anchors in enumerate(batches)]

    def loader(self, start: int, device: torch.device) -> DataLoader[list[Batch]]:
        """The steps from `start` on. For a GPU another process makes them ahead, in pinned memory."""
        ahead = device.type == "cuda"
        return DataLoader(
            self,
            batch_size=None,
            sampler=range(start, len(self)),
            num_workers=1 if ahead else 0,
            prefetch_factor=4 if ahead else None,
            pin_memory=ahead,
        )

    def _batch(self, anchors: list[Anchor], seed: tuple[int, int]) -> Batch:
        columns = self._columns(anchors, seed)
        total = len(self.data.keys)
        place = np.arange(total)
        if columns is not None:
            place = np.full(total, -1)
            place[columns] = np.arange(len(columns))
        blocked = np.zeros((len(anchors), total if columns is None else len(columns)), dtype=bool)
        for i, anchor in enumerate(anchors):
            for row in anchor.rows:
                at = place[self.data.owned[row]]
                blocked[i, at[at >= 0]] = True
        rows = sorted({row for anchor in anchors for row in anchor.rows})
        return Batch(
            anchors=collate(self.tokenizer, [anchor.ids for anchor in anchors], "cpu"),
            own=torch.tensor([anchor.key for anchor in anchors]),
            pair_query=torch.tensor([i for i, anchor in enumerate(anchors) for _ in anchor.positives]),
            targets=torch.from_numpy(place[[p for anchor in anchors for p in anchor.positives]]),
            columns=None if columns is None else torch.from_numpy(columns),
            blocked=torch.from_numpy(blocked),
            rows=torch.tensor(rows),
            words=collate(self.tokenizer, [self.words[row] for row in rows], "cpu") if self.words else None,
        )

    def _columns(self, anchors: list[Anchor], seed: tuple[int, int]) -> np.ndarray | None:
        """The places of a batch's keys: None for the whole bank, or its own keys and a sample of the rest."""
        total, limit = len(self.data.keys), self.config.bank_size
        if total <= limit:
            return None
        own = {key for anchor in anchors for key in (*anchor.positives, *anchor.negatives)}
        drawn = np.random.default_rng([self.config.seed, *seed]).choice(total, limit, replace=False)
        return np.array(sorted(own.union(map(int, drawn))))
