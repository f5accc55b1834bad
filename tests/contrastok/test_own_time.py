from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch

from contrastok.config import TrainConfig
from contrastok.own_time import timed
from contrastok.trainer import train


def test_time_in_which_others_had_the_processor_does_not_count() -> None:
    found, seconds = timed(lambda: time.sleep(0.5) or 7)
    assert found == 7 and seconds < 0.25
    assert timed(lambda: time.sleep(0.1), "cuda")[1] >= 0.1  # an accelerator works without the processor


def test_more_threads_make_work_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = {"wall": iter((0.0, 1.0)), "processor": iter((0.0, 4.0))}
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock["wall"]))
    monkeypatch.setattr(time, "process_time", lambda: next(clock["processor"]))
    assert timed(lambda: None)[1] == 1.0


def test_an_estimate_on_a_busy_machine_is_that_of_an_idle_one(
    make_config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others have the processor for five seconds in every encoding and in every step."""
    config = make_config(dry_run=True)
    wait: Callable[..., None] = lambda *_: jump.append(5.0)  # noqa: E731
    jump: list[float] = []
    wall = time.perf_counter
    monkeypatch.setattr(time, "perf_counter", lambda: wall() + sum(jump))
    for kind in (torch.nn.Linear, torch.nn.Embedding):
        monkeypatch.setattr(kind, "forward", _slowed(kind.forward, wait))
    summary = train(config)
    assert sum(jump) > 100 and 0 < summary["seconds"] < 60
    assert sum(summary["seconds_of"].values()) == pytest.approx(summary["seconds"], abs=0.3)


def _slowed(forward: Callable[..., torch.Tensor], wait: Callable[..., None]) -> Callable[..., torch.Tensor]:
    def slow(self: torch.nn.Module, *inputs: torch.Tensor) -> torch.Tensor:
        wait()
        return forward(self, *inputs)

    return slow
