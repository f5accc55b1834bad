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
WAYS: dict[str, tuple[dict[str, Any], str]] = {
    "init-norm=median": ({"init_norm": "median"}, "docs/methods.md"),
    "init-norm=constituents": ({"init_norm": "constituents"}, "docs/methods.md"),
    "init-dimension=100": ({"init": "ofa", "init_dimension": 100}, "the factorised table of OFA (arXiv:2311.08849)"),
    "mix=free": ({"trainable": "mixing", "mix": "free"}, "free coefficients, as VocADT's; docs/methods.md"),
    "learn-temperature": ({"learn_temperature": True}, "CLIP's learned temperature (Radford et al. 2021)"),
    "hard-negative-weight=4": (
        {"objective": "supervised_simcse", "hard_negative_weight": 4.0},
        "weighted hard negatives of SimCSE (Gao et al. 2021, arXiv 2104.08821)",
    ),
    "layers=2": ({"layers": 2}, "mini-model adaptation (Marchisio et al. 2023, arXiv 2212.10503)"),
    "reset-every=25": ({"reset_every": 25}, "after active forgetting (Chen et al. 2023, arXiv 2307.01163)"),
    "two-stage": ({"two_stage": True}, "LoRA (Hu et al. 2021, arXiv 2106.09685) on the body, after the rows"),
    "lora": ({"lora": True}, "LoRA (Hu et al. 2021, arXiv 2106.09685) on the body, with the rows"),
}
"""Ways of running that are no entry of a registry: options of train, and their source."""


@dataclass(frozen=True)
class Method:
    """One line of the comparison.

    Attributes:
        name: as it is asked for: "default", option=VALUE, or the name of an option that has no value.
        options: of train.
        source: where the method comes from.
    """

    name: str
    options: Mapping[str, Any]
    source: str


def every_method() -> dict[str, Method]:
    """The default, whatever the registries hold, and the ways of running, one option changed at a time."""
    found = {DEFAULT: Method(DEFAULT, {}, "docs/how-it-works.md")}
    for option, registry in GROUPS.items():
        for name, entry in registry.items():
            if STANDARD.get(option) == name:
                continue
            found[f"{option}={name}"] = Method(f"{option}={name}", {option: name}, entry.source)
    return found | {name: Method(name, options, source) for name, (options, source) in WAYS.items()}


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
