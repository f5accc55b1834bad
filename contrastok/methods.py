"""The command `methods`: what may be chosen by name, from the registries themselves."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol

from rich.markup import escape
from rich.table import Table

from contrastok.config import MethodsConfig
from contrastok.console import Console, emit_json
from contrastok.files import check_json
from contrastok.initializers.context import NEEDS


class Method(Protocol):
    """What a registry's entries say of themselves."""

    @property
    def name(self) -> str:
        """What its option calls it."""

    @property
    def summary(self) -> str:
        """One line."""

    @property
    def source(self) -> str:
        """Where it comes from."""


REGISTRIES = {
    "init": ("contrastok.initializers", "INITIALIZERS"),
    "objective": ("contrastok.objectives", "OBJECTIVES"),
    "trainable": ("contrastok.trainables", "TRAINABLES"),
}
"""For each option of train that takes a method's name: the registry (a mapping from name to `Method`), by module and
attribute. A new registry needs a line here and no more."""


def methods(config: MethodsConfig) -> dict[str, Any]:
    """List every method of every registry.

    Returns:
        for each option the methods it takes: name, summary, source and needs.

    Raises:
        ConfigError: see `MethodsConfig.validate`.
        OutputError: the file of --json exists already, and --overwrite was not given.
    """
    config.validate()
    check_json(config.json, config.overwrite, config.inputs)
    console = Console(config.quiet)
    listed = {option: _entries(*place) for option, place in REGISTRIES.items()}
    for option, entries in listed.items():
        console.print(_table(option, entries))
    emit_json(listed, config.json)
    return listed


def _entries(module: str, attribute: str) -> list[dict[str, Any]]:
    registry: Mapping[str, Method] = getattr(import_module(module), attribute)
    return [
        {
            "name": method.name,
            "summary": method.summary,
            "source": method.source,
            "needs": list(getattr(method, "needs", ())),
        }
        for method in sorted(registry.values(), key=lambda method: method.name)
    ]


def _table(option: str, entries: list[dict[str, Any]]) -> Table:
    table = Table(title=f"train --{option}", title_justify="left")
    for heading in ("name", "what it does", "source", "needs"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "name")
    for entry in entries:
        needs = "; ".join(NEEDS[need].what if need in NEEDS else need for need in entry["needs"]) or "nothing"
        table.add_row(*map(escape, (entry["name"], entry["summary"], entry["source"], needs)))
    return table
