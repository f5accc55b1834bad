"""Training curves in the user's own tracker, by the classes that Accelerate has for them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contrastok.config import TrainConfig, as_json
from contrastok.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from accelerate import Accelerator

    from contrastok.loop import CurvePoint

PROJECT = "contrastok"
"""What trackers call the project; the run's folder within `log_folder`."""

Follow = Callable[[Sequence["CurvePoint"]], None]
"""Gets each point of the curve once, as soon as its figures are known."""


def tracker_problems(names: Sequence[str]) -> list[str]:
    """What is wrong with `--report-to`, one sentence each."""
    if not names:
        return []
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    known, here = [str(name) for name in LOGGER_TYPE_TO_CLASS], {str(name) for name in get_available_trackers()}
    return [
        f"--report-to {name} needs the package {name}: pip install {name}"
        if name in known
        else f"--report-to {name} is no tracker: {did_you_mean(name, known)}"
        for name in names
        if name not in here
    ]


def log_folder(out: Path) -> Path:
    """Where trackers that write files keep them: beside the checkpoint, which appears whole at the end."""
    return out.absolute().with_name(f"{out.name}-logs")


@contextlib.contextmanager
def followed(accelerator: Accelerator, config: TrainConfig) -> Iterator[Follow | None]:
    """Start the trackers of a run, yield what passes points of its curve on to them, and close them in any case.

    Yields:
        None where no tracker was asked for.

    Raises:
        ConfigError: a tracker does not start; says what it said.
    """
    if not config.report_to:
        yield None
        return
    try:
        accelerator.init_trackers(PROJECT, config={name: _plain(value) for name, value in as_json(config).items()})
    except Exception as error:  # each tracker has errors of its own: no login, no network, a folder it cannot write
        raise ConfigError(
            f"--report-to {' '.join(config.report_to)} does not start: {error}",
            hint="set the tracker up as its documentation says, or leave --report-to out",
        ) from error

    def follow(points: Sequence[CurvePoint]) -> None:
        for point in points:
            figures = asdict(point)
            accelerator.log({f"train/{name}": value for name, value in figures.items() if name != "step"}, point.step)

    try:
        yield follow
    finally:
        for tracker in accelerator.trackers:
            tracker.finish()


def _plain(value: Any) -> str | int | float | bool:
    """An option as every tracker takes it."""
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "default" if value is None else value  # type: ignore[no-any-return]
