"""Which positions of a batch hold which trainable row, in the order in which their gradients are added up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

CHUNK = 32
"""Positions added up by one program; a row that stands more often is summed in chunks, and then over its chunks."""


@dataclass(frozen=True)
class RowPlan:
    """The positions of trainable rows, sorted by row and, within a row, as they stand in the batch.

    It is built where the ids are known, on the host, so that a device neither sorts nor waits, and no order of addition
    is ever left to a scheduler. All tensors are int32.

    Attributes:
        order: the M positions, in the flattened batch.
        chunks: where in `order` each of the C chunks starts, and M at the end, `[C + 1]`.
        rows: the U rows that occur, ascending.
        row_chunks: the first chunk of each of them, and C at the end, `[U + 1]`.
        n: number of trainable rows, those that do not occur included.
        positions: of the whole batch.
    """

    order: torch.Tensor
    chunks: torch.Tensor
    rows: torch.Tensor
    row_chunks: torch.Tensor
    n: int = field(kw_only=True)
    positions: int = field(kw_only=True)

    @classmethod
    def of(cls, slots: torch.Tensor, n: int) -> RowPlan:
        """The plan of a batch.

        Args:
            slots: int `[...]` on the CPU, the row of each position, or negative for a position of the frozen table.
            n: number of trainable rows.

        Raises:
            ValueError: a slot is not below n.
        """
        flat = slots.reshape(-1).numpy()
        order = np.flatnonzero(flat >= 0)
        order = order[np.argsort(flat[order], kind="stable")]
        held = flat[order]
        if held.size and held[-1] >= n:
            raise ValueError(f"slot {held[-1]} of {n} rows")
        starts = np.flatnonzero(np.diff(held, prepend=-1))
        counts = np.diff(starts, append=held.size)
        row_chunks = np.concatenate([[0], np.cumsum(-(-counts // CHUNK))])
        within = np.arange(row_chunks[-1]) - np.repeat(row_chunks[:-1], np.diff(row_chunks))
        chunks = np.append(np.repeat(starts, np.diff(row_chunks)) + CHUNK * within, held.size)
        parts = (order, chunks, held[starts], row_chunks)
        return cls(*(torch.from_numpy(part.astype(np.int32)) for part in parts), n=n, positions=flat.size)

    def tensors(self) -> list[torch.Tensor]:
        """Order, chunks, rows and row_chunks, as the operators take them."""
        return [self.order, self.chunks, self.rows, self.row_chunks]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> RowPlan:
        """The plan on a device; `non_blocking` pays off after `pin_memory`."""
        return self._each(lambda part: part.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> RowPlan:
        """The plan in page-locked memory, as a DataLoader with `pin_memory=True` asks for it."""
        return self._each(lambda part: part.pin_memory())

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> RowPlan:
        return RowPlan(*map(change, self.tensors()), n=self.n, positions=self.positions)
