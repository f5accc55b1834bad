"""One set of frozen dataclasses for the Python API, the flags and the TOML file.

Each command has one configuration. A TOML file may hold a table for each command ([gen-pairs], [train],
[report], [apply]) and keys at the top that serve every command that has them:

    model = "minilm"
    terms = "terms.jsonl"
    [gen-pairs]
    corpus = ["corpus/"]
    [train]
    epochs = 4

Nothing here imports torch: `contrastok --help` must answer at once.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro

from contrastok.errors import ConfigError, InputError, did_you_mean, raise_all

TokenMode = Literal["auto", "added", "vocab"]


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
        raise_all(ConfigError, self.problems(), hint=f"see contrastok {command_name(type(self))} --help")


@dataclass(frozen=True, kw_only=True)
class VocabularyOptions:
    """How terms become tokens; the same for gen-pairs and train, so that both plan the same tokens."""

    token_mode: TokenMode = "auto"
    """added: AddedToken entries, which change no text without the term (what auto takes, for every family).
    vocab: entries of the tokenizer's own model, for runtimes that ignore AddedToken's rules."""
    strict: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Refuse to go on when a term cannot be added, instead of naming it and leaving it out."""


@dataclass(frozen=True, kw_only=True)
class GenPairsConfig(VocabularyOptions, Common):
    """Find evidence for each term and write contrastive training pairs.

    Example: contrastok gen-pairs --terms terms.jsonl --corpus corpus/ --out pairs/
    """

    terms: tuple[Path, ...] = ()
    """Words to teach: .jsonl, .csv, .obo, or a word list (.txt). Several files are merged."""
    corpus: tuple[str, ...] = ()
    """Text: .txt, .jsonl, .csv, .parquet, each also .gz, a folder of them, or the name of a dataset."""
    glossary: tuple[Path, ...] = ()
    """Where to look up what the terms lack (definition, synonyms, broader): term files or a WordNet folder."""
    model: str = "minilm"
    """Local folder, hub name, or minilm for the packaged all-MiniLM-L6-v2."""
    out: Path | None = None
    """Folder for pairs.parquet and pairs.json."""
    text_field: str = "text"
    """Field of .jsonl, .csv, .parquet and datasets that holds the text."""
    split: str = "train"
    """Split, where --corpus names a dataset."""
    kinds: tuple[str, ...] = ()
    """Pair kinds to build; all when empty."""
    max_sentences: int = 32
    """Sentences kept for each term, drawn by reservoir sampling."""
    min_sentences: int = 4
    """Terms with fewer sentences also get pairs from definition templates, and are named in the table."""
    min_words: int = 4
    """Shorter sentences are dropped."""
    max_words: int = 80
    """Longer sentences are cut to a window of this many words around the term."""
    negatives: int = 4
    """Hard negatives for each pair."""
    hold_out: float = 0.25
    """Share of each term's synonyms, broader and related names kept out of the pairs, for an honest report."""

    def problems(self) -> list[str]:
        """Everything that is wrong with these options, one sentence each."""
        found = super().problems()
        found += _missing(self, "terms", "corpus", "out")
        found += [
            f"--{_flag(name)} must be at least {low}, not {getattr(self, name)}"
            for name, low in (("max_sentences", 1), ("min_sentences", 0), ("min_words", 1), ("negatives", 0))
            if getattr(self, name) < low
        ]
        if self.max_words < max(self.min_words, 8):
            found.append(f"--max-words must be at least 8 and at least --min-words, not {self.max_words}")
        if not 0 <= self.hold_out <= 1:
            found.append(f"--hold-out is a share between 0 and 1, not {self.hold_out}")
        from contrastok.data_gen.pair_kinds import unknown_kinds

        found += unknown_kinds(self.kinds)
        return found


@dataclass(frozen=True, kw_only=True)
class TrainConfig(VocabularyOptions, Common):
    """Add the tokens, train only their rows, write a checkpoint that stock libraries load.

    Example: contrastok train --terms terms.jsonl --pairs pairs/ --out model/
    """

    terms: tuple[Path, ...] = ()
    """Words to teach, as given to gen-pairs."""
    pairs: Path | None = None
    """Folder (or .parquet file) that gen-pairs wrote."""
    model: str = "minilm"
    """Local folder, hub name, or minilm for the packaged all-MiniLM-L6-v2."""
    out: Path | None = None
    """Folder for the checkpoint."""
    init: str = "charlen_mean"
    """Initialiser of the rows: subtoken_mean or charlen_mean."""
    epochs: int = 6
    """Passes over the pairs."""
    batch_size: int = 32
    """Anchors a step."""
    gradient_accumulation: int = 1
    """Batches a step of the optimiser."""
    learning_rate: float | None = None
    """Adam's step. Default: 0.06 x the per-coordinate standard deviation of the embedding table."""
    temperature: float = 0.05
    """InfoNCE temperature: cosines are divided by it."""
    contrast_weight: float = 1.0
    """Weight of InfoNCE."""
    distill_weight: float = 5.0
    """Weight of the anchor: 1 - cosine to the frozen model's embedding of the original tokens."""
    bank_size: int = 16384
    """Frozen keys that each anchor is contrasted against in a step (all of them when there are fewer)."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the frozen body; rows, losses and optimiser stay fp32."""
    device: Literal["auto", "cpu"] = "auto"
    """auto takes a GPU when there is one."""
    checkpoint_every: int = 25
    """Optimiser steps between two saved states; a killed run resumes from the last one."""

    def problems(self) -> list[str]:
        """Everything that is wrong with these options, one sentence each."""
        found = super().problems()
        found += _missing(self, "terms", "pairs", "out")
        found += [
            f"--{_flag(name)} must be at least {low}, not {getattr(self, name)}"
            for name, low in (
                ("epochs", 0),
                ("batch_size", 1),
                ("gradient_accumulation", 1),
                ("bank_size", 1),
                ("checkpoint_every", 1),
                ("contrast_weight", 0),
                ("distill_weight", 0),
            )
            if getattr(self, name) < low
        ]
        for name in ("contrast_weight", "distill_weight"):
            if not math.isfinite(getattr(self, name)):
                found.append(f"--{_flag(name)} must be finite, not {getattr(self, name)}")
        if not 1e-3 <= self.temperature <= 100:
            found.append(f"--temperature must be between 0.001 and 100, not {self.temperature}")
        if self.learning_rate is not None and not 0 < self.learning_rate <= 10:
            found.append(f"--learning-rate must be above 0 and at most 10, not {self.learning_rate}")
        from contrastok.initializers import INITIALIZERS

        if self.init not in INITIALIZERS:
            found.append(f"--init {self.init} is no initialiser: {did_you_mean(self.init, INITIALIZERS)}")
        return found


@dataclass(frozen=True, kw_only=True)
class ReportConfig(Common):
    """Show where each new token landed: nearest neighbours before and after training.

    Example: contrastok report --model model/ --out report.html
    """

    model: Path | None = None
    """Checkpoint folder that contrastok train wrote."""
    out: Path | None = None
    """HTML page to write. Without it only the table is printed."""
    neighbors: int = 10
    """Neighbours shown for each token."""

    def problems(self) -> list[str]:
        """Everything that is wrong with these options, one sentence each."""
        found = super().problems() + _missing(self, "model")
        if not 1 <= self.neighbors <= 100:
            found.append(f"--neighbors must be between 1 and 100, not {self.neighbors}")
        return found


@dataclass(frozen=True, kw_only=True)
class ApplyConfig(Common):
    """Rebuild a checkpoint from a base model and the compact file of its new rows.

    Example: contrastok apply model/new_rows.safetensors --model minilm --out rebuilt/
    """

    rows: Annotated[Path | None, tyro.conf.Positional] = None
    """The new_rows.safetensors of a checkpoint."""
    model: str = "minilm"
    """The base model that the rows were trained for."""
    out: Path | None = None
    """Folder for the checkpoint."""

    def problems(self) -> list[str]:
        """Everything that is wrong with these options, one sentence each."""
        return super().problems() + _missing(self, "rows", "out")


COMMANDS: dict[str, type[Common]] = {
    "gen-pairs": GenPairsConfig,
    "train": TrainConfig,
    "report": ReportConfig,
    "apply": ApplyConfig,
}

C = TypeVar("C", bound=Common)


def command_name(kind: type[Common]) -> str:
    """The command whose configuration this is."""
    return next((name for name, known in COMMANDS.items() if known is kind), "")


def from_toml(kind: type[C], path: Path) -> C:
    """Read a command's configuration from a TOML file.

    Args:
        kind: the dataclass of the command.
        path: the file. Top-level keys serve every command; the command's own table goes before them.

    Raises:
        InputError: the file is missing or is no TOML.
        ConfigError: lists every key that is unknown or of the wrong type.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("no such file", where=path, hint="--config names a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, IsADirectoryError) as error:
        raise InputError(f"is no TOML file: {error}", where=path) from None
    command = command_name(kind)
    tables = {key: value for key, value in document.items() if isinstance(value, dict)}
    shared = {key: value for key, value in document.items() if key not in tables}
    known_anywhere = {_flag(f.name) for c in COMMANDS.values() for f in dataclasses.fields(c)}
    problems = [f"[{name}] is no command: {did_you_mean(name, COMMANDS)}" for name in tables if name not in COMMANDS]
    problems += [
        f"{key} is no option: {did_you_mean(key, known_anywhere)}" for key in shared if _flag(key) not in known_anywhere
    ]
    fields = {f.name: f for f in dataclasses.fields(kind)}
    own = tables.get(command, {})
    problems += [
        f"[{command}] {key} is no option: {did_you_mean(_flag(key), map(_flag, fields))}"
        for key in own
        if _name(key) not in fields
    ]
    merged = {_name(key): value for source in (shared, own) for key, value in source.items() if _name(key) in fields}
    hints = typing.get_type_hints(kind)
    values = {}
    for name, value in merged.items():
        try:
            values[name] = _convert(value, hints[name])
        except TypeError as error:
            problems.append(f"{_flag(name)} = {value!r}: {error}")
    raise_all(ConfigError, [f"{path}: {problem}" for problem in problems])
    return kind(**values)


def _convert(value: Any, hint: Any) -> Any:
    """A TOML value as the type a field wants; TypeError says what was expected."""
    options = typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        values = value if isinstance(value, list) else [value]
        return tuple(_convert(item, options[0]) for item in values)
    if typing.get_origin(hint) is Literal:
        if value not in options:
            raise TypeError(f"expected one of {', '.join(map(repr, options))}")
        return value
    if options:  # X | None
        return _convert(value, options[0])
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, bool) is not (hint is bool) or not isinstance(value, hint):
        raise TypeError(f"expected {'text' if hint in (str, Path) else hint.__name__}")
    return value


def _missing(config: Common, *names: str) -> list[str]:
    return [f"--{_flag(name)} is missing" for name in names if not getattr(config, name)]


def _flag(name: str) -> str:
    return name.replace("_", "-")


def _name(key: str) -> str:
    return key.replace("-", "_")


def as_json(config: Common) -> dict[str, Any]:
    """The options that decide a result, as plain JSON values (paths as text; how it was shown left out)."""
    shown = {"config", "dry_run", "overwrite", "quiet", "json", "out"}
    return {f.name: _plain(getattr(config, f.name)) for f in dataclasses.fields(config) if f.name not in shown}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
