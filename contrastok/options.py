"""Options that commands share. The configurations of the commands build on them: config.py, and eval_config.py."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import tyro

from contrastok.errors import ConfigError, raise_all
from contrastok.files import spare

OUTPUTS = ("out", "work", "json", "csv", "plot")
"""Options that name what a command writes. Every other path is one that it reads."""

SOURCES = ("corpus", "texts", "model", "base", "tokenizer", "init_model", "wordnet")
"""Options that name a file, a folder, or what is no path: a model of a hub, a dataset."""

TokenMode = Literal["auto", "added", "vocab", "spaced"]


@dataclass(frozen=True, kw_only=True)
class Common:
    """Options of every command."""

    config: Path | None = None
    """TOML file with a table for each command; flags override it."""
    seed: int = 0
    """Seed of everything that is drawn."""
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show the plan (tokens, counts, time, memory) and write nothing."""
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Replace an output that exists."""
    quiet: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """No tables and no progress bars; errors are still printed."""
    trust_remote_code: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Run Python code that comes with a model. It can do whatever you can: read it first."""
    json: Path | None = None
    """Write the summary as JSON to this file ("-": standard output)."""

    def problems(self) -> list[str]:
        """Everything that is wrong with these options, one sentence each."""
        return [] if 0 <= self.seed < 2**32 else [f"--seed must be between 0 and {2**32 - 1}, not {self.seed}"]

    def validate(self) -> None:
        """Check every option at once, and that no output would replace an input.

        Raises:
            ConfigError: lists every problem, not only the first.
            OutputError: names the option and the input.
        """
        from contrastok.config import command_name

        raise_all(ConfigError, self.problems(), hint=f"see contrastok {command_name(type(self))} --help")
        for name in OUTPUTS:
            path = getattr(self, name, None)
            if path is not None and str(path) != "-":
                spare(path, self.inputs, f"--{name}")

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Every file and folder that the options name to be read; what does not exist is left out."""
        named: list[Path] = []
        for name in (f.name for f in fields(self) if f.name not in OUTPUTS):
            value = getattr(self, name)
            each = value if isinstance(value, tuple) else (value,)
            named += [Path(v) for v in each if isinstance(v, Path) or (name in SOURCES and isinstance(v, str))]
        return tuple(path for path in named if os.path.exists(path))


@dataclass(frozen=True, kw_only=True)
class VocabularyOptions:
    """How terms become tokens; the same for gen-pairs and train, so that both plan the same tokens."""

    token_mode: TokenMode = "auto"
    """added: AddedToken entries, which change no text without the term (what auto takes, for every family).
    vocab: entries of the tokenizer's own model, for runtimes that ignore AddedToken's rules. spaced (byte-level BPE):
    AddedToken entries with the space before them and without, which decoding writes as they were read."""
    strict: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Refuse to go on when a term cannot be added, instead of naming it and leaving it out."""


def missing(config: Common, *names: str) -> list[str]:
    """A problem for each of these options that was not given."""
    return [f"--{flag(name)} is missing" for name in names if not getattr(config, name)]


def flags(kind: type[Common]) -> set[str]:
    """The options of a command, as they are written behind "--"."""
    return {flag(f.name) for f in fields(kind)}


def flag(name: str) -> str:
    """A field's name as an option is written."""
    return name.replace("_", "-")
