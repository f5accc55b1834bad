"""The generators of pairs, by name. A new kind is a class with `name` and `build`, and a line here."""

from __future__ import annotations

from collections.abc import Sequence

from contrastok.data_gen.pair_kinds.base import Pair, PairContext, PairKind
from contrastok.data_gen.pair_kinds.contexts import ContextContext, ContextDefinition, CrossTokenisation
from contrastok.data_gen.pair_kinds.isolated import Isolated
from contrastok.data_gen.pair_kinds.substitution import ContextSubstitution
from contrastok.data_gen.pair_kinds.template import Template
from contrastok.errors import ConfigError, did_you_mean, raise_all

__all__ = ["PAIR_KINDS", "Pair", "PairContext", "PairKind", "choose_kinds", "unknown_kinds"]

PAIR_KINDS: dict[str, PairKind] = {
    kind.name: kind
    for kind in (
        ContextDefinition(),
        ContextContext(),
        ContextSubstitution(),
        CrossTokenisation(),
        Isolated(),
        Template(),
    )
}


def unknown_kinds(names: Sequence[str]) -> list[str]:
    """One sentence for each name that is no kind of pair."""
    unknown = [name for name in dict.fromkeys(names) if name not in PAIR_KINDS]
    return [f"--kinds {name!r} is no kind of pair: {did_you_mean(name, PAIR_KINDS)}" for name in unknown]


def choose_kinds(names: Sequence[str]) -> tuple[PairKind, ...]:
    """The generators of these names, in the order of the registry; all of them when no name is given.

    Raises:
        ConfigError: lists every name that does not exist.
    """
    raise_all(ConfigError, unknown_kinds(names))
    return tuple(kind for name, kind in PAIR_KINDS.items() if not names or name in names)
