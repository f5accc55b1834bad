"""The commands that make a checkpoint again, from the options that its manifest keeps."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from contrastok.config import COMMANDS, as_json
from contrastok.options import flag


def commands_again(training: Mapping[str, Any]) -> str:
    """The `contrastok gen-pairs` and `contrastok train` commands of a run, one a line.

    What the manifest does not tell is left out: pairs may be of another program, and older manifests do not say how
    theirs were made.

    Args:
        training: of the manifest.
    """
    options, making = training.get("options", {}), training.get("gen_pairs", {})
    pairs = PurePath(options.get("pairs") or "pairs")
    folder = pairs.parent if pairs.suffix == ".parquet" else pairs  # train takes either
    return "\n".join(filter(None, [command("gen-pairs", making, str(folder)), command("train", options, "model/")]))


def command(name: str, options: Mapping[str, Any], out: str) -> str:
    """A command with what differs from its defaults; empty where nothing is known of its options.

    Options that this version does not know are left out.

    Args:
        name: "train" or "gen-pairs".
        options: by name, as `as_json` gives them.
        out: where it writes.
    """
    if not options:
        return ""
    kind = COMMANDS[name]
    usual = as_json(kind())
    known = {field.name for field in dataclasses.fields(kind)} & usual.keys()
    told = {key: value for key, value in options.items() if key in known and value != usual[key] and value != []}
    parts = [_option(key, value) for key, value in told.items()]
    return " ".join([f"contrastok {name}", *parts, f"--out {shlex.quote(out)}"])


def _option(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"--{flag(name)}" if value else f"--no-{flag(name)}"
    values = value if isinstance(value, list) else [value]
    return " ".join([f"--{flag(name)}", *(shlex.quote(str(item)) for item in values)])
