"""The registry of what can be trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch

from contrastok.embedding import RowOverlay
from contrastok.errors import ConfigError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from contrastok.config import TrainConfig
    from contrastok.vocabulary import VocabularyPlan

Lay = Callable[["SentenceTransformer", "VocabularyPlan", torch.Tensor, "TrainConfig"], RowOverlay]


@dataclass(frozen=True)
class Trainable:
    """A registered way of training.

    Attributes:
        name: what `--trainable` calls it.
        summary: one line.
        source: where it comes from.
        lay: lays the overlay over a model, from the first rows `[n, d]`.
        rate: default learning rate; None where the parameters are rows, whose rate is measured by the table.
        moves_old: whether old rows are trained too; they then stand behind the new ones in the overlay's rows.
        needs_fp32: whether the frozen weights must be held in full precision.
        packages: what must be installed beside the fixed ones; the extra of the same name does so.
        reads: options of train that it reads and others may not.
        moves_head: whether old classes of a language-model head that is not tied are trained too, where one is read.
    """

    name: str
    summary: str
    source: str
    lay: Lay
    rate: float | None = None
    moves_old: bool = False
    needs_fp32: bool = False
    moves_head: bool = False
    packages: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        """What it cannot do without, in words."""
        return tuple(f"the package {package}" for package in self.packages)

    def check(self) -> None:
        """Refuse to train without a package, before anything is encoded.

        Raises:
            ConfigError: one is not installed.
        """
        for package in self.packages:
            if find_spec(package) is None:
                hint = f"pip install 'contrastok[{package}]'"
                raise ConfigError(f"--trainable {self.name} needs the package {package}", hint=hint)


TRAINABLES: dict[str, Trainable] = {}


def trainable(
    name: str,
    source: str,
    *,
    rate: float | None = None,
    moves_old: bool = False,
    needs_fp32: bool = False,
    moves_head: bool = False,
    packages: tuple[str, ...] = (),
    reads: tuple[str, ...] = (),
) -> Callable[[Lay], Lay]:
    """Register a function as the way of training `name`; the first line of its docstring describes it."""

    def register(lay: Lay) -> Lay:
        summary = (lay.__doc__ or "").strip().splitlines()[0]
        exact = needs_fp32 or moves_old
        TRAINABLES[name] = Trainable(name, summary, source, lay, rate, moves_old, exact, moves_head, packages, reads)
        return lay

    return register
