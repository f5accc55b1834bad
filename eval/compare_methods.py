"""The methods that `contrastok compare` sets side by side: each is a set of options of train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contrastok.errors import did_you_mean
from contrastok.initializers import INITIALIZERS
from contrastok.objectives import OBJECTIVES
from contrastok.trainables import TRAINABLES

DEFAULT = "default"
"""train as it is."""
STANDARD = {"objective": "anchored_pairs", "trainable": "rows"}
"""What the default does; no methods of their own."""
GROUPS: dict[str, Mapping[str, Any]] = {"init": INITIALIZERS, "objective": OBJECTIVES, "trainable": TRAINABLES}
"""By the option of train that takes the name: the registry."""


@dataclass(frozen=True)
class Method:
    """One line of the comparison.

    Attributes:
        name: as it is asked for: "default", or option=NAME.
        options: of train.
        source: where the method comes from.
    """

    name: str
    options: Mapping[str, Any]
    source: str


def every_method() -> dict[str, Method]:
    """The default, and whatever the registries hold, one option changed at a time."""
    found = {DEFAULT: Method(DEFAULT, {}, "docs/how-it-works.md")}
    for option, registry in GROUPS.items():
        for name, entry in registry.items():
            if STANDARD.get(option) == name:
                continue
            found[f"{option}={name}"] = Method(f"{option}={name}", {option: name}, entry.source)
    return found


def unknown_methods(names: Sequence[str]) -> list[str]:
    """A problem for each name that is neither a method nor a group of them (all, or an option of train)."""
    known = [*every_method(), "all", *GROUPS]
    return [f"--methods {name} is none: {did_you_mean(name, known)}" for name in names if name not in known]


def chosen_methods(names: Sequence[str]) -> list[Method]:
    """The methods that are asked for, each once; `all` and an option's name stand for many."""
    every = every_method()
    found: dict[str, Method] = {}
    for name in names:
        wanted = [m for m in every if name in ("all", m) or m.startswith(f"{name}=")]
        found |= {method: every[method] for method in wanted}
    return list(found.values())
