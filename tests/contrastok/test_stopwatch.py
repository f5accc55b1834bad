from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from contrastok.stopwatch import Stopwatch

CPU = torch.device("cpu")


class Slow(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(0.02)
        return x


def test_parts_add_up_and_a_module_is_taken_off_the_part_around_it() -> None:
    watch, module = Stopwatch(True, CPU), Slow()
    with watch.inside("inner", module, "outer"):
        for _ in range(2):
            start = time.perf_counter()
            with watch("outer"):
                module(torch.zeros(1))
                time.sleep(0.01)
            whole = time.perf_counter() - start
            watch.step()
    module(torch.zeros(1))  # its hooks are gone
    found = watch.milliseconds()
    assert list(found) == ["inner", "outer"]
    assert found["inner"] >= 20 and 10 <= found["outer"] < found["inner"]
    assert sum(found.values()) == pytest.approx(1000 * whole, rel=0.5)


def test_one_that_does_not_run_measures_nothing() -> None:
    watch, module = Stopwatch(False, torch.device("cuda")), Slow()
    with watch("outer"), watch.inside("inner", module, "outer"):
        module(torch.zeros(1))
    assert watch.milliseconds() == {} and not module._forward_hooks
