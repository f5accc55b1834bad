"""One training run in a process of its own, with what it cost: so each method has a clean peak and clean seconds."""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from contrastok.config import TrainConfig
from contrastok.errors import ContrastokError

_processes = multiprocessing.get_context(
    "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else None
)
_processes.set_forkserver_preload(["contrastok.trainer", "sentence_transformers"])
"""Each run is a fork of a process that has only imported the libraries, which takes longer than many a method."""


@dataclass(frozen=True)
class Cost:
    """What a run took.

    Attributes:
        cpu_seconds: of all threads, user and system: loading the model is among them, importing the libraries is not.
        peak_bytes: resident at most, the model and libraries included.
    """

    cpu_seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Refused:
    """The method does not apply here.

    Attributes:
        why: what it said.
    """

    why: str


def train_apart(config: TrainConfig, cache: Path) -> Cost | Refused:
    """Train in a new process.

    Args:
        config: of the run.
        cache: folder of encodings that every method may use. What this one adds stays its own, or the next would
            get for nothing what this one paid for.
    """
    with tempfile.TemporaryDirectory(prefix=f"{cache.name}-", dir=cache.parent) as folder:
        own = Path(folder) / "own"
        shutil.copytree(cache, own, copy_function=os.link)
        with _processes.Pool(1) as pool:
            return pool.apply(_train, (config, str(own)))


def _train(config: TrainConfig, cache: str) -> Cost | Refused:
    os.environ["CONTRASTOK_CACHE"] = cache
    from contrastok.trainer import train

    try:
        train(config)
    except ContrastokError as error:
        return Refused(str(error).replace("\n", "; "))
    used = resource.getrusage(resource.RUSAGE_SELF)
    return Cost(used.ru_utime + used.ru_stime, _peak() or used.ru_maxrss * 1024)


def _peak() -> int:
    """Bytes resident at most, where the kernel tells: `getrusage` counts what the starting process held, too."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)
