"""The registry of objectives, and what every objective is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from torch import nn

from contrastok.losses import LossTerms

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from contrastok.config import TrainConfig
    from contrastok.feed import Batch
    from contrastok.pair_settings import PairSettings
    from contrastok.student import Student


class Loss(nn.Module):
    """The loss of a batch. Parameters of its own, if it has any, are trained with the rows and then thrown away.

    Args:
        student: the model that is trained, and the frozen keys.
        config: the options.
        settings: temperature and weights.

    Raises:
        ContrastokError: it cannot work with this model.
    """

    def __init__(self, student: Student, config: TrainConfig, settings: PairSettings) -> None:
        super().__init__()
        self.config, self.settings = config, settings
        self._student = [student]  # in a list: the model is no part of the loss

    @property
    def student(self) -> Student:
        """The model that is trained."""
        return self._student[0]

    @classmethod
    def check(cls, model: SentenceTransformer, config: TrainConfig) -> None:
        """Refuse a base model that this loss can never work with, before anything is encoded; here none.

        Raises:
            ContrastokError: it cannot work with this model.
        """

    def forward(self, batch: Batch) -> LossTerms:
        """The loss of a batch."""
        raise NotImplementedError


@dataclass(frozen=True)
class Objective:
    """A registered objective.

    Attributes:
        name: what `--objective` calls it.
        summary: one line.
        source: where it comes from.
        build: the class of its loss.
        own_keys: whether each anchor's own key must be among the keys of its batch.
        aligned: whether batches hold the anchors' original tokens, aligned with the new ones.
        ranks: whether its accuracy means something.
        random_contexts: whether anchors are random contexts of the terms and not the pairs'.
        masked: whether batches hold the anchors with some tokens masked.
        calibrated: whether known words can choose its settings.
        head: whether it needs a language-model head, of which new tokens are classes.
        cut: whether batches hold the anchors cut in two.
        definitions: whether anchors are the terms beside their definitions and not the pairs'.
        dropout: whether it needs a model that drops something out.
        reads: options of train that it reads and others may not.
    """

    name: str
    summary: str
    source: str
    build: type[Loss]
    own_keys: bool = False
    aligned: bool = False
    ranks: bool = True
    random_contexts: bool = False
    masked: bool = False
    calibrated: bool = False
    head: bool = False
    cut: bool = False
    definitions: bool = False
    dropout: bool = False
    reads: tuple[str, ...] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        """What it cannot do without, in words."""
        head = "an encoder-decoder with its head" if self.cut else "a causal language model with its head"
        asked = {
            head: self.head,
            "a model with its masked-LM head": self.masked,
            "definitions of terms": self.definitions,
            "a model with dropout": self.dropout,
        }
        return tuple(what for what, wanted in asked.items() if wanted)

    @property
    def splits(self) -> bool:
        """Whether ranks can share its batches: it looks at embeddings alone, which are gathered, and at no states."""
        return not (self.aligned or self.masked or self.head)


OBJECTIVES: dict[str, Objective] = {}

L = TypeVar("L", bound=type[Loss])


def objective(
    name: str,
    source: str,
    *,
    own_keys: bool = False,
    aligned: bool = False,
    ranks: bool = True,
    random_contexts: bool = False,
    masked: bool = False,
    calibrated: bool = False,
    head: bool = False,
    cut: bool = False,
    definitions: bool = False,
    dropout: bool = False,
    reads: tuple[str, ...] = (),
) -> Callable[[L], L]:
    """Register a class as the objective `name`; the first line of its docstring describes it."""

    def register(build: L) -> L:
        summary = (build.__doc__ or "").strip().splitlines()[0]
        asks = (own_keys, aligned, ranks, random_contexts, masked, calibrated, head, cut, definitions, dropout)
        OBJECTIVES[name] = Objective(name, summary, source, build, *asks, reads)
        return build

    return register
