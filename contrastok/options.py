"""Options that commands share. The configurations of the commands build on them: config.py, and eval_config.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from contrastok.errors import ConfigError, raise_all

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
        """Check every option at once.

        Raises:
            ConfigError: lists every problem, not only the first.
        """
        from contrastok.config import command_name

        raise_all(ConfigError, self.problems(), hint=f"see contrastok {command_name(type(self))} --help")


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


def flag(name: str) -> str:
    """A field's name as an option is written."""
    return name.replace("_", "-")
