"""Which tokens of a sentence are masked, and what stands in their place (BERT, Devlin et al. 2019, section 3.1)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from contrastok.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SHARE = 0.15
"""Share of a sentence's tokens that are to be predicted."""
HIDDEN, SWAPPED = 0.8, 0.1
"""Shares of these that become the mask token and a random old token; the rest stays as it is."""


@dataclass(frozen=True)
class Masker:
    """Chooses and hides tokens.

    Attributes:
        mask: id of the mask token.
        special: ids that are never chosen.
        drawn: ids that a random token is drawn from: all but special and new ones, int64 `[V']`.
    """

    mask: int
    special: frozenset[int]
    drawn: np.ndarray

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerFast, new: Collection[int] = ()) -> Masker:
        """The masker of a tokenizer whose ids `new` were added.

        Raises:
            ConfigError: it has no mask token.
        """
        mask = tokenizer.mask_token_id
        if mask is None:
            raise ConfigError(
                "--objective mlm needs a tokenizer with a mask token, and this one has none",
                hint="take another --objective",
            )
        special = frozenset(tokenizer.all_special_ids) - frozenset(new)
        known = sorted({*tokenizer.get_vocab().values()} - special - {*new})
        return cls(int(mask), special, np.array(known))

    def __call__(self, ids: Sequence[int], generator: np.random.Generator) -> tuple[list[int], list[int]]:
        """Hide 15 % of a sentence's tokens, at least one: 80 % of them as the mask, 10 % as any token, 10 % not at all.

        Args:
            ids: of the sentence, special tokens included; one of them at least is not special.
            generator: chooses.

        Returns:
            the ids to read, and the places that are to be predicted, in order.
        """
        candidates = [place for place, token in enumerate(ids) if token not in self.special]
        count = max(1, round(SHARE * len(candidates)))
        chosen = sorted(map(int, generator.choice(candidates, count, replace=False)))
        read = list(ids)
        for place, kind in zip(chosen, generator.random(count), strict=True):
            if kind < HIDDEN:
                read[place] = self.mask
            elif kind < HIDDEN + SWAPPED:
                read[place] = int(generator.choice(self.drawn))
        return read, chosen
