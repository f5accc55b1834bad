"""Definitions as the network reads them: what the frozen model makes of each, without the word that it defines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from contrastok.bank import FrozenEncoder
from contrastok.hypernet.lesson import Lesson

LEAST = 500
"""Known words with a definition below which none is read: too few show what one says of a row."""
DROPPED = 0.5
"""Share of the definitions that an epoch does without, so that the network also learns to do without."""


@dataclass(frozen=True)
class Definitions:
    """Definitions of tokens.

    Attributes:
        outputs: sentence embeddings, float32 `[n + 1, dim]`; the last row is of NaN and stands for none.
        places: row by the id of a token.
    """

    outputs: torch.Tensor
    places: Mapping[int, int]

    def of(self, ids: Sequence[int]) -> torch.Tensor:
        """The definition of each token, float32 `[len(ids), dim]`, NaN where there is none."""
        return self.outputs[[self.places.get(i, -1) for i in ids]]

    def thinned(self, generator: np.random.Generator) -> Definitions:
        """These without the share `DROPPED`, newly drawn."""
        kept = generator.random(len(self.places)) >= DROPPED
        return Definitions(
            self.outputs, {i: at for (i, at), flag in zip(self.places.items(), kept.tolist(), strict=True) if flag}
        )


def read_definitions(encoder: FrozenEncoder, lesson: Lesson) -> Definitions | None:
    """What the frozen model makes of the lesson's definitions; None where these are fewer than `LEAST`."""
    if len(lesson.definitions) < LEAST:
        return None
    ids = dict(sorted(lesson.definitions.items()))
    outputs = torch.from_numpy(np.array(encoder.encode_ids(list(ids.values()), "Reading definitions")))
    nothing = torch.full((1, outputs.shape[1]), torch.nan)
    return Definitions(torch.cat([outputs, nothing]).to(encoder.model.device), {i: at for at, i in enumerate(ids)})


def definitions_of_terms(encoder: FrozenEncoder, definitions: Sequence[str]) -> torch.Tensor:
    """What the frozen model makes of the definitions of new terms, in original tokens.

    Args:
        encoder: the frozen model on the tokenizer before.
        definitions: one a term, "" where there is none.

    Returns:
        float32 `[n, dim]`, NaN where there is none.
    """
    told = [at for at, text in enumerate(definitions) if text]
    found = torch.full((len(definitions), encoder.dim), torch.nan)
    found[told] = torch.from_numpy(np.array(encoder.encode([definitions[at] for at in told], "Reading definitions")))
    return found.to(encoder.model.device)
