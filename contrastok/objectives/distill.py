"""Distillation: the model in new tokens follows the frozen model in the original ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from contrastok.errors import ConfigError
from contrastok.losses import LossTerms
from contrastok.models import transformer
from contrastok.objectives.registry import Loss, objective

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from contrastok.config import TrainConfig
    from contrastok.feed import Batch
    from contrastok.student import Student


States = tuple[torch.Tensor, ...]


@objective("self_distill", source="embedding distillation by cosine; the teacher is the model itself", ranks=False)
class SelfDistill(Loss):
    """1 - cosine of a sentence's embedding in new tokens and the frozen model's in its original ones."""

    def forward(self, batch: Batch) -> LossTerms:
        """Mean over the anchors."""
        queries = self.student.embed(batch.anchors)
        with self.student.watch("loss"):
            own = self.student.keys.index_select(0, batch.own)
            distill = (1 - (queries * own).sum(-1)).mean()
            return LossTerms.of(distill, distill=distill)


@objective(
    "token_distill",
    source="Token Distillation (arXiv 2505.20133)",
    aligned=True,
    ranks=False,
    reads=("distill_layer",),
)
class TokenDistill(Loss):
    """Hidden states at a layer in new tokens follow those in the original ones, where both end at the same character.

    The new token follows the last of its pieces. Where the model takes positions, the student's tokens get those of the
    teacher's, or every state behind a new token would differ for that alone.

    Raises:
        ConfigError: the model has no such layer.
    """

    @classmethod
    def check(cls, model: SentenceTransformer, config: TrainConfig) -> None:
        """Refuse a layer that the model, or the part of it that is trained through, has not."""
        depth = config.layers or transformer(model).config.get_text_config().num_hidden_layers
        layer = config.distill_layer
        if not -depth - 1 <= layer <= depth:
            raise ConfigError(
                f"--distill-layer {layer}: the model has {depth} layers",
                hint=f"give 1 to {depth}, 0 for the embeddings, or -1 for the last layer",
            )

    def forward(self, batch: Batch) -> LossTerms:
        """Mean squared error over aligned positions and coordinates."""
        taught, states = aligned_states(self.student, batch)
        with self.student.watch("loss"):
            distill = self.distance(batch, taught, states)
            return LossTerms.of(distill, distill=distill)

    def distance(self, batch: Batch, taught: States, states: States) -> torch.Tensor:
        """The loss from what `aligned_states` gave."""
        assert batch.aligned is not None  # the registry asks the feed for it
        both, layer = batch.aligned, self.config.distill_layer
        student = states[layer].flatten(0, 1).index_select(0, both.student)
        teacher = taught[layer].flatten(0, 1).index_select(0, both.teacher)
        return (student.float() - teacher.float()).square().mean()


def aligned_states(student: Student, batch: Batch) -> tuple[States, States]:
    """Hidden states of the frozen model in the original tokens, and of the trained one in the new ones, at the same
    positions; `[A, S, d]` and `[A, T, d]` for the embeddings and each layer."""
    assert batch.aligned is not None  # the registry asks the feed for it
    both = batch.aligned
    with torch.no_grad(), student.frozen():
        taught = student.states(both.originals, both.original_positions)
    return taught, student.states(batch.anchors, both.positions)
