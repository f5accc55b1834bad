"""Masked language modelling: the rows learn from the words around them, through a frozen head."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from contrastok.losses import LossTerms
from contrastok.masking import Masker
from contrastok.mlm_head import MlmHead
from contrastok.objectives.registry import Loss, objective

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from contrastok.config import TrainConfig
    from contrastok.feed import Batch
    from contrastok.pair_settings import PairSettings
    from contrastok.student import Student

NOT_SCORED = -100
"""Label of positions that do not count."""


@objective("mlm", source="masked LM (BERT, Devlin et al. 2019, arXiv 1810.04805)", masked=True, ranks=False)
class MaskedLm(Loss):
    """Masked tokens of a sentence in new tokens are predicted by the model's own frozen masked-LM head.

    Classes are the old tokens and, where the head is tied to the input rows, the new tokens of the batch: the logit of
    one is the head's last hidden state times its row, which moves where old rows are trained too. Where the head is not
    tied there is no class for a new token, and positions at which one was masked do not count.

    Raises:
        ModelError: the model comes without such a head.
    """

    def __init__(self, student: Student, config: TrainConfig, settings: PairSettings) -> None:
        super().__init__(student, config, settings)
        self._head = [MlmHead(config.model).over(student.overlay.weight)]  # in a list: it is not trained

    @classmethod
    def check(cls, model: SentenceTransformer, config: TrainConfig) -> None:
        """See `Loss.check`.

        Raises:
            ContrastokError: the tokenizer has no mask token, or the model no head.
        """
        Masker.of(model.tokenizer)
        MlmHead(config.model)

    def forward(self, batch: Batch) -> LossTerms:
        """Mean cross-entropy over the masked positions."""
        masked, student, (head,) = batch.masked, self.student, self._head
        assert masked is not None  # the registry asks the feed for it
        states = student.last_state(masked.inputs).flatten(0, 1).index_select(0, masked.places)
        with student.watch("loss"):
            every = student.overlay.rows
            rows = every.index_select(0, batch.rows)
            logits = head(states, rows, every[-head.classes :] if student.overlay.trains_old else None)
            ids = torch.arange(logits.shape[1], device=logits.device)
            stale = (ids < head.classes) & torch.isin(ids, masked.new_ids)  # an old class of a new id is not its row
            logits = logits.masked_fill(stale, -torch.inf)
            new = head.classes - 1 - masked.labels if head.tied else torch.full_like(masked.labels, NOT_SCORED)
            labels = torch.where(masked.labels < 0, new, masked.labels)
            scored = labels != NOT_SCORED
            count = scored.sum().clamp_min(1)
            loss = F.cross_entropy(logits, labels, ignore_index=NOT_SCORED, reduction="sum") / count
            right = ((logits.argmax(-1) == labels) & scored).sum() / count
            return LossTerms.of(loss, accuracy=right)
