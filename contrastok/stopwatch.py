"""Where a step's time goes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import torch
from torch import nn


class Stopwatch:
    """Adds up seconds by part. One that does not run costs nothing and never waits for the device.

    Args:
        runs: whether it measures.
        device: that is waited for at the end of each part.
    """

    def __init__(self, runs: bool, device: torch.device) -> None:
        self.runs, self.device = runs, device
        self.seconds: dict[str, float] = {}
        self.current = ""
        self.steps = 0

    @contextlib.contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Time what is done inside as a part of the step."""
        if not self.runs:
            yield
            return
        start, self.current = self._now(), part
        yield
        self._add(part, self._now() - start)

    @contextlib.contextmanager
    def inside(self, part: str, module: nn.Module) -> Iterator[None]:
        """Time a module's forward as a part of its own, and take it off the part that it runs in."""
        if not self.runs:
            yield
            return
        starts: list[float] = []

        def before(*_: object) -> None:
            starts.append(self._now())

        def after(*_: object) -> None:
            took = self._now() - starts.pop()
            self._add(part, took)
            self._add(self.current, -took)

        hooks = [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def step(self) -> None:
        """Count a step."""
        self.steps += 1

    def milliseconds(self) -> dict[str, float]:
        """Milliseconds a step by part, the longest first; empty when nothing was measured."""
        found = {part: 1000 * seconds / max(self.steps, 1) for part, seconds in self.seconds.items()}
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def _add(self, part: str, seconds: float) -> None:
        self.seconds[part] = self.seconds.get(part, 0.0) + seconds

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
