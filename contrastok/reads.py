"""Options of train that some methods alone read: given beside any other method they would do nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from contrastok.config import TrainConfig
from contrastok.initializers import INITIALIZERS
from contrastok.objectives import OBJECTIVES
from contrastok.options import flag
from contrastok.trainables import TRAINABLES

REGISTRIES: Mapping[str, Mapping[str, Any]] = {
    "init": INITIALIZERS,
    "objective": OBJECTIVES,
    "trainable": TRAINABLES,
}
"""By the option that takes a method's name: the registry, whose entries say what each reads."""
WAYS = {"rank": ("lora", "two_stage")}
"""Ways of running, which stand in no registry, by the option that they read."""
AUTO = {"auto": "predictor"}
"""`--init auto` may come to be the predictor, and reads what that does."""


def unread(config: TrainConfig) -> list[str]:
    """Options that were given (differ from their defaults) and that nothing which was chosen reads, by field name."""
    chosen = {option: getattr(config, option) for option in REGISTRIES} | {"init": AUTO.get(config.init, config.init)}
    if any(method not in REGISTRIES[option] for option, method in chosen.items()):
        return []  # the misspelled name is a problem of its own: who knows what was meant to be read
    read = {name for option, method in chosen.items() for name in REGISTRIES[option][method].reads}
    read |= {name for name, ways in WAYS.items() if any(getattr(config, way) for way in ways)}
    defaults = _defaults()
    return [name for name in _readers() if name not in read and getattr(config, name) != defaults[name]]


def unread_problems(config: TrainConfig) -> list[str]:
    """A sentence for each option of `unread`: what reads it, and what was chosen."""
    readers, problems = _readers(), []
    for name in unread(config):
        asked = [f"--{option} {', '.join(names)}" for option, names in readers[name].items()]
        asked += [f"--{flag(way)}" for way in WAYS.get(name, ())]
        other = next(iter(readers[name]))
        problems.append(
            f"--{flag(name)} is read by {' or '.join(asked)} alone, not by --{other} {getattr(config, other)}"
        )
    return problems


def without_unread(config: TrainConfig) -> TrainConfig:
    """The same with the defaults of what is not read: for one method of many that share their options."""
    defaults = _defaults()
    return dataclasses.replace(config, **{name: defaults[name] for name in unread(config)})


def _defaults() -> dict[str, Any]:
    return {field.name: field.default for field in dataclasses.fields(TrainConfig)}


def _readers() -> dict[str, dict[str, list[str]]]:
    """For each option that some methods alone read, their names by the option that asks for them."""
    found: dict[str, dict[str, list[str]]] = {}
    for option, registry in REGISTRIES.items():
        for name, method in registry.items():
            for read in method.reads:
                found.setdefault(read, {}).setdefault(option, []).append(name)
    return found
