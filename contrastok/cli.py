"""The command line: options in, one function called, errors told in a sentence. No heavy import stands here."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import tyro
from tyro import MISSING_NONPROP

from contrastok.config import COMMANDS, GROUPS
from contrastok.config_file import from_toml
from contrastok.errors import ConfigError, ContrastokError, did_you_mean
from contrastok.options import Common, flags
from contrastok.visible import LAYOUT, visible

RUNNERS = {
    "suggest": ("contrastok.data_gen.suggest.command", "suggest"),
    "doctor": ("contrastok.doctor.command", "doctor"),
    "gen-pairs": ("contrastok.data_gen.pipeline", "gen_pairs"),
    "train": ("contrastok.trainer", "train"),
    "report": ("contrastok.eval.report", "report"),
    "apply": ("contrastok.export", "apply"),
    "export": ("contrastok.exchange", "export_adapter"),
    "import": ("contrastok.exchange", "import_adapter"),
    "methods": ("contrastok.methods", "methods"),
    "train-hypernet": ("contrastok.hypernet.command", "train_hypernet"),
    "transfer": ("contrastok.transfer", "transfer"),
    "eval recovery": ("contrastok.eval.recovery", "recovery"),
    "eval relatedness": ("contrastok.eval.relatedness", "relatedness"),
    "eval retrieval": ("contrastok.eval.retrieval", "retrieval"),
    "eval no-harm": ("contrastok.eval.no_harm", "no_harm"),
    "eval generation": ("contrastok.eval.generation", "generation"),
    "compare": ("contrastok.eval.compare", "compare"),
}
"""Where the function of each command lies; imported when it is called."""

GO_ON = ("gen-pairs", "train", "train-hypernet", "compare")
"""Commands that keep what they had done when they are stopped."""

OF_OTHERS = ("doctor", "eval recovery", "compare")
"""Commands that read the tables [gen-pairs] and [train] of --config."""

OVER_RANKS = ("train",)
"""Commands that a launcher may start several times at once; rank 0 writes."""

DESCRIPTION = """Teach a pretrained encoder new words: add tokens, train only their rows, prove where they landed.

Example: contrastok gen-pairs --terms terms.jsonl --corpus corpus/ --out pairs/
         contrastok train     --terms terms.jsonl --pairs pairs/  --out model/
         contrastok report    --model model/ --out report.html"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        0 when done, 2 for a problem the user can mend, 130 when interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given in (["--version"], ["-V"]):
        from contrastok import __version__

        sys.stdout.write(f"contrastok {__version__}\n")
        return 0
    command = ""
    try:
        config = parse(given)
        command = next(name for name, kind in COMMANDS.items() if isinstance(config, kind))
        with _guarded(command, config):
            _runner(command)(config)
    except ContrastokError as error:
        sys.stderr.write(f"contrastok: {visible(str(error), keep=LAYOUT)}\n")
        return 2
    except KeyboardInterrupt:
        kept = "; what it had done is kept, the same command goes on from there" if command in GO_ON else ""
        sys.stderr.write(f"contrastok: interrupted{kept}\n")
        return 130
    return 0


def parse(arguments: Sequence[str]) -> Common:
    """The configuration that the arguments, and the TOML file they may name, describe.

    Raises:
        ContrastokError: the TOML file is unusable.
        SystemExit: tyro printed a help text (0) or what is wrong with the flags (2).
    """
    command = " ".join(arguments[:2]) if arguments and arguments[0] in GROUPS else " ".join(arguments[:1])
    if command in COMMANDS:  # on its own: beside others, tyro's advice on a misspelled option names theirs
        kind, file = COMMANDS[command], _config_file(arguments)
        default = MISSING_NONPROP if file is None else from_toml(kind, file)
        given, no_none = arguments[len(command.split()) :], (tyro.conf.DisallowNone,)
        with _elsewhere(command, given):
            return tyro.cli(kind, args=given, default=default, prog=f"contrastok {command}", config=no_none)
    return _subcommand(arguments)


@contextmanager
def _elsewhere(command: str, arguments: Sequence[str]) -> Iterator[None]:
    """Inside, tyro's complaint about an option is followed by the commands that have it."""
    try:
        yield
    except SystemExit as stop:
        given = [argument.partition("=")[0] for argument in arguments if argument.startswith("--")] if stop.code else []
        for option in dict.fromkeys(given):
            owners = [name for name, kind in COMMANDS.items() if option.removeprefix("--") in flags(kind)]
            if not owners or command in owners:
                continue
            told = f"{option} is an option of {', '.join(owners)}, not of {command}"
            table = next((name for name in ("train", "gen-pairs") if name in owners), "")
            if command in OF_OTHERS and table:
                told += f"; set it under [{table}] in the file of --config"
            sys.stderr.write(f"  -> {told}\n")
        raise


def _subcommand(arguments: Sequence[str]) -> Common:
    """Help where the arguments name a group or nothing.

    Raises:
        ConfigError: there is no such command; says which is closest.
    """
    group = arguments[0] if arguments and arguments[0] in GROUPS else ""
    rest = list(arguments[1:] if group else arguments)
    kinds = _members(group)
    if rest and not rest[0].startswith("-") and rest[0] not in kinds:
        hint = f"{did_you_mean(rest[0], kinds)} (see {f'contrastok {group}'.strip()} --help)"
        raise ConfigError(f"{f'{group} {rest[0]}'.strip()!r} is no command", hint=hint)
    return tyro.extras.subcommand_cli_from_dict(  # type: ignore[no-any-return]
        kinds,
        args=rest,
        prog=f"contrastok {group}".strip(),
        description=GROUPS[group] if group else DESCRIPTION,
    )


def _members(group: str) -> dict[str, Callable[..., Any]]:
    """What may follow a group's name; with "": the commands of one word and the groups."""
    if group:
        return {name.split()[1]: kind for name, kind in COMMANDS.items() if name.startswith(f"{group} ")}
    single = {name: kind for name, kind in COMMANDS.items() if " " not in name}
    return {**single, **{name: _described(text.splitlines()[0]) for name, text in GROUPS.items()}}


def _described(text: str) -> Callable[[], None]:
    """Stands for a group in the list of commands; never called, for a group's name leads to its own parser."""

    def group() -> None: ...

    group.__doc__ = text
    return group


def _config_file(arguments: Sequence[str]) -> Path | None:
    for i, argument in enumerate(arguments):
        if argument == "--config" and i + 1 < len(arguments):
            return Path(arguments[i + 1])
        if argument.startswith("--config="):
            return Path(argument.partition("=")[2])
    return None


@contextmanager
def _guarded(command: str, config: Common) -> Iterator[None]:
    """Inside, no other run writes the output of a command, and code of models runs only if that was asked for."""
    from contrastok.lock import only_run
    from contrastok.models import trusting
    from contrastok.ranks import follows

    out = getattr(config, "out", None)
    led = command in OVER_RANKS and follows()
    held = nullcontext() if out is None or config.dry_run or led else only_run(out)
    with held, trusting(config.trust_remote_code):
        yield


def _runner(command: str) -> Callable[[Any], Any]:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    from contrastok.console import hush_libraries

    module, name = RUNNERS[command]
    loaded = import_module(module)
    hush_libraries()
    return getattr(loaded, name)  # type: ignore[no-any-return]
