"""A corpus mined shard by shard; a run that was killed goes on with the shards that are left."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from contrastok import __version__
from contrastok.console import Console
from contrastok.data_gen.corpus import Shard
from contrastok.data_gen.engines import ENGINES, Job
from contrastok.data_gen.findings import Findings
from contrastok.data_gen.shards import fingerprint
from contrastok.errors import ContrastokError
from contrastok.files import atomic_file
from contrastok.scale_config import ScaleOptions

FORMAT = 3
"""Counted up when the same shard would be mined otherwise."""

AHEAD = 2
"""Shards under way for each worker, so that none waits while findings are added up."""


@dataclass(frozen=True)
class KeptShards:
    """Findings of shards on disk, until the run that they are for is done.

    Attributes:
        folder: private to the output of the run.
        key: what decides the findings besides the text.
    """

    folder: Path
    key: str

    @staticmethod
    def of(out: Path, job: Job, tokenizer: str) -> KeptShards:
        """Those of a run.

        Args:
            out: its output.
            job: what is looked for.
            tokenizer: fingerprint of the base model's, which decides how text is folded.
        """
        told = [
            FORMAT,
            __version__,
            job.terms,
            tokenizer,
            astuple(job.options),
            job.text_field,
            sorted(job.special),
            job.sampled,
        ]
        key = hashlib.sha256(json.dumps(told).encode()).hexdigest()
        return KeptShards(out.absolute().with_name(f".{out.name}.shards"), key)

    def file(self, shard: Shard) -> Path | None:
        """Where findings are kept; None for text of which nobody knows whether it changed."""
        mark = fingerprint(shard)
        if mark is None:
            return None
        return self.folder / f"{hashlib.sha256((self.key + mark).encode()).hexdigest()}.parquet"

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Inside, an error says that findings are kept, if they are: reading again may take hours."""
        try:
            yield
        except ContrastokError as error:
            if self.folder.is_dir():
                kept = f"what was read is kept in {self.folder}: the next run into this --out goes on from there"
                error.hint = "; ".join(filter(None, (error.hint, kept)))
            raise

    def clear(self) -> None:
        """Forget them: the run is done."""
        shutil.rmtree(self.folder, ignore_errors=True)


def mine_shards(
    shards: Sequence[Shard], job: Job, options: ScaleOptions, kept: KeptShards, console: Console
) -> Findings:
    """Mine every shard and add up what was found.

    Args:
        shards: of the corpus.
        job: what is looked for.
        options: the engine, and how many shards it mines at a time.
        kept: findings of shards that an earlier run had done, and where those of this one go.
        console: shows progress.

    Raises:
        InputError: names the file and line that cannot be read.
        OutputError: findings cannot be kept.
    """
    total = job.nothing()
    waiting: deque[tuple[Path | None, Callable[[], bytes]]] = deque()

    def collect() -> None:
        file, result = waiting.popleft()
        data = result()
        if file is not None:
            with atomic_file(file) as partial:
                partial.write_bytes(data)
        # Kept first, then added: a later shard samples below the threshold of those that are kept.
        total.add(data)

    with ENGINES[options.engine](job, options) as submit:
        for shard in console.track(shards, "Reading the corpus", len(shards)):
            file = kept.file(shard)
            if file is not None and _added(file, total):
                continue
            if len(waiting) >= (AHEAD * options.num_proc if options.num_proc > 1 else 1):
                collect()
            waiting.append((file, submit(shard, total.sample.threshold)))
        while waiting:
            collect()
    return total


def _added(file: Path, total: Findings) -> bool:
    """Whether findings are there, whole, and were added."""
    if not file.is_file():
        return False
    try:
        total.add(file.read_bytes())
    except ValueError:  # damaged on disk: the shard is mined again
        with contextlib.suppress(OSError):
            file.unlink()
        return False
    return True
