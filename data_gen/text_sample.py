"""A sample of a corpus of any size in memory that does not grow with it."""

from __future__ import annotations

from contrastok.data_gen.reservoir import keyed_hash

CHARACTERS = 24_000_000
"""Text that a sample holds at most."""

SLICE = 20_000
"""Characters; a longer block is sampled in slices, or one book without line breaks would be a sample of its own."""


class TextSample:
    """Blocks of text whose keyed hash lies below a threshold, which halves whenever they become too many.

    What is kept at the end does not depend on the order of the blocks: it is the largest of the nested samples
    (half of the text, a quarter, ...) that fits. Of equal blocks one is kept.

    Args:
        seed: decides which blocks are kept.
        capacity: characters.
    """

    def __init__(self, seed: int, capacity: int = CHARACTERS) -> None:
        self._seed, self._capacity = seed, capacity
        self._threshold = 2**64
        self._kept: dict[int, str] = {}
        self._characters = 0

    def offer(self, block: str) -> None:
        """Take note of a block."""
        for start in range(0, len(block), SLICE):
            text = block[start : start + SLICE]
            priority = keyed_hash(self._seed, "sample", text)
            if priority < self._threshold and priority not in self._kept:
                self._kept[priority] = text
                self._characters += len(text)
                while self._characters > self._capacity:
                    self._halve()

    def blocks(self) -> list[str]:
        """What is kept, by increasing hash."""
        return [self._kept[priority] for priority in sorted(self._kept)]

    def _halve(self) -> None:
        self._threshold //= 2
        self._kept = {priority: text for priority, text in self._kept.items() if priority < self._threshold}
        self._characters = sum(map(len, self._kept.values()))
