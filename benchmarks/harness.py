"""Peers side by side: each in a process of its own, in turns, told as ratios.

This machine's speed changes from minute to minute, so the methods take turns for several rounds, and a ratio is the
median over rounds of which each compares neighbours in time. A process of its own gives each method a clean peak.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import multiprocessing
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from contrastok.files import atomic_file, to_json
from contrastok.story import versions

Steps = Callable[[int], list[float]]
"""Does so many steps and gives the seconds of each."""
Build = Callable[..., Steps]
"""Makes a method ready to run; it stands at the top of a module, so that another process can find it."""


@dataclass(frozen=True)
class Measured:
    """One round of one method.

    Attributes:
        seconds: of each step.
        peak: bytes in use at most during the steps, above what was in use before the first.
    """

    seconds: list[float]
    peak: int

    @property
    def rate(self) -> float:
        """Steps per second, over all of them: for steps of different length."""
        return len(self.seconds) / sum(self.seconds)

    @property
    def typical(self) -> float:
        """Steps per second by the median step: for steps that are all the same."""
        return 1 / median(self.seconds)


def positive(text: str) -> int:
    """A whole number from 1 on, as an option: nothing can be said of no rounds, steps or rows.

    Raises:
        ArgumentTypeError: it is none, which ends a command with exit code 2.
    """
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text} is no whole number from 1 on")
    return int(text)


def take_turns(
    methods: Mapping[str, tuple[Build, tuple[Any, ...]]], steps: int, warmup: int, rounds: int
) -> dict[str, list[Measured]]:
    """Every method once a round, each in a new process.

    Args:
        methods: by name what makes each ready, with its arguments.
        steps: timed.
        warmup: steps before them that are not; the second of them sees the memory that a step needs.
        rounds: of all methods.
    """
    context = multiprocessing.get_context("spawn")
    found: dict[str, list[Measured]] = {name: [] for name in methods}
    for _ in range(rounds):
        for name, (build, arguments) in methods.items():
            with context.Pool(1) as pool:
                found[name].append(pool.apply(measure, (build, arguments, steps, warmup)))
            print(f"  {name}: {found[name][-1].rate:.3g} steps/s", file=sys.stderr, flush=True)
    return found


def measure(build: Build, arguments: tuple[Any, ...], steps: int, warmup: int) -> Measured:
    """One round of one method, in this process; see `take_turns`."""
    run = build(*arguments)
    before = reset_peak()
    run(warmup)
    seconds = run(steps)
    return Measured(seconds, _peak() - before)


def timed(step: Callable[[], Any]) -> Steps:
    """Steps that are a function called again and again."""

    def run(count: int) -> list[float]:
        seconds = []
        for _ in range(count):
            start = time.perf_counter()
            step()
            wait()
            seconds.append(time.perf_counter() - start)
        return seconds

    return run


def wait() -> None:
    """Until the device has done what it was asked."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def reset_peak() -> int:
    """Bytes in use now, from where a new peak is counted."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed while a method got ready is not at its service for nothing
    with open("/proc/self/clear_refs", "w") as handle:
        handle.write("5")  # the high-water mark of the resident set starts anew (man 5 proc)
    return status("VmRSS")


def _peak() -> int:
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else status("VmHWM")


def status(name: str) -> int:
    """Bytes of memory of this process, by its name in man 5 proc.

    A peak is `VmHWM`: that of `getrusage` goes on after exec from what the process that started this one had held.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # some sandboxes' kernels have no such line


def against(ours: Sequence[Measured], peer: Sequence[Measured], *, alike: bool = False) -> dict[str, float]:
    """How many times faster ours is, over rounds: the median, the least and the most; and the peer's peak over ours.

    Args:
        ours: rounds of one method.
        peer: rounds of another.
        alike: all steps do the same.
    """
    speed = (lambda m: m.typical) if alike else (lambda m: m.rate)
    ratios = sorted(speed(a) / speed(b) for a, b in zip(ours, peer, strict=True))
    peaks = [median(measured.peak for measured in side) for side in (ours, peer)]
    return {
        "times_faster": median(ratios),
        "least": ratios[0],
        "most": ratios[-1],
        "memory_ratio": peaks[1] / max(peaks[0], 1),
    }


def machine() -> dict[str, Any]:
    """Where a result was measured."""
    cuda = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if cuda else f"CPU ({platform.machine()}, {os.cpu_count()} cores)",
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }


def write_json(facts: Mapping[str, Any], path: Path | None) -> None:
    """Keep figures for scripts, whole or not at all."""
    if path is not None:
        with atomic_file(path) as partial:
            partial.write_text(to_json({**facts, **machine()}), encoding="utf-8")
