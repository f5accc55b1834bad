from __future__ import annotations

import shlex
from pathlib import Path

from contrastok.cli import parse
from contrastok.config import TrainConfig, as_json
from contrastok.eval.reproduce import train_command


def test_the_command_gives_the_same_options_back() -> None:
    config = TrainConfig(
        terms=(Path("a b.jsonl"), Path("c.csv")), pairs=Path("pairs"), seed=3, learning_rate=1e-4, strict=True,
        compile=True, objective="simcse", epochs=1,
    )  # fmt: skip
    command = train_command(as_json(config))
    assert "--batch-size" not in command
    _, *arguments = shlex.split(command)
    assert as_json(parse(arguments)) == as_json(config)


def test_without_options_there_is_no_command_and_unknown_ones_are_left_out() -> None:
    assert train_command({}) == ""
    assert train_command({"seed": 1, "of_another_version": 2}) == "contrastok train --seed 1 --out model/"
