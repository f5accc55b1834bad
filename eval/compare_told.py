"""What an error of train says to somebody who called compare."""

from __future__ import annotations

import dataclasses
import re

from contrastok.config import TrainConfig
from contrastok.errors import ContrastokError
from contrastok.eval_config import CompareConfig
from contrastok.options import flag

TABLE = "[train] of the file that --config names"
"""Where compare takes the options of train from."""
_GIVE = re.compile(r"give --([a-z][a-z-]*) ([A-Z]+)\b")
_OPTION = re.compile(r"--([a-z][a-z-]*)")
_HELP = "see contrastok train"
"""So begins a hint that leads to options which compare has not."""


def in_compare(error: ContrastokError) -> str:
    """An error of train in one line; options of train are told as compare takes them.

    Args:
        error: that ended a run of train.

    Returns:
        What is wrong, and what to do: `give --init-model FOLDER` becomes `give init-model = "FOLDER" under [train]
        of the file that --config names`.
    """
    of_help = error.hint.startswith(_HELP)
    place = f"{error.where}: " if error.where is not None else ""
    text = "; ".join(filter(None, (place + _one_line(error.what), "" if of_help else _one_line(error.hint))))
    text, given = _GIVE.subn(rf'give \1 = "\2" under {TABLE}', text)
    if given or not (of_help or set(_OPTION.findall(error.hint)) & _of_train_alone()):
        return text
    return f"{text} (compare takes options of train from {TABLE})"


def _one_line(text: str) -> str:
    """Lines joined; those of a list of problems by semicolons."""
    head, *points = (line.strip().removeprefix("- ") for line in text.splitlines() or [""])
    return f"{head} {'; '.join(points)}".strip()


def _of_train_alone() -> set[str]:
    """Options of train that compare has not."""
    train, compare = ({flag(f.name) for f in dataclasses.fields(kind)} for kind in (TrainConfig, CompareConfig))
    return train - compare
