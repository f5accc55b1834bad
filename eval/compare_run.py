"""One training run in a process of its own, with what it cost: so each method has a clean peak and clean seconds."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import shutil
import signal
import tempfile
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from contrastok.config import TrainConfig
from contrastok.console import hush_libraries
from contrastok.data_gen.engines import die_with_parent
from contrastok.errors import ContrastokError
from contrastok.eval.compare_told import in_compare
from contrastok.models import trusting

_processes = multiprocessing.get_context(
    "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else None
)
_processes.set_forkserver_preload(["contrastok.trainer", "sentence_transformers"])
"""Each run is a fork of a process that has only imported the libraries, which takes longer than many a method."""
TO_END = 60
"""Seconds that a process which has given its answer may take to end."""
SHORT_OF_MEMORY = "memory may not have been enough (fewer --num-proc take less)"


@dataclass(frozen=True)
class Cost:
    """What a run took.

    Attributes:
        cpu_seconds: of all threads, user and system: loading the model is among them, importing the libraries is not.
        peak_bytes: resident at most, the model and libraries included.
        steps: of the optimiser, of both stages where there are two.
    """

    cpu_seconds: float
    peak_bytes: int
    steps: int


@dataclass(frozen=True)
class Refused:
    """The method does not apply here.

    Attributes:
        why: what it said, in one line.
    """

    why: str


class LostError(ContrastokError):
    """A process ended before it was done: nothing is known of the method, and another attempt may go well."""


def train_apart(config: TrainConfig, cache: Path) -> Cost | Refused:
    """Train in a new process.

    Args:
        config: of the run.
        cache: folder of encodings that every method may use. What this one adds stays its own, or the next would
            get for nothing what this one paid for.

    Raises:
        LostError: the process was ended, by the kernel for want of memory perhaps.
    """
    with tempfile.TemporaryDirectory(prefix=f"{cache.name}-", dir=cache.parent) as folder:
        own = Path(folder) / "own"
        shutil.copytree(cache, own, copy_function=os.link)
        answer, code = _asked(config, own)
    if answer is None:
        raise LostError(f"its process {_ending(code)}; {SHORT_OF_MEMORY}")
    if isinstance(answer, str):
        raise RuntimeError(f"training ended in an error of the program:\n{answer}")
    return answer


def _asked(config: TrainConfig, cache: Path) -> tuple[Cost | Refused | str | None, int | None]:
    """What a new process answers, None where it ends without a word, and its exit code."""
    answer: Cost | Refused | str | None = None
    here, there = _processes.Pipe(duplex=False)
    process = _processes.Process(target=_answer, args=(there, config, str(cache)), daemon=True)
    process.start()
    there.close()
    try:
        wait([here, process.sentinel])
        with contextlib.suppress(EOFError):
            answer = here.recv() if here.poll() else None
        process.join(TO_END)
    finally:
        process.kill()
        process.join()
        here.close()
    return answer, process.exitcode


def _ending(code: int | None) -> str:
    """How a process ended, by its exit code; -n is signal n."""
    if code is None or code >= 0:
        return f"ended before it was done, with exit code {code}"
    known = {one.value for one in signal.Signals}
    return f"was ended by {signal.Signals(-code).name if -code in known else f'signal {-code}'}"


def _answer(there: Connection, config: TrainConfig, cache: str) -> None:
    """In the new process: train, and send what came of it, or the traceback of an error that nobody expected."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who waits is interrupted too, and ends this process
    die_with_parent()
    found: Any
    try:
        found = _train(config, cache)
    except Exception:
        found = traceback.format_exc()
    there.send(found)


def _train(config: TrainConfig, cache: str) -> Cost | Refused:
    os.environ["CONTRASTOK_CACHE"] = cache
    from contrastok.trainer import train

    hush_libraries()
    try:
        with trusting(config.trust_remote_code):
            summary = train(config)
    except ContrastokError as error:
        return Refused(in_compare(error))
    used = resource.getrusage(resource.RUSAGE_SELF)
    return Cost(used.ru_utime + used.ru_stime, _peak() or used.ru_maxrss * 1024, summary["steps"])


def _peak() -> int:
    """Bytes resident at most, where the kernel tells: `getrusage` counts what the starting process held, too."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)
