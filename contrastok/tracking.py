"""Training curves in the user's own tracker, by the classes that Accelerate has for them."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from contrastok.config import TrainConfig, as_json
from contrastok.console import Console
from contrastok.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from accelerate import Accelerator
    from accelerate.tracking import GeneralTracker

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
def followed(accelerator: Accelerator, config: TrainConfig, console: Console) -> Iterator[Follow | None]:
    """Start the trackers of a run, yield what passes points of its curve on to them, and close them in any case.

    A tracker that fails later on is told of, and the run goes on without it: it is worth more than its curve.

    Yields:
        None where no tracker was asked for.

    Raises:
        ConfigError: a tracker does not start; says what it said. Those that had started are closed.
    """
    if not config.report_to:
        yield None
        return
    assert config.out is not None
    _start(accelerator, config)
    where = log_folder(config.out)
    files = f"; files that they write beside the checkpoint: {escape(str(where))}" if where.exists() else ""
    console.print(f"Training curves go to {', '.join(config.report_to)}{files}")
    listening = list(accelerator.trackers)

    def ask(tracker: GeneralTracker, act: Callable[[], object]) -> None:
        try:
            with _aside(config.quiet):
                act()
        except Exception as error:  # each tracker has errors of its own: no network, a full disk
            said = escape(f"{type(error).__name__}: {error}")
            console.print(f"[yellow]note:[/] --report-to {tracker.name} failed, its curve is not whole: {said}")
            if tracker in listening:
                listening.remove(tracker)

    def follow(points: Sequence[CurvePoint]) -> None:
        for point in points:
            figures = {f"train/{name}": value for name, value in asdict(point).items() if name != "step"}
            for tracker in tuple(listening):
                ask(tracker, partial(tracker.log, figures, step=point.step))

    try:
        yield follow
    finally:
        for tracker in accelerator.trackers:
            ask(tracker, partial(_close, tracker))


def _start(accelerator: Accelerator, config: TrainConfig) -> None:
    """Start all trackers, or leave nothing of any."""
    assert config.out is not None
    folder = log_folder(config.out)
    with contextlib.ExitStack() as undo:
        if not folder.exists():
            undo.callback(shutil.rmtree, folder, ignore_errors=True)
        undo.callback(_close_all, accelerator, config.quiet)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            told = {name: _plain(value) for name, value in as_json(config).items()}
            with _aside(config.quiet):
                accelerator.init_trackers(PROJECT, config=told, init_kwargs=_options(config, folder))
        except Exception as error:  # each tracker has errors of its own: no login, no network, a folder it cannot write
            raise ConfigError(
                f"--report-to {' '.join(config.report_to)} does not start: {error}",
                hint="set the tracker up as its documentation says, or leave --report-to out",
            ) from error
        undo.pop_all()
    with contextlib.suppress(OSError):  # there are files in it
        folder.rmdir()


def _options(config: TrainConfig, folder: Path) -> dict[str, dict[str, Any]]:
    """What some trackers are told of a run: its name, and where files go."""
    assert config.out is not None
    return {
        "tensorboard": {"purge_step": 1},  # a run in the same folder has the whole curve anew, even one that is resumed
        "wandb": {
            "name": config.out.name,
            "dir": os.environ.get("WANDB_DIR", str(folder)),
            "settings": {"silent": config.quiet},
        },
        "trackio": {"name": config.out.name},
    }


def _close_all(accelerator: Accelerator, quiet: bool) -> None:
    for tracker in accelerator.trackers:
        with contextlib.suppress(Exception), _aside(quiet):  # some have not started
            _close(tracker)


def _close(tracker: GeneralTracker) -> None:
    if tracker.name == "trackio":  # Accelerate's way leaves it to be ended again at exit, on standard output
        import trackio

        trackio.finish()
    else:
        tracker.finish()


@contextlib.contextmanager
def _aside(quiet: bool) -> Iterator[None]:
    """What trackers print goes where all messages go: standard output is for data."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere if quiet else sys.stderr):
        yield


def _plain(value: Any) -> str | int | float | bool:
    """An option as every tracker takes it."""
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "default" if value is None else value  # type: ignore[no-any-return]
