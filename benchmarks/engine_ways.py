"""Ways to mine the shards of a text, each run in a process of its own by `benchmarks.engines`.

Nothing here imports torch: what mines in other processes imports this module there, and gen-pairs' own workers are as light.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from contrastok.console import Console
from contrastok.data_gen.corpus import Shard
from contrastok.data_gen.engines import Job, mine_shard
from contrastok.data_gen.findings import Findings
from contrastok.data_gen.mining import KeptShards, mine_shards
from contrastok.scale_config import ScaleOptions

LOOK = 0.2
"""Seconds between looks at the processes of a way."""

ALL = 2**64
"""Threshold below which all text may be sampled: who starts every shard at once knows of no other."""


@dataclass(frozen=True)
class Case:
    """What is mined.

    Attributes:
        shards: of a text.
        job: what is looked for.
        folder: empty, for whatever a way writes.
        workers: processes.
    """

    shards: Sequence[Shard]
    job: Job
    folder: Path
    workers: int


Way = Callable[[Case], tuple[Findings, int]]
"""Mines all shards; gives what was found in all, and the bytes of findings that reached the first process."""


def ours(engine: str) -> Way:
    """One of our engines, as gen-pairs has it."""

    def way(case: Case) -> tuple[Findings, int]:
        kept = KeptShards.of(case.folder / "out", case.job, "benchmark")
        options = ScaleOptions(num_proc=case.workers, engine=engine)
        found = mine_shards(case.shards, case.job, options, kept, Console(quiet=True))
        return found, sum(file.stat().st_size for file in kept.folder.iterdir())

    return way


def added(job: Job, parts: Iterable[bytes]) -> tuple[Findings, int]:
    """Findings of shards, added up, and their bytes."""
    total, size = job.nothing(), 0
    for part in parts:
        total.add(part)
        size += len(part)
    return total, size


def ray_data(case: Case) -> tuple[Findings, int]:
    """Ray Data: rows are shards."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    ray.init("local", num_cpus=case.workers, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    packed, shards = pickle.dumps(case.job), case.shards
    try:
        rows = ray.data.from_items([{"shard": i} for i in range(len(shards))], override_num_blocks=len(shards))
        found = rows.map(lambda row: {"findings": mine_shard(packed, shards[row["shard"]], ALL)})
        return added(case.job, (row["findings"] for row in found.iter_rows()))
    finally:
        ray.shutdown()


def datatrove(task_a_shard: bool) -> Way:
    """A pipeline of datatrove with a task for each worker or each shard."""

    def way(case: Case) -> tuple[Findings, int]:
        from datatrove.executor import LocalPipelineExecutor
        from datatrove.pipeline.base import PipelineStep

        packed, shards, folder = pickle.dumps(case.job), case.shards, case.folder

        class Mine(PipelineStep):  # type: ignore[misc]
            """Mine the shards of a rank."""

            def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Any:
                for index in range(rank, len(shards), world_size):
                    (folder / f"{index}.parquet").write_bytes(mine_shard(packed, shards[index], ALL))
                yield from data or ()

        tasks = len(shards) if task_a_shard else case.workers
        LocalPipelineExecutor([Mine()], tasks, case.workers, logging_dir=str(folder / "log")).run()
        return added(case.job, (file.read_bytes() for file in sorted(folder.glob("*.parquet"))))

    return way


LOCAL = "local"
WAYS: dict[str, tuple[Way, str | None]] = {
    LOCAL: (ours("local"), None),
    "ray": (ours("ray"), "ray"),
    "Ray Data": (ray_data, "ray"),
    "datatrove, a task a worker": (datatrove(False), "datatrove"),
    "datatrove, a task a shard": (datatrove(True), "datatrove"),
}
"""Ways by name, and the package that each needs."""


class CpuMeter:
    """CPU seconds of this process and of all below it, the packages' own servers too, while the context lasts.

    Descendants are looked at every so often: what one does after the last look is lost.
    """

    def __enter__(self) -> CpuMeter:
        self._seen: dict[psutil.Process, float] = {}
        self._look()
        self._before = dict(self._seen)  # of processes that were there already
        self._over = threading.Event()
        self._own = time.process_time()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.seconds = time.process_time() - self._own + sum(self._seen.values()) - sum(self._before.values())

    def _watch(self) -> None:
        while True:
            self._look()
            if self._over.wait(LOOK):
                return

    def _look(self) -> None:
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                times = child.cpu_times()
                self._seen[child] = times.user + times.system


@dataclass(frozen=True)
class Run:
    """What a way took for a text.

    Attributes:
        cpu: seconds of all processes.
        clock: seconds.
        received: bytes of findings that reached the first process.
        sha256: of the findings in all.
    """

    cpu: float
    clock: float
    received: int
    sha256: str


def run(name: str, case: Case) -> Run:
    """Mine in this process and its workers."""
    start = time.perf_counter()
    with CpuMeter() as meter:
        found, received = WAYS[name][0](case)
    took = time.perf_counter() - start
    return Run(meter.seconds, took, received, hashlib.sha256(found.to_bytes()).hexdigest())


def main() -> None:
    """Take a way's name and a pickled case, and tell on standard output what it took."""
    name, case = sys.argv[1:]
    with contextlib.redirect_stdout(sys.stderr):
        took = run(name, pickle.loads(Path(case).read_bytes()))
    print(json.dumps(asdict(took)))


if __name__ == "__main__":
    from benchmarks import engine_ways  # not __main__, whose classes other processes would not find

    engine_ways.main()
