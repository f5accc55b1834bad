"""The command that makes a checkpoint again, from the options that its manifest keeps."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from typing import Any

from contrastok.config import TrainConfig, as_json
from contrastok.options import flag


def train_command(options: Mapping[str, Any]) -> str:
    """The `contrastok train` command of a run; empty where the manifest tells nothing of it.

    Only what differs from the defaults is said, and options that this version does not know are left out.

    Args:
        options: `training.options` of the manifest.
    """
    if not options:
        return ""
    usual = as_json(TrainConfig())
    kinds = {field.name for field in dataclasses.fields(TrainConfig)}
    parts = [
        _option(name, value)
        for name, value in options.items()
        if name in kinds and value != usual[name] and value != []
    ]
    return " ".join(["contrastok train", *parts, "--out model/"])


def _option(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"--{flag(name)}" if value else f"--no-{flag(name)}"
    values = value if isinstance(value, list) else [value]
    return " ".join([f"--{flag(name)}", *(shlex.quote(str(item)) for item in values)])
