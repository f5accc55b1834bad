"""How long work takes this process, whatever else the machine does meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def timed(work: Callable[[], T], device: str = "cpu") -> tuple[T, float]:
    """Do some work and tell its seconds, without those in which other processes had the processor.

    On an idle machine that is the time on the wall: several threads of the process take less of it than of processor
    time. On a busy one the wall says more than the work takes; then it is the processor time.

    Args:
        work: what is done, once.
        device: where; an accelerator's work takes no processor time, so there the wall alone is asked.

    Returns:
        what the work gave, and its seconds.
    """
    wall, processor = time.perf_counter(), time.process_time()
    found = work()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return found, min(wall, processor) if device == "cpu" else wall
