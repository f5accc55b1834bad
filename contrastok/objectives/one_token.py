"""One-Token Approximation: no corpus, random words around the term."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from contrastok.losses import LossTerms
from contrastok.objectives.distill import aligned_states
from contrastok.objectives.registry import Loss, objective
from contrastok.pairs import PairTable

if TYPE_CHECKING:
    from contrastok.feed import Batch

CONTEXTS = 32
"""Random contexts of each term."""
SIDE = (1, 8)
"""Fewest and most words before a term, and behind it."""


@objective(
    "one_token", source="One-Token Approximation (Schick & Schuetze 2020, Rare Words)",
    aligned=True, ranks=False, random_contexts=True,
)  # fmt: skip
class OneToken(Loss):
    """In random contexts all other tokens see, in every layer, what they see when the term stands in its pieces.

    Where the model takes positions, tokens keep those that they have beside the pieces.
    """

    def forward(self, batch: Batch) -> LossTerms:
        """Squared error over the tokens that are not new, mean over them and coordinates, summed over layers."""
        assert batch.aligned is not None  # the registry asks the feed for it
        both, student = batch.aligned, self.student
        same = batch.anchors.features["input_ids"].flatten().index_select(0, both.student)
        same = same == both.originals.features["input_ids"].flatten().index_select(0, both.teacher)
        others = same.nonzero().squeeze(1)  # a new token differs from the last of its pieces
        here, there = both.student.index_select(0, others), both.teacher.index_select(0, others)
        taught, states = aligned_states(student, batch)
        with student.watch("loss"):
            layers = [
                (a.flatten(0, 1).index_select(0, here).float() - b.flatten(0, 1).index_select(0, there).float())
                for a, b in zip(states[1:], taught[1:], strict=True)
            ]
            distill = torch.stack([away.square().mean() for away in layers]).sum()
            return LossTerms.of(distill, distill=distill)


def random_contexts(terms: Sequence[str], words: Sequence[str], seed: int) -> PairTable:
    """Each term among random words, `CONTEXTS` times, as pairs of a text with itself.

    Args:
        terms: the terms.
        words: to draw from.
        seed: the same seed gives the same texts.
    """
    spoken = {part for term in terms for part in term.casefold().split()}
    among = np.array([word for word in words if word.casefold() not in spoken])
    generator = np.random.default_rng(seed)
    texts, tokens = [], []
    for term in terms:
        for _ in range(CONTEXTS):
            sides = [" ".join(generator.choice(among, generator.integers(SIDE[0], SIDE[1] + 1))) for _ in range(2)]
            texts.append(f"{sides[0]} {term} {sides[1]}")
            tokens.append(term)
    return PairTable(tokens, texts, list(texts), [[] for _ in texts], ["random-context"] * len(texts), {}, "")
