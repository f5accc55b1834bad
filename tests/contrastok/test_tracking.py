from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import accelerate.tracking
import pytest

from contrastok.config import TrainConfig
from contrastok.errors import ConfigError
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
        self.settings = values

    def log(self, values: dict[str, float], step: int | None = None, **_: Any) -> None:
        assert step is not None
        self.logged.append((step, values))

    def finish(self) -> None:
        self.finished = True


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Notebook]]:
    """Accelerate takes the notebook for TensorBoard."""
    from accelerate.utils import LoggerType

    monkeypatch.setitem(accelerate.tracking.LOGGER_TYPE_TO_CLASS, "tensorboard", Notebook)
    monkeypatch.setattr("accelerate.accelerator.LOGGER_TYPE_TO_CLASS", accelerate.tracking.LOGGER_TYPE_TO_CLASS)
    monkeypatch.setattr("accelerate.tracking._available_trackers", [LoggerType.TENSORBOARD])
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
