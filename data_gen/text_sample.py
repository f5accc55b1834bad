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
        capacity: characters; 0 samples nothing.

    Attributes:
        threshold: what is kept lies below it; a power of two.
    """

    def __init__(self, seed: int, capacity: int = CHARACTERS) -> None:
        self._seed, self._capacity = seed, capacity
        self.threshold = 2**64 if capacity else 0
        self._kept: dict[int, str] = {}
        self._characters = 0

    def offer(self, block: str) -> None:
        """Take note of a block."""
        if not self.threshold:
            return
        for start in range(0, len(block), SLICE):
            text = block[start : start + SLICE]
            self.take(keyed_hash(self._seed, "sample", text), text)

    def take(self, priority: int, text: str) -> None:
        """Take note of a slice of a block by its hash."""
        if priority < self.threshold and priority not in self._kept:
            self._kept[priority] = text
            self._characters += len(text)
            while self._characters > self._capacity:
                self.lower(self.threshold // 2)

    def lower(self, threshold: int) -> None:
        """Keep only what lies below a threshold: that of another sample, which thereby becomes a part of this one."""
        if threshold < self.threshold:
            self.threshold = threshold
            self._kept = {priority: text for priority, text in self._kept.items() if priority < threshold}
            self._characters = sum(map(len, self._kept.values()))

    def blocks(self) -> list[str]:
        """What is kept, by increasing hash."""
        return [text for _, text in self.ranked()]

    def ranked(self) -> list[tuple[int, str]]:
        """Hash and text of what is kept, by increasing hash."""
        return sorted(self._kept.items())
