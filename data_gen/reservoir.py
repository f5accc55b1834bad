"""Samples that depend on what is sampled and on the seed, never on the order in which it arrives."""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterable
from functools import cache
from hashlib import blake2b
from typing import Any, Generic, Protocol, TypeVar

import numpy as np


class _Ordered(Protocol):
    def __lt__(self, other: Any, /) -> bool: ...


T = TypeVar("T", bound=_Ordered)

FEW = 64
"""Hashes that Python sorts sooner than NumPy starts."""


def keyed_hash(seed: int, *parts: str) -> int:
    """A 64-bit number that looks drawn at random, decided by the seed and the parts alone.

    Two of n different inputs collide with probability about n^2 / 2^65: 3 in a million for ten million inputs.
    """
    drawn = _keyed(seed).copy()
    drawn.update("\x1f".join(parts).encode("utf-8", "surrogatepass"))
    return int.from_bytes(drawn.digest())


@cache
def _keyed(seed: int) -> blake2b:
    """The hash that has read the key and nothing else: every block of a corpus goes through it."""
    return blake2b(digest_size=8, key=str(seed).encode())


def keyed_uniform(seed: int, *parts: str) -> float:
    """The same number as a float in [0, 1)."""
    return (keyed_hash(seed, *parts) >> 11) / 2**53


class BottomK(Generic[T]):
    """The items with the k smallest hashes: a uniform sample without replacement of the distinct hashes.

    Algorithm R fills its reservoir from whatever comes first; this one (bottom-k sketch, Cohen & Kaplan,
    PODC 2007) keeps the same items whatever the order, and the samples of two shards merge into the sample of
    both. Of items with the same hash the smallest is kept.

    Args:
        k: capacity.
    """

    def __init__(self, k: int) -> None:
        self.k = k
        self._items: dict[int, T] = {}
        self._largest: list[int] = []  # negated hashes: a heap whose top is the largest kept

    def offer(self, priority: int, item: T) -> None:
        """Take note of an item whose hash is `priority`."""
        if priority in self._items:
            if item < self._items[priority]:
                self._items[priority] = item
        elif len(self._items) < self.k:
            self._items[priority] = item
            heapq.heappush(self._largest, -priority)
        elif self._largest and priority < -self._largest[0]:
            del self._items[-heapq.heapreplace(self._largest, -priority)]
            self._items[priority] = item

    def items(self) -> list[T]:
        """What is kept, by increasing hash."""
        return [item for _, item in self.ranked()]

    def ranked(self) -> list[tuple[int, T]]:
        """Hash and item of what is kept, by increasing hash."""
        return [(priority, self._items[priority]) for priority in sorted(self._items)]


class Distinct:
    """How many different hashes were seen, in memory that does not grow with them.

    Up to `k` they are counted. Beyond, the k-th smallest tells how densely they lie (Bar-Yossef et al., Counting
    distinct elements in a data stream, RANDOM 2002): an estimate with a standard error of 1 / sqrt(k - 2), 4 % for
    512. It depends neither on the order of the hashes nor on how they were divided.

    Args:
        k: hashes kept; at most twice as many are held.
    """

    __slots__ = ("_held", "_limit", "k")

    def __init__(self, k: int = 512) -> None:
        self.k = k
        self._held = array("Q")
        self._limit = 2**64

    def __len__(self) -> int:
        kept = self.smallest()
        return len(kept) if len(kept) < self.k else round((self.k - 1) * 2**64 / kept[-1])

    def add(self, value: int) -> None:
        """Take note of a hash below 2^64."""
        if value < self._limit:
            self._held.append(value)
            if len(self._held) >= 2 * self.k:
                self.smallest()

    def update(self, values: Iterable[int]) -> None:
        """Take note of many."""
        for value in values:
            self.add(value)

    def smallest(self) -> list[int]:
        """The different hashes, ascending; of more than `k` the smallest."""
        few = len(self._held) < FEW
        kept = sorted(set(self._held)) if few else np.unique(np.frombuffer(self._held, np.uint64)).tolist()
        del kept[self.k :]
        self._held = array("Q", kept)
        if len(kept) == self.k:
            self._limit = kept[-1]
        return kept
