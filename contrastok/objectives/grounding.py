"""Definition grounding: no corpus, each term beside what its glossary says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from contrastok.data_gen.pair_kinds.template import ABOUT
from contrastok.errors import InputError
from contrastok.kernels.info_nce import info_nce
from contrastok.losses import LossTerms
from contrastok.objectives.contrast import Contrast
from contrastok.objectives.registry import objective
from contrastok.pairs import PairTable

if TYPE_CHECKING:
    from contrastok.config import TrainConfig
    from contrastok.feed import Batch
    from contrastok.pair_settings import PairSettings
    from contrastok.student import Student


@objective(
    "definition_grounding", source="GTI's paired texts (arXiv 2604.02324) under InfoNCE, centred as by Mu & Viswanath "
    "2018 (arXiv 1702.01417)", definitions=True,
)  # fmt: skip
class DefinitionGrounding(Contrast):
    """The term alone and in empty frames against its definition, among the definitions of the batch, all centred.

    What a decoder says of texts points all in one direction, so that cosines tell nothing apart; less the mean of what
    the frozen model says of all texts here, they do.
    """

    def __init__(self, student: Student, config: TrainConfig, settings: PairSettings) -> None:
        super().__init__(student, config, settings)
        self.register_buffer("centre", student.keys.mean(0), persistent=False)

    def forward(self, batch: Batch) -> LossTerms:
        """Mean InfoNCE over the pairs."""
        queries = self.student.embed(batch.anchors)
        with self.student.watch("loss"):
            columns = torch.unique(batch.targets)
            losses, hits = info_nce(
                self.scaled(self.centred(queries)).index_select(0, batch.pair_query),
                self.centred(self.keys(batch).index_select(0, columns)),
                torch.searchsorted(columns, batch.targets),
                batch.blocked.index_select(1, columns).index_select(0, batch.pair_query),
                self.settings.temperature,
            )
            return LossTerms.of(losses.mean(), contrast=losses.mean(), accuracy=hits.float().mean())

    def centred(self, embedded: torch.Tensor) -> torch.Tensor:
        """Embeddings `[N, d]` less the centre, norm 1."""
        return F.normalize(embedded - self.get_buffer("centre"), dim=-1)


def definition_pairs(pairs: PairTable, terms: Sequence[str]) -> PairTable:
    """Each term that has a definition, in frames that say nothing of it, as pairs with the definition.

    Args:
        pairs: what gen-pairs wrote; it tells the definitions.
        terms: in the order of their rows.

    Raises:
        InputError: none of the terms has a definition, or nobody says which.
    """
    told: Mapping[str, str] = {entry["token"]: entry.get("definition", "") for entry in pairs.about.get("terms", [])}
    said = [(term, frame.format(term), told[term]) for term in terms if told.get(term) for frame in ABOUT]
    if not said:
        raise InputError(
            "--objective definition_grounding needs definitions, and the pairs come with none",
            hint="give gen-pairs terms with definitions (or --glossary), and train the folder that it wrote",
        )
    tokens, anchors, positives = (list(column) for column in zip(*said, strict=True))
    return PairTable(tokens, anchors, positives, [[] for _ in said], ["definition"] * len(said), pairs.about, "")
