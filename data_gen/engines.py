"""Where shards are mined: in this process, in several of this machine, or on a Ray cluster."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable, Iterator, Set
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from contrastok.data_gen.corpus import Shard, read_shard
from contrastok.data_gen.evidence import Miner, MiningOptions
from contrastok.data_gen.findings import Findings
from contrastok.data_gen.fold import Fold
from contrastok.data_gen.matcher import TermMatcher
from contrastok.data_gen.text_sample import CHARACTERS, TextSample
from contrastok.errors import ConfigError, ContrastokError

if TYPE_CHECKING:
    from contrastok.scale_config import ScaleOptions


@dataclass(frozen=True)
class Job:
    """All that decides what is found in a shard.

    Attributes:
        terms: in the order of their rows.
        fold: text as the tokenizer sees it.
        options: limits and seed.
        text_field, split: how the corpus is read.
        special: those of the terms that are special tokens.
        sampled: characters of all text to keep for known words.
    """

    terms: tuple[str, ...]
    fold: Fold
    options: MiningOptions
    text_field: str = "text"
    split: str = "train"
    special: Set[str] = frozenset()
    sampled: int = CHARACTERS

    def matcher(self) -> TermMatcher:
        """What finds the terms."""
        return TermMatcher(self.terms, self.fold, self.special)

    def nothing(self) -> Findings:
        """Findings of no text."""
        return Findings(len(self.terms), self.options.max_sentences, TextSample(self.options.seed, self.sampled))


Submit = Callable[[Shard, int], Callable[[], bytes]]
"""Starts a shard, given the threshold below which text is sampled; gives a function that waits for its findings."""

Engine = Callable[[Job, "ScaleOptions"], AbstractContextManager[Submit]]


def mine_shard(job: bytes, shard: Shard, threshold: int) -> bytes:
    """The findings of a shard, as `Findings.to_bytes` gives them; runs in whatever process.

    Args:
        job: a pickled `Job`, from the process that started this one.
        shard: what is read.
        threshold: of the sample of all text.

    Raises:
        InputError: names the file and line that cannot be read.
    """
    asked, matcher = _ready(job)
    findings = asked.nothing()
    findings.sample.lower(threshold)
    Miner(asked.terms, matcher, asked.options, findings).read(read_shard(shard, asked.text_field, asked.split))
    return findings.to_bytes()


@lru_cache(maxsize=1)
def _ready(job: bytes) -> tuple[Job, TermMatcher]:
    """The automaton is made once in a process."""
    asked: Job = pickle.loads(job)
    return asked, asked.matcher()


@contextmanager
def local(job: Job, options: ScaleOptions) -> Iterator[Submit]:
    """This process, or `num_proc` processes of this machine."""
    packed = pickle.dumps(job)
    if options.num_proc == 1:
        yield lambda shard, threshold: partial(mine_shard, packed, shard, threshold)
        return
    from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
    from multiprocessing import get_context

    # A fork of a process that holds threads (torch, tokenizers) may hang.
    with ProcessPoolExecutor(options.num_proc, get_context("spawn"), die_with_parent) as pool:
        try:
            yield lambda shard, threshold: pool.submit(mine_shard, packed, shard, threshold).result
        except BrokenExecutor as error:
            raise _lost(error) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _lost(error: Exception) -> ContrastokError:
    hint = (
        "was there enough memory? Take fewer --num-proc; the same command goes on with the shards that are left. "
        "In a script, call gen_pairs below if __name__ == '__main__'"
    )
    return ContrastokError(f"a worker ended before its shard was done: {error}", hint=hint)


def die_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    from multiprocessing import parent_process

    def watch() -> None:
        if parent := parent_process():
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _start(init: Callable[..., object], options: ScaleOptions) -> None:
    """Start Ray here, or find it. It tells nobody that it runs, and is given time on a busy machine."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")
    here = {"num_cpus": options.num_proc, "include_dashboard": False} if options.ray_address == "local" else {}
    try:
        init(options.ray_address, log_to_driver=False, **here)
    except Exception as error:  # it raises what it likes, a bare Exception too
        hint = "local starts Ray here, auto finds a running one; see docs/scale.md"
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(f"no Ray at --ray-address {options.ray_address}: {reason}", hint=hint) from error


@contextmanager
def ray(job: Job, options: ScaleOptions) -> Iterator[Submit]:
    """A Ray cluster, or Ray on this machine. Ray starts a task again whose worker was lost."""
    if find_spec("ray") is None:
        raise ConfigError("--engine ray needs the package ray", hint="pip install 'contrastok[ray]'")
    import ray as engine
    from ray.exceptions import RayError, RayTaskError

    own = not engine.is_initialized()
    if own:
        _start(engine.init, options)
    try:
        packed, remote = engine.put(pickle.dumps(job)), engine.remote(mine_shard)

        def wait(reference: object) -> bytes:
            try:
                return engine.get(reference)  # type: ignore[no-any-return]
            except RayTaskError as error:
                raise error.cause from None
            except RayError as error:
                raise _lost(error) from error

        yield lambda shard, threshold: partial(wait, remote.remote(packed, shard, threshold))
    finally:
        if own:
            engine.shutdown()


ENGINES: dict[str, Engine] = {"local": local, "ray": ray}
"""Engines by name. They differ in where shards are mined, never in what is found."""
