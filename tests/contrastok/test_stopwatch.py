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
    start = time.perf_counter()
    with watch.inside("inner", module):
        for part in ("first", "second", "first", "second"):
            with watch(part):
                module(torch.zeros(1))
                time.sleep(0.01)
        watch.step()
        watch.step()
    whole = time.perf_counter() - start
    module(torch.zeros(1))  # its hooks are gone
    found = watch.milliseconds()
    assert next(iter(found)) == "inner" and set(found) == {"inner", "first", "second"}
    assert found["inner"] >= 40 and min(found["first"], found["second"]) >= 10
    assert sum(found.values()) == pytest.approx(1000 * whole / 2, rel=0.2)


def test_one_that_does_not_run_measures_nothing() -> None:
    watch, module = Stopwatch(False, torch.device("cuda")), Slow()
    with watch("outer"), watch.inside("inner", module):
        module(torch.zeros(1))
    assert watch.milliseconds() == {} and not module._forward_hooks
