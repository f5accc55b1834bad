"""What each step looks at, as tensors, made on the host before the device asks for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from contrastok.bank import collate
from contrastok.batches import Anchor, TrainingSet, steps
from contrastok.config import TrainConfig
from contrastok.kernels.plan import RowPlan
from contrastok.masking import Masker
from contrastok.objectives.registry import OBJECTIVES
from contrastok.ranks import ALONE, Ranks

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class Inputs:
    """What the model reads.

    Attributes:
        features: input_ids, attention_mask, ..., int64 `[B, T]`; over ranks, this one's share of the sequences.
        plan: where in it the new rows stand.
        total: sequences of all ranks, B without others.
    """

    features: dict[str, torch.Tensor]
    plan: RowPlan
    total: int

    def to(self, device: torch.device, *, non_blocking: bool = False) -> Inputs:
        """The same on a device."""
        features = {name: tensor.to(device, non_blocking=non_blocking) for name, tensor in self.features.items()}
        return Inputs(features, self.plan.to(device, non_blocking=non_blocking), self.total)

    def pin_memory(self) -> Inputs:
        """The same in pinned memory."""
        features = {name: tensor.pin_memory() for name, tensor in self.features.items()}
        return Inputs(features, self.plan.pin_memory(), self.total)


@dataclass(frozen=True)
class Aligned:
    """The anchors of a batch in their original tokens, and which of these the new ones follow.

    Attributes:
        originals: `[A, S]`.
        student: M places in the flattened anchors, int64 `[M]`.
        teacher: for each the place in the flattened originals, int64 `[M]`.
        positions: for each token of the anchors the place of its original in its sequence, int64 `[A, T]`.
        original_positions: place of each original token in its sequence, int64 `[A, S]`.
    """

    originals: Inputs
    student: torch.Tensor
    teacher: torch.Tensor
    positions: torch.Tensor
    original_positions: torch.Tensor

    def to(self, device: torch.device, *, non_blocking: bool = False) -> Aligned:
        """The same on a device."""
        return Aligned(*(getattr(self, f.name).to(device, non_blocking=non_blocking) for f in fields(self)))

    def pin_memory(self) -> Aligned:
        """The same in pinned memory."""
        return Aligned(*(getattr(self, f.name).pin_memory() for f in fields(self)))


@dataclass(frozen=True)
class Masked:
    """The anchors of a batch with some of their tokens hidden.

    Attributes:
        inputs: what is read, `[A, T]`.
        places: M places in the flattened anchors that are to be predicted, int64 `[M]`.
        labels: the id of an old token that stood there, or -1 - n for a new one, which is the n-th of the batch's rows;
            int64 `[M]`.
        new_ids: the ids of all new tokens, int64 `[m]`.
    """

    inputs: Inputs
    places: torch.Tensor
    labels: torch.Tensor
    new_ids: torch.Tensor

    def to(self, device: torch.device, *, non_blocking: bool = False) -> Masked:
        """The same on a device."""
        return Masked(*(getattr(self, f.name).to(device, non_blocking=non_blocking) for f in fields(self)))

    def pin_memory(self) -> Masked:
        """The same in pinned memory."""
        return Masked(*(getattr(self, f.name).pin_memory() for f in fields(self)))


@dataclass(frozen=True)
class Cut:
    """The anchors of a batch, each cut in two.

    Attributes:
        read: what an encoder reads, `[A, T]`.
        said: what a decoder goes on to say, behind the token that it starts from, `[A, S]`.
    """

    read: Inputs
    said: Inputs

    def to(self, device: torch.device, *, non_blocking: bool = False) -> Cut:
        """The same on a device."""
        return Cut(*(part.to(device, non_blocking=non_blocking) for part in (self.read, self.said)))

    def pin_memory(self) -> Cut:
        """The same in pinned memory."""
        return Cut(self.read.pin_memory(), self.said.pin_memory())


def _no_places() -> torch.Tensor:
    return torch.zeros(0, dtype=torch.long)


@dataclass(frozen=True)
class Batch:
    """Anchors of one forward pass: A of them, of P pairs, against K keys; R rows occur in them.

    Attributes:
        anchors: `[A, T]`.
        own: place of each anchor's own text in the bank, int64 `[A]`.
        pair_query: for each pair its anchor, int64 `[P]`.
        targets: for each pair the column of its positive, int64 `[P]`.
        columns: places of the keys in the bank, int64 `[K]`; None when they are the whole bank.
        blocked: bool `[A, K]`, true where a key speaks of the anchor's terms, so that it is no negative.
        rows: the rows that occur, int64 `[R]`.
        words: their isolated tokens, `[R, T]`; None without a predictor.
        own_columns: for each anchor the column of its own text, or -1, int64 `[A]`.
        hard_query, hard: for each hard negative its anchor and its column, int64 `[H]`.
        aligned: the anchors' original tokens, where the objective asks for them.
        draw: seed of what is drawn for this batch, int64 scalar.
        masked: the anchors with some tokens hidden, where the objective asks for them.
        cut: the anchors cut in two, where the objective asks for that.
    """

    anchors: Inputs
    own: torch.Tensor
    pair_query: torch.Tensor
    targets: torch.Tensor
    columns: torch.Tensor | None
    blocked: torch.Tensor
    rows: torch.Tensor
    words: Inputs | None
    own_columns: torch.Tensor = field(default_factory=_no_places)
    hard_query: torch.Tensor = field(default_factory=_no_places)
    hard: torch.Tensor = field(default_factory=_no_places)
    aligned: Aligned | None = None
    draw: torch.Tensor = field(default_factory=lambda: torch.tensor(0))
    masked: Masked | None = None
    cut: Cut | None = None

    def to(self, device: torch.device) -> Batch:
        """The same on a device; copies from pinned memory do not wait."""
        return self._each(lambda part: part.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The same in pinned memory; a DataLoader calls this."""
        return self._each(lambda part: part.pin_memory())

    def _each(self, change: Callable[[Any], Any]) -> Batch:
        parts: dict[str, Any] = {part.name: getattr(self, part.name) for part in fields(self)}
        changed: dict[str, Any] = {name: None if part is None else change(part) for name, part in parts.items()}
        return Batch(**changed)


class Feed(Dataset[list[Batch]]):
    """Step by step the batches of a run. What a step holds depends on its number alone, so a run can go on anywhere.

    Args:
        data: anchors, and which keys are no negatives of which row.
        tokenizer: the extended tokenizer, for padding.
        slots: for each id its trainable row or -1, int `[V]`.
        config: the options.
        words: for each row the finished ids of its isolated token; empty without a predictor.
        start: the token from which the model's decoder starts, if it has one of its own.
        ranks: who shares the batches.
    """

    def __init__(
        self,
        data: TrainingSet,
        tokenizer: PreTrainedTokenizerFast,
        slots: torch.Tensor,
        config: TrainConfig,
        words: Sequence[Sequence[int]] = (),
        start: int | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.start, self.ranks = start, ranks
        self.data, self.tokenizer, self.config, self.words = data, tokenizer, config, words
        self.slots = slots.cpu()
        self.rows = int(self.slots.max()) + 1
        self.objective = OBJECTIVES[config.objective]
        terms = len(data.updates)  # rows behind these are old ones
        self.new_ids = ((self.slots >= 0) & (self.slots < terms)).nonzero().squeeze(1)
        self.masker = Masker.of(tokenizer, self.new_ids.tolist()) if self.objective.masked else None
        lengths = [len(anchor.ids) for anchor in data.anchors]
        every = steps(lengths, config.batch_size, config.epochs, config.gradient_accumulation, config.seed)
        self.plan = list(islice(every, config.max_steps))

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
            anchors=self.inputs([anchor.ids for anchor in anchors]),
            own=torch.tensor([anchor.key for anchor in anchors]),
            pair_query=torch.tensor([i for i, anchor in enumerate(anchors) for _ in anchor.positives]),
            targets=torch.from_numpy(place[[p for anchor in anchors for p in anchor.positives]]),
            columns=None if columns is None else torch.from_numpy(columns),
            blocked=torch.from_numpy(blocked),
            rows=torch.tensor(rows),
            words=self.inputs([self.words[row] for row in rows]) if self.words else None,
            own_columns=torch.from_numpy(place[[anchor.key for anchor in anchors]]),
            hard_query=torch.tensor([i for i, anchor in enumerate(anchors) for _ in anchor.negatives]).long(),
            hard=torch.from_numpy(place[[n for anchor in anchors for n in anchor.negatives]]).long(),
            aligned=self._aligned(anchors) if self.objective.aligned else None,
            draw=torch.tensor(int(np.random.default_rng([self.config.seed, *seed]).integers(2**62))),
            masked=self._masked(anchors, rows, self.masker, seed) if self.masker else None,
            cut=self._cut(anchors, self.start, seed) if self.objective.cut and self.start is not None else None,
        )

    def _cut(self, anchors: list[Anchor], start: int, seed: tuple[int, int]) -> Cut:
        """Each anchor at a place that is drawn; both parts end as a text does, and something is read of each."""
        end, read, said = self.tokenizer.eos_token_id, [], []
        for i, anchor in enumerate(anchors):
            last = len(anchor.ids) - (anchor.ids[-1] == end)
            at = int(np.random.default_rng([self.config.seed, *seed, i]).integers(1, max(last, 2)))
            read.append([*anchor.ids[:at], *anchor.ids[last:]])
            said.append([start, *anchor.ids[at:]])
        return Cut(self.inputs(read), self.inputs(said))

    def _masked(self, anchors: list[Anchor], rows: list[int], masker: Masker, seed: tuple[int, int]) -> Masked:
        width, left = max(len(anchor.ids) for anchor in anchors), self.tokenizer.padding_side == "left"
        new = set(self.new_ids.tolist())
        read, places, labels = [], [], []
        for i, anchor in enumerate(anchors):
            ids, chosen = masker(anchor.ids, np.random.default_rng([self.config.seed, *seed, i]))
            shift = width - len(ids) if left else 0
            read.append(ids)
            places += [i * width + shift + place for place in chosen]
            told = [anchor.ids[place] for place in chosen]
            labels += [-1 - rows.index(int(self.slots[token])) if token in new else token for token in told]
        return Masked(self.inputs(read), torch.tensor(places), torch.tensor(labels), self.new_ids)

    def _aligned(self, anchors: list[Anchor]) -> Aligned:
        originals = self.inputs([anchor.original for anchor in anchors])
        new, old = max(len(anchor.ids) for anchor in anchors), max(len(anchor.original) for anchor in anchors)
        left = self.tokenizer.padding_side == "left"
        positions, original = torch.zeros(len(anchors), new).long(), torch.zeros(len(anchors), old).long()
        places = []
        for i, anchor in enumerate(anchors):
            shift, shift_old = (new - len(anchor.ids), old - len(anchor.original)) if left else (0, 0)
            known, places_of = np.array(anchor.aligned).T
            follows = np.interp(np.arange(len(anchor.ids)), known, places_of).round()
            positions[i, shift : shift + len(follows)] = torch.from_numpy(follows).long()
            original[i, shift_old : shift_old + len(anchor.original)] = torch.arange(len(anchor.original))
            places += [(i * new + shift + at, i * old + shift_old + at_old) for at, at_old in anchor.aligned]
        student, teacher = torch.tensor(places).T
        return Aligned(originals, student, teacher, positions, original)

    def inputs(self, sequences: Sequence[Sequence[int]]) -> Inputs:
        """Finished ids, padded; of a batch that is shared, this rank's."""
        mine = self.ranks.share(len(sequences))
        features = {name: ids[mine] for name, ids in collate(self.tokenizer, sequences, "cpu").items()}
        return Inputs(features, RowPlan.of(self.slots[features["input_ids"]], self.rows), len(sequences))

    def _columns(self, anchors: list[Anchor], seed: tuple[int, int]) -> np.ndarray | None:
        """The places of a batch's keys: None for the whole bank, or its own keys and a sample of the rest."""
        total, limit = len(self.data.keys), self.config.bank_size
        if total <= limit:
            return None
        own = [key for anchor in anchors for key in (*anchor.positives, *anchor.negatives)]
        own += [anchor.key for anchor in anchors] if self.objective.own_keys else []
        drawn = np.random.default_rng([self.config.seed, *seed]).choice(total, limit, replace=False)
        return np.union1d(drawn, own)
