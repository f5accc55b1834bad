"""Old rows move with the new ones: the baselines against which the promise of frozen rows is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from contrastok.embedding import RowOverlay
from contrastok.models import input_embedding, language_head
from contrastok.overlay import attach
from contrastok.trainables.registry import trainable
from contrastok.trainables.shared import LowRank, made_by, unit

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from contrastok.config import TrainConfig
    from contrastok.vocabulary import VocabularyPlan


@trainable("full", source="training of embedding and head, as a baseline", moves_old=True, moves_head=True)
def full(model: SentenceTransformer, plan: VocabularyPlan, first: torch.Tensor, config: TrainConfig) -> RowOverlay:
    """The whole embedding table, and the head where the objective has one: texts without a new token change."""
    return attach(model, plan, first, old_rows=True)


@trainable(
    "full_lora",
    source="LoRA on an embedding (Hu et al. 2021, arXiv 2106.09685)",
    rate=0.03,
    moves_old=True,
    reads=("rank",),
)
def full_lora(model: SentenceTransformer, plan: VocabularyPlan, first: torch.Tensor, config: TrainConfig) -> RowOverlay:
    """The whole table moves in `--rank` shared directions: every old row that stands in a text of training moves."""
    overlay = attach(model, plan, first, old_rows=True)
    n, d = overlay.rows.shape
    return made_by(overlay, LowRank(n, d, config.rank, unit(overlay), config.seed, zero="a"))


@torch.no_grad()
def write_old_rows(model: SentenceTransformer, overlay: RowOverlay, new: int) -> dict[str, Any]:
    """Write the old rows, and old classes of a head, that training moved into the model's own tables.

    Args:
        model: with the overlay attached.
        overlay: of a way of training that moves old rows.
        new: number of new rows, which stand before the old ones.

    Returns:
        "old_rows_moved", and the median and the largest of their relative moves |e - e0| / |e0|; "old_classes_moved",
        of a head that is not tied.
    """
    table, moved = input_embedding(model).weight, overlay.rows[new:]
    classes = 0
    if overlay.head is not None:
        head, old = language_head(model).linear.weight, overlay.ids[overlay.new : len(overlay.head.rows)]
        said = overlay.head.rows[overlay.new :].to(head)
        classes = int((said != head[old]).any(dim=-1).sum())
        head[old] = said
    away = (moved.to(table) - table).float().norm(dim=-1) / table.float().norm(dim=-1).clamp_min(1e-12)
    touched = away > 0
    table.copy_(moved.to(table))
    some = away[touched] if touched.any() else away[:1]
    return {
        "old_rows_moved": int(touched.sum()),
        "old_rows": len(table),
        "median_move": float(some.median()),
        "largest_move": float(some.max()),
        **({"old_classes_moved": classes} if classes else {}),
    }
