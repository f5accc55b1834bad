from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import accelerate.tracking
import pytest

from contrastok.config import TrainConfig
from contrastok.errors import ConfigError
from contrastok.loop import Loop
from contrastok.tracking import PROJECT, log_folder
from contrastok.trainer import train

Make = Callable[..., TrainConfig]


class Notebook(accelerate.tracking.GeneralTracker):
    """A tracker that remembers."""

    name = "tensorboard"
    requires_logging_directory = True
    made: ClassVar[list[Notebook]] = []

    def __init__(self, run_name: str, logging_dir: Any, **_: Any) -> None:
        super().__init__()
        self.run_name, self.folder, self.finished = run_name, logging_dir, False
        self.settings: dict[str, Any] = {}
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.made.append(self)

    @property
    def tracker(self) -> Notebook:
        return self

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        sys.stdout.write("a tracker says what it likes")
        self.settings = values

    def log(self, values: dict[str, float], step: int | None = None, **_: Any) -> None:
        assert step is not None
        self.logged.append((step, values))

    def finish(self) -> None:
        self.finished = True


def tensorboard_curve(config: TrainConfig, name: str) -> list[tuple[int, float]]:
    """What TensorBoard shows of a run: steps, and a figure of each."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert config.out is not None
    events = EventAccumulator(str(log_folder(config.out) / PROJECT)).Reload()
    return [(event.step, event.value) for event in events.Scalars(f"train/{name}")]


def manifest_curve(config: TrainConfig, name: str) -> list[tuple[int, float]]:
    assert config.out is not None
    training = json.loads((config.out / "contrastok.json").read_text())["training"]
    return [(point["step"], pytest.approx(point[name], abs=1e-5)) for point in training["curve"]]


def stopped_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the step after so many."""
    step = Loop.step

    def stopping(self: Loop, number: int, batches: Any) -> Any:
        if number == steps:
            raise KeyboardInterrupt
        return step(self, number, batches)

    monkeypatch.setattr(Loop, "step", stopping)


def test_tensorboard_shows_the_curve_of_the_last_run_alone(make_config: Make) -> None:
    config = make_config(report_to=("tensorboard",), epochs=2)
    train(config)
    first = tensorboard_curve(config, "loss")
    assert len(first) > 1 and first == manifest_curve(config, "loss")
    assert tensorboard_curve(config, "accuracy") == manifest_curve(config, "accuracy")
    again = dataclasses.replace(config, seed=5, epochs=1, overwrite=True)
    train(again)
    assert tensorboard_curve(again, "loss") == manifest_curve(again, "loss") != first


def test_tensorboard_has_the_whole_curve_of_a_run_that_was_killed(
    make_config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(report_to=("tensorboard",), epochs=2, checkpoint_every=2)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stopped_after(3, patch)
        train(config)
    assert [step for step, _ in tensorboard_curve(config, "loss")] == [1, 2, 3]
    train(config)
    assert tensorboard_curve(config, "loss") == manifest_curve(config, "loss")


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Notebook]]:
    """Accelerate takes the notebook for TensorBoard."""
    from accelerate.utils import LoggerType

    monkeypatch.setitem(accelerate.tracking.LOGGER_TYPE_TO_CLASS, "tensorboard", Notebook)
    monkeypatch.setattr("accelerate.accelerator.LOGGER_TYPE_TO_CLASS", accelerate.tracking.LOGGER_TYPE_TO_CLASS)
    monkeypatch.setattr("accelerate.tracking._available_trackers", [LoggerType.TENSORBOARD, LoggerType.WANDB])
    Notebook.made.clear()
    yield Notebook


def test_a_tracker_gets_each_point_of_the_curve_once(make_config: Make, notebook: type[Notebook]) -> None:
    config = make_config(report_to=("tensorboard",), epochs=2, two_stage=True)
    assert config.out is not None
    train(config)
    manifest = json.loads((config.out / "contrastok.json").read_text())
    [made] = notebook.made
    assert made.run_name == PROJECT and made.folder == log_folder(config.out) and made.finished
    curve = manifest["training"]["curve"]
    assert [step for step, _ in made.logged] == [point["step"] for point in curve] == list(range(1, len(curve) + 1))
    for (_, logged), point in zip(made.logged, curve, strict=True):
        assert logged == {f"train/{name}": pytest.approx(v, abs=1e-5) for name, v in point.items() if name != "step"}
    assert made.settings["seed"] == config.seed and made.settings["learning_rate"] in (config.learning_rate, "default")
    assert all(isinstance(value, str | int | float | bool) for value in made.settings.values())
    assert "report_to" not in manifest["training"]["options"]


def test_a_tracker_is_closed_when_training_breaks(
    make_config: Make, notebook: type[Notebook], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("contrastok.trainer._train_rows", broken)
    with pytest.raises(KeyboardInterrupt):
        train(make_config(report_to=("tensorboard",)))
    assert notebook.made[0].finished


def test_a_resumed_run_tells_a_tracker_all_of_its_curve(
    make_config: Make, notebook: type[Notebook], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(report_to=("tensorboard",), epochs=2, checkpoint_every=2)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stopped_after(3, patch)
        train(config)
    train(config)
    first, second = ([step for step, _ in made.logged] for made in notebook.made)
    assert first == [1, 2, 3] and second == [step for step, _ in manifest_curve(config, "loss")]


@pytest.mark.parametrize("act", ["log", "finish"])
def test_a_run_is_not_lost_with_its_tracker(
    make_config: Make,
    notebook: type[Notebook],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    act: str,
) -> None:
    asked: list[Any] = []

    def broken(*values: Any, **_: Any) -> None:
        asked.append(values)
        raise OSError("no space left")

    monkeypatch.setattr(notebook, act, broken)
    config = make_config(report_to=("tensorboard",), quiet=False)
    train(config)
    assert config.out is not None and (config.out / "contrastok.json").is_file()
    assert len(asked) == 1  # of many points
    told = " ".join(capsys.readouterr().err.split())  # lines are broken at the width of the terminal
    assert "--report-to tensorboard failed" in told and "OSError: no space left" in told


def test_what_a_tracker_prints_is_no_data(
    make_config: Make, notebook: type[Notebook], capsys: pytest.CaptureFixture[str]
) -> None:
    train(make_config(report_to=("tensorboard",), quiet=False))
    assert "a tracker says what it likes" in (told := capsys.readouterr()).err and not told.out
    train(make_config(report_to=("tensorboard",), quiet=True))
    told = capsys.readouterr()
    assert "a tracker" not in told.err and not told.out


def test_trackers_that_had_started_are_closed_where_another_does_not(
    make_config: Make, notebook: type[Notebook], monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoLogin(Notebook):
        name = "wandb"
        requires_logging_directory = False

        def __init__(self, run_name: str, **options: Any) -> None:
            super().__init__(run_name, options["dir"])

        def start(self) -> None:
            Path(self.folder, "wandb").mkdir()
            raise RuntimeError("no login")

    monkeypatch.setitem(accelerate.tracking.LOGGER_TYPE_TO_CLASS, "wandb", NoLogin)
    config = make_config(report_to=("tensorboard", "wandb"))
    with pytest.raises(ConfigError, match="does not start: no login"):
        train(config)
    assert notebook.made[0].finished
    assert config.out is not None and not log_folder(config.out).exists() and not config.out.exists()


def test_a_tracker_that_does_not_start_is_told_before_any_work(
    make_config: Make, notebook: type[Notebook], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_login(*_: Any) -> None:
        raise RuntimeError("no login")

    monkeypatch.setattr(notebook, "start", no_login)
    monkeypatch.setattr("contrastok.trainer._train_rows", lambda *_: pytest.fail("began"))
    config = make_config(report_to=("tensorboard",))
    with pytest.raises(ConfigError, match="does not start: no login"):
        train(config)
    assert config.out is not None and not config.out.exists()


def test_names_and_missing_packages_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accelerate.tracking._available_trackers", [])
    with pytest.raises(ConfigError) as error:
        TrainConfig(report_to=("wandb", "tensorbord")).validate()
    assert "--report-to wandb needs the package wandb: pip install wandb" in str(error.value)
    assert "--report-to tensorbord is no tracker: did you mean 'tensorboard'?" in str(error.value)
