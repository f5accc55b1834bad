"""The new rows themselves, with our overlay or with PEFT's layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from contrastok.embedding import RowOverlay
from contrastok.overlay import attach
from contrastok.trainables.registry import trainable

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from contrastok.config import TrainConfig
    from contrastok.vocabulary import VocabularyPlan


@trainable("rows", source="two tables, one of them frozen (IDEFICS' IdeficsDecoupledEmbedding)")
def rows(model: SentenceTransformer, plan: VocabularyPlan, first: torch.Tensor, config: TrainConfig) -> RowOverlay:
    """The new rows, each coordinate for itself."""
    return attach(model, plan, first)


class PeftRows(RowOverlay):
    """An overlay that leaves the lookup to PEFT's layer, which copies the table in every forward.

    PEFT trains a row for each id; here the ids of a term's forms lead to one, as everywhere else. It reads its own
    parameter, so nothing can be put between that and the lookup.

    Args:
        base, rows, ids, row_of: see `RowOverlay`.
    """

    made = False

    def __init__(self, base: nn.Module, rows: torch.Tensor, ids: Sequence[int], row_of: Sequence[int]) -> None:
        from peft.tuners.trainable_tokens.layer import TrainableTokensLayer

        super().__init__(base, rows, ids, row_of)
        table = self._table()
        self.first = len(table)
        grown = torch.cat([table, self.rows.detach().to(table)])
        self.layer = TrainableTokensLayer(
            nn.Embedding(len(grown), grown.shape[1], _weight=grown, _freeze=True), "default"
        )
        self.layer.update_layer("default", token_indices=list(range(self.first, len(grown))), init_weights=True)
        self.layer.requires_grad_(False)
        self.rows = self.layer.trainable_tokens_delta["default"].requires_grad_(True)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Embed ids `[..., T]`, see `RowOverlay.forward`."""
        if self._bypassed:
            return super().forward(input_ids)
        slots = self.slots[input_ids].long()
        found: torch.Tensor = self.layer(torch.where(slots >= 0, self.first + slots, input_ids))
        return found * self.scale


@trainable("peft", source="PEFT's Trainable Tokens, as a baseline", needs_fp32=True, packages=("peft",))
def peft(model: SentenceTransformer, plan: VocabularyPlan, first: torch.Tensor, config: TrainConfig) -> RowOverlay:
    """The new rows, each coordinate for itself, by PEFT's TrainableTokens; slower."""
    return attach(model, plan, first, PeftRows)
