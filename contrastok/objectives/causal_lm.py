"""Objectives of language models: the new tokens are read, and predicted."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from contrastok.lm_head import LanguageHead, require_head
from contrastok.losses import LossTerms
from contrastok.objectives.distill import TokenDistill, aligned_states
from contrastok.objectives.registry import Loss, objective

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from contrastok.config import TrainConfig
    from contrastok.feed import Batch, Inputs
    from contrastok.pair_settings import PairSettings
    from contrastok.student import Student

NOT_SCORED = -1
"""Target of positions that do not count."""
POSITIONS = 128
"""Positions whose distributions over the vocabulary are held at once."""


class OverHead(Loss):
    """Common to the objectives that read a language-model head.

    Its classes are the old tokens and each new id: with the row that it is read by where the head is tied, else with
    one of its own. A slot that a new id took in a padded table is no old class any more. Where old rows or classes are
    trained too, old tokens go with the new ones.

    Raises:
        ModelError: the model comes without such a head.
    """

    kind: ClassVar[type[LanguageHead]] = LanguageHead
    """The head that it reads."""

    def __init__(self, student: Student, config: TrainConfig, settings: PairSettings) -> None:
        super().__init__(student, config, settings)
        head, overlay = require_head(student.model, f"--objective {config.objective}", self.kind), student.overlay
        self._head = [head]  # in a list: it is not trained
        old = head.linear.weight.shape[0]
        self.class_of = torch.arange(max(old, len(overlay.slots)), device=student.device)
        ids = overlay.ids if overlay.head is None else overlay.ids[: len(overlay.head.rows)]
        self.class_of[ids] = old + torch.arange(len(ids), device=student.device)
        self.absent = torch.zeros(old, dtype=torch.bool, device=student.device)
        self.absent[ids[ids < old]] = True
        self.biases: torch.Tensor | None = None
        if head.linear.bias is not None and len(ids) > overlay.new:
            self.biases = torch.cat([head.linear.bias.new_zeros(overlay.new), head.linear.bias[ids[overlay.new :]]])

    @classmethod
    def check(cls, model: SentenceTransformer, config: TrainConfig) -> None:
        """See `Loss.check`.

        Raises:
            ModelError: the model comes without such a head.
        """
        require_head(model, f"--objective {config.objective}", cls.kind)

    def next_token(self, inputs: Inputs, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean cross-entropy of each token from the states before it, and how many are the likeliest.

        Args:
            inputs: what was read, `[A, T]`.
            states: last hidden states, `[A, T, d]`.
        """
        overlay, ids, mask = self.student.overlay, inputs.features["input_ids"], inputs.features["attention_mask"]
        counts = (mask[:, 1:] * mask[:, :-1]).bool()
        targets = torch.where(counts, self.class_of[ids[:, 1:]], NOT_SCORED).flatten()
        rows = overlay.rows.index_select(0, overlay.row_of) if overlay.head is None else overlay.head.rows
        losses, hits = self._head[0].loss(states[:, :-1].flatten(0, 1), targets, rows, self.absent, self.biases)
        count = counts.sum().clamp_min(1)
        return losses.sum() / count, hits.sum() / count


@objective("causal_lm", source="next-token prediction on the new rows alone (Token Distillation's baseline NTP, "
           "arXiv 2505.20133)", ranks=False, head=True)  # fmt: skip
class CausalLm(OverHead):
    """Next token of a sentence in new tokens, through the frozen body and head."""

    def forward(self, batch: Batch) -> LossTerms:
        """Mean cross-entropy over all positions that have a next token."""
        inputs = batch.anchors
        states = self.student.last_state(inputs, own_positions(inputs))
        with self.student.watch("loss"):
            loss, right = self.next_token(inputs, states)
            return LossTerms.of(loss, accuracy=right)


@objective("token_distill_lm", source="Token Distillation with alpha-NTP (arXiv 2505.20133, section 5.1)",
           aligned=True, ranks=False, head=True)  # fmt: skip
class TokenDistillLm(OverHead):
    """Token distillation plus next-token prediction, scaled so that both weigh the same; the scale has no gradient.

    Next-token prediction alone lets rows of a tied head grow. Both read the same states.
    """

    def __init__(self, student: Student, config: TrainConfig, settings: PairSettings) -> None:
        super().__init__(student, config, settings)
        self.distill = TokenDistill(student, config, settings)

    def forward(self, batch: Batch) -> LossTerms:
        """Mean squared error L of the states, plus the cross-entropy C scaled by the number L / C."""
        taught, states = aligned_states(self.student, batch)
        with self.student.watch("loss"):
            distill = self.distill.distance(batch, taught, states)
            loss, right = self.next_token(batch.anchors, states[-1])
            scale = (distill / loss.clamp_min(torch.finfo(loss.dtype).tiny)).detach()
            return LossTerms.of(distill + scale * loss, distill=distill, accuracy=right)


@objective("token_kl", source="KL self-distillation (arXiv 2508.15807), over the old vocabulary", aligned=True,
           ranks=False, head=True)  # fmt: skip
class TokenKl(OverHead):
    """Next-token distributions over the old vocabulary follow those in original tokens, where both have read as much.

    Only what is read is trained: a new token is no class here.
    """

    def __init__(self, student: Student, config: TrainConfig, settings: PairSettings) -> None:
        super().__init__(student, config, settings)
        taken = student.overlay.ids[: student.overlay.new]
        self.present = torch.tensor(sorted({*range(len(self.absent))} - {*taken.tolist()}), device=student.device)

    def forward(self, batch: Batch) -> LossTerms:
        """Mean KL divergence KL(in original tokens || in new ones) over aligned positions."""
        assert batch.aligned is not None  # the registry asks the feed for it
        taught, states = aligned_states(self.student, batch)
        with self.student.watch("loss"):
            teacher = taught[-1].flatten(0, 1).index_select(0, batch.aligned.teacher)
            student = states[-1].flatten(0, 1).index_select(0, batch.aligned.student)
            parts = zip(*(torch.split(each, POSITIONS) for each in (teacher, student)), strict=True)
            found = [checkpoint(self._divergence, *part, use_reentrant=False) for part in parts]  # made again, not kept
            distill = torch.stack(found).sum() / len(student)
            return LossTerms.of(distill, distill=distill)

    def _divergence(self, teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
        """Sum of the divergences at some positions, from their states `[N, d]`."""
        head, overlay = self._head[0], self.student.overlay
        table = None
        if overlay.head is None and overlay.trains_old:  # they are the classes
            moved = overlay.rows.index_select(0, overlay.row_of[overlay.new :])
            table = head.linear.weight.float().index_copy(0, overlay.ids[overlay.new :], moved)
        logits = head.logits(teacher), head.logits(student, table)
        there, here = (each.index_select(1, self.present).log_softmax(-1) for each in logits)
        return F.kl_div(here, there, reduction="sum", log_target=True)


def own_positions(inputs: Inputs) -> torch.Tensor:
    """Place of each token in its sequence, int64 `[A, T]`, also where padding stands before it."""
    mask = inputs.features["attention_mask"]
    return (mask.cumsum(dim=1) - 1).clamp_min(0)
