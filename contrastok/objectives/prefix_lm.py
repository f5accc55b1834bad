"""The objective of encoder-decoders: new tokens are read by the encoder, read and predicted by the decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contrastok.errors import ModelError
from contrastok.lm_head import Seq2SeqHead, require_head
from contrastok.losses import LossTerms
from contrastok.objectives.causal_lm import OverHead
from contrastok.objectives.registry import objective

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from contrastok.config import TrainConfig
    from contrastok.feed import Batch


@objective("prefix_lm", source="prefix language modelling on the new rows alone (T5, Raffel et al. 2020, arXiv "
           "1910.10683, section 3.2.1)", ranks=False, head=True, cut=True)  # fmt: skip
class PrefixLm(OverHead):
    """An encoder reads the beginning of a sentence in new tokens, and its frozen decoder goes on with it."""

    kind = Seq2SeqHead

    @classmethod
    def check(cls, model: SentenceTransformer, config: TrainConfig) -> None:
        """See `OverHead.check`.

        Raises:
            ModelError: the model comes without a decoder, or nothing says how that starts.
        """
        head = require_head(model, f"--objective {config.objective}", Seq2SeqHead)
        if head.start is None:
            raise ModelError(
                "names no decoder_start_token_id, so nobody knows what its decoder starts from",
                where=config.model,
                hint="write the one that it was trained with into its config.json (T5: that of its padding token)",
            )

    def forward(self, batch: Batch) -> LossTerms:
        """Mean cross-entropy over the tokens that the decoder is to say."""
        assert batch.cut is not None  # the registry asks the feed for it
        (head,), read, said = self._head, batch.cut.read, batch.cut.said
        assert isinstance(head, Seq2SeqHead)
        memory = self.student.last_state(read)
        with self.student.watch("body forward"), self.student.overlay.planned(said.plan):
            states = head.states(said.features, read.features, memory)
        with self.student.watch("loss"):
            loss, right = self.next_token(said, states)
            return LossTerms.of(loss, accuracy=right)
