"""Initial rows for new tokens: an open registry of methods with one signature.

To add a method, write a function `(InitContext) -> Tensor[n, d]` in a module of this package, decorate it
with `@initializer("name", source="...")`, and import the module below. A term about which the method knows nothing gets
a row of NaN: it starts at `FALLBACK` instead, and the user is told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from contrastok.errors import ConfigError, did_you_mean
from contrastok.initializers.collapse import ALIKE, mean_pairwise_cosine
from contrastok.initializers.context import NEEDS, InitContext, InitOptions
from contrastok.initializers.norms import with_norms

__all__ = ["FALLBACK", "INITIALIZERS", "InitContext", "InitOptions", "Initializer", "initial_rows", "initializer"]

Build = Callable[[InitContext], torch.Tensor]
Refuse = Callable[[InitContext], None]

FALLBACK = "charlen_mean"
"""Where terms start of which a method knows nothing; it needs their pieces alone, and every term has some."""


@dataclass(frozen=True)
class Initializer:
    """A registered method.

    Attributes:
        name: what `--init` calls it.
        summary: one line.
        source: where it comes from.
        needs: fields of `InitContext`, or of its options, without which it cannot work; keys of `NEEDS`.
        build: the function.
        reads: options of train that it reads and others may not; those that give what it needs are among them.
        refuse: raises a ContrastokError where it does not apply; it looks at what costs little alone.
    """

    name: str
    summary: str
    source: str
    needs: tuple[str, ...]
    build: Build
    reads: tuple[str, ...] = ()
    refuse: Refuse = lambda context: None

    @property
    def repeatable(self) -> bool:
        """Whether the base model, the terms, the seed and the norm alone decide the rows: they can be made again."""
        return set(self.needs) <= {"tokenizer"}

    def check(self, context: InitContext) -> None:
        """Refuse what it cannot work with, before anything is encoded.

        Raises:
            ContrastokError: something that it needs was not given or is unusable, or it does not apply to the model.
        """
        for need in self.needs:
            if context.lacks(need):
                raise ConfigError(f"--init {self.name} needs {NEEDS[need].what}", hint=NEEDS[need].hint)
        self.refuse(context)


INITIALIZERS: dict[str, Initializer] = {}


def initializer(
    name: str,
    source: str,
    needs: tuple[str, ...] = (),
    reads: tuple[str, ...] = (),
    refuse: Refuse = lambda context: None,
) -> Callable[[Build], Build]:
    """Register a function as the initialiser `name`; the first line of its docstring describes it."""

    def register(build: Build) -> Build:
        summary = (build.__doc__ or "").strip().splitlines()[0]
        given = tuple(NEEDS[need].option for need in needs if NEEDS[need].option)
        INITIALIZERS[name] = Initializer(name, summary, source, needs, build, (*given, *reads), refuse)
        return build

    return register


def initial_rows(name: str, context: InitContext) -> torch.Tensor:
    """The rows that the named method gives, with norms as the options ask.

    Returns:
        float32 `[n, d]`.

    Raises:
        ContrastokError: there is no such method, it does not apply, what it needs was not given, or its rows are
            unusable.
    """
    if name not in INITIALIZERS:
        raise ConfigError(f"--init {name} is no initialiser", hint=did_you_mean(name, INITIALIZERS))
    INITIALIZERS[name].check(context)
    rows = with_norms(_filled(name, context), context)
    alike = mean_pairwise_cosine(rows)
    if len(rows) > 1 and alike > ALIKE:
        context.tell(
            f"The rows that {name} gives are almost all the same (mean pairwise cosine {alike:.3f}): "
            "to the model these tokens mean one thing."
        )
    return rows


def _filled(name: str, context: InitContext) -> torch.Tensor:
    """The method's rows, and those of `FALLBACK` where it has none.

    Raises:
        ConfigError: wrong shape, or values that are not finite in a row that is not NaN as a whole.
    """
    rows = INITIALIZERS[name].build(context).float()
    unknown = rows.isnan().all(dim=-1) if rows.ndim == 2 else torch.zeros(0, dtype=torch.bool)
    shape = (len(context.terms), context.table.shape[1])
    if rows.shape != shape or not torch.isfinite(rows[~unknown]).all() or (unknown.any() and name == FALLBACK):
        raise ConfigError(f"--init {name} gave rows of shape {tuple(rows.shape)}, or values that are not finite")
    if not unknown.any():
        return rows
    lost = [term for term, flag in zip(context.terms, unknown.tolist(), strict=True) if flag]
    shown = ", ".join(lost[:5]) + (", ..." if lost[5:] else "")
    context.tell(f"{name} knows nothing of {len(lost)} of {len(rows)} terms ({shown}); they start at {FALLBACK}.")
    return torch.where(unknown[:, None], INITIALIZERS[FALLBACK].build(context).float().to(rows.device), rows)


from contrastok.initializers import alignment as _alignment  # noqa: E402, F401  (fills the registry)
from contrastok.initializers import composition as _composition  # noqa: E402, F401
from contrastok.initializers import external as _external  # noqa: E402, F401
from contrastok.initializers import glossary as _glossary  # noqa: E402, F401
from contrastok.initializers import hybrid as _hybrid  # noqa: E402, F401
from contrastok.initializers import hypernet as _hypernet  # noqa: E402, F401
from contrastok.initializers import known_words as _known_words  # noqa: E402, F401
from contrastok.initializers import learned as _learned  # noqa: E402, F401
from contrastok.initializers import linear_alignment as _linear_alignment  # noqa: E402, F401
from contrastok.initializers import merge_tree as _merge_tree  # noqa: E402, F401
from contrastok.initializers import similarity as _similarity  # noqa: E402, F401
from contrastok.initializers import statistics as _statistics  # noqa: E402, F401
