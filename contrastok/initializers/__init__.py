"""Initial rows for new tokens: an open registry of methods with one signature.

To add a method, write a function `(InitContext) -> Tensor[n, d]` in a module of this package, decorate it
with `@initializer("name", source="...")`, and import the module below.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from contrastok.errors import ConfigError, did_you_mean


@dataclass(frozen=True)
class InitContext:
    """What an initialiser may look at.

    Attributes:
        table: the base model's embedding table, `[V, d]`, any float dtype; never changed.
        terms: the terms, in order of their rows, `n` of them.
        pieces: for each term, the ids of its original tokens as they stand in running text.
        lengths: for each term, the characters that each piece covers.
        seed: for methods that draw.
        predicted: the rows that a predictor gives, `[n, d]`, where one was learned.
    """

    table: torch.Tensor
    terms: tuple[str, ...]
    pieces: tuple[tuple[int, ...], ...]
    lengths: tuple[tuple[int, ...], ...]
    seed: int = 0
    predicted: torch.Tensor | None = None


@dataclass(frozen=True)
class Initializer:
    """A registered method: its name, its one-line description, where it comes from, and the function."""

    name: str
    summary: str
    source: str
    build: Callable[[InitContext], torch.Tensor]


INITIALIZERS: dict[str, Initializer] = {}


def initializer(
    name: str, source: str
) -> Callable[[Callable[[InitContext], torch.Tensor]], Callable[[InitContext], torch.Tensor]]:
    """Register a function as the initialiser `name`; the first line of its docstring describes it."""

    def register(build: Callable[[InitContext], torch.Tensor]) -> Callable[[InitContext], torch.Tensor]:
        INITIALIZERS[name] = Initializer(name, (build.__doc__ or "").strip().splitlines()[0], source, build)
        return build

    return register


def initial_rows(name: str, context: InitContext) -> torch.Tensor:
    """The rows that the named method gives.

    Returns:
        float32 `[n, d]`.

    Raises:
        ConfigError: there is no such method.
    """
    if name not in INITIALIZERS:
        raise ConfigError(f"--init {name} is no initialiser", hint=did_you_mean(name, INITIALIZERS))
    rows = INITIALIZERS[name].build(context).float()
    if rows.shape != (len(context.terms), context.table.shape[1]) or not torch.isfinite(rows).all():
        raise ConfigError(f"--init {name} gave rows of shape {tuple(rows.shape)}, or values that are not finite")
    return rows


from contrastok.initializers import composition as _composition  # noqa: E402, F401  (fills the registry)
from contrastok.initializers import learned as _learned  # noqa: E402, F401
