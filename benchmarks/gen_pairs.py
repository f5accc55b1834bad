"""How much text gen-pairs reads: sentences and megabytes a second of one core, and its memory.

    python -m benchmarks.gen_pairs [--terms 10000] [--megabytes 50] [--with-term 0.01 0.1] [--json FILE]
    python -m benchmarks.gen_pairs --megabytes 100 5000 --memory
    python -m benchmarks.gen_pairs --workers 1 2

The text is drawn: words of syllables, as frequent as words are (Zipf), one sentence in so many with a term. Four ways to
find the terms see the same documents, in turns:

* contrastok: what a worker does with a shard: read, fold, match, split, deduplicate, sample.
* matching alone: the automaton over folded text, without anything else.
* one alternation: `re` with all terms in one pattern, on `--slice` MB, since it is slow.
* a regex per term: `re` with a pattern for each term, on a hundredth of the slice, since it is slower.

Seconds are CPU seconds of the process, which other load disturbs less than a clock. A ratio is between neighbours in time,
its median over rounds. `--memory` mines the text again in a process of its own for each size, and tells the peak of its
resident set: it must not grow with the text.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import pickle
import random
import re
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.harness import status, write_json
from benchmarks.markdown import table
from contrastok.console import Console
from contrastok.data_gen.corpus import read_shard, whole_shards
from contrastok.data_gen.engines import Job, mine_shard
from contrastok.data_gen.evidence import MiningOptions
from contrastok.data_gen.findings import Findings
from contrastok.data_gen.fold import Fold
from contrastok.data_gen.matcher import TermMatcher
from contrastok.data_gen.mining import KeptShards, mine_shards
from contrastok.data_gen.shards import cut_shards
from contrastok.models import load_tokenizer
from contrastok.scale_config import ScaleOptions

SYLLABLES = [a + b + c for a in "bcdfglmnprstv" for b in "aeiou" for c in ("", "n", "r", "s")]
WORDS = 30_000
SENTENCE = (8, 30)
"""Words of a sentence, at least and at most."""
DOCUMENT = 6
"""Sentences of a document, at most."""
BLOCK = 20_000_000
"""Bytes that are drawn."""


@dataclass(frozen=True)
class Text:
    """Drawn text on disk."""

    path: Path
    sentences: int

    @property
    def size(self) -> int:
        """Bytes, which are characters: the text is ASCII."""
        return self.path.stat().st_size


def draw_terms(count: int) -> list[str]:
    """Terms of four syllables: words of the text begin as they do."""
    draw = random.Random(1)
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join(draw.choices(SYLLABLES, k=4))] = None
    return list(found)


def draw_text(path: Path, size: int, terms: Sequence[str], share: float) -> Text:
    """Write so many bytes of text, `share` of its sentences with a term, no sentence twice.

    Drawing takes longer than mining. So what is beyond a block is the block again, with another word in each sentence.
    """
    block = _draw_block(min(size, BLOCK), terms, share)
    written = sentences = 0
    with path.open("w", encoding="ascii") as handle:
        for turn in itertools.count():
            again = block.replace(".", f" {''.join(SYLLABLES[int(digit)] for digit in str(turn))}.") if turn else block
            written += handle.write(again)
            sentences += block.count(".")
            if written >= size:
                return Text(path, sentences)
    raise AssertionError


def _draw_block(size: int, terms: Sequence[str], share: float) -> str:
    """Documents, one a line."""
    draw = random.Random(2)
    words = ["".join(draw.choices(SYLLABLES, k=draw.choice((1, 2, 2, 3)))) for _ in range(WORDS)]
    weights = list(itertools.accumulate(1 / (rank + 10) for rank in range(WORDS)))
    lines: list[str] = []
    length = 0
    while length < size:
        document = []
        for _ in range(draw.randint(1, DOCUMENT)):
            sentence = draw.choices(words, cum_weights=weights, k=draw.randint(*SENTENCE))
            if draw.random() < share:
                sentence[draw.randrange(len(sentence))] = draw.choice(terms)
            document.append(" ".join(sentence).capitalize() + ".")
        lines.append(" ".join(document) + "\n")
        length += len(lines[-1])
    return "".join(lines)


def seconds(work: Callable[[], Any]) -> float:
    """CPU seconds of this process."""
    start = time.process_time()
    work()
    return time.process_time() - start


def rates(text: Text, job: Job, slice_bytes: int, rounds: int) -> dict[str, list[float]]:
    """MB a second of each way of finding terms, one figure a round."""
    shard = whole_shards([str(text.path)], job.text_field, job.split)[0]
    documents = [document.text for document in read_shard(shard, job.text_field, job.split)]
    matcher, packed = TermMatcher(job.terms, job.fold), pickle.dumps(job)
    few = _head(documents, slice_bytes)
    fewer = _head(few, slice_bytes // 100)
    alternation = re.compile(rf"\b(?:{'|'.join(map(re.escape, job.terms))})\b")
    patterns = [re.compile(rf"\b{re.escape(term)}\b") for term in job.terms]
    ways: dict[str, tuple[Callable[[], Any], int]] = {
        "contrastok": (lambda: mine_shard(packed, shard, 2**64), text.size),
        "matching alone": (lambda: matcher.holding(documents), text.size),
        "one alternation": (lambda: [alternation.findall(document.lower()) for document in few], sum(map(len, few))),
        "a regex per term": (
            lambda: [pattern.search(document.lower()) for document in fewer for pattern in patterns],
            sum(map(len, fewer)),
        ),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (work, size) in ways.items():
            found[name].append(size / 1e6 / seconds(work))
            print(f"  {name}: {found[name][-1]:.3g} MB/s", file=sys.stderr, flush=True)
    return found


def _head(documents: Sequence[str], size: int) -> list[str]:
    lengths = itertools.accumulate(map(len, documents))
    return [document for document, length in zip(documents, lengths, strict=True) if length <= size] or [documents[0]]


def peak_of(text: Text, job: Job, workers: int) -> dict[str, float]:
    """Mine a text as gen-pairs does; clock seconds, and MB of the resident set at most, of the largest process."""
    with tempfile.TemporaryDirectory(dir=text.path.parent) as folder:
        kept = KeptShards.of(Path(folder) / "out", job, "benchmark")
        shards = cut_shards(whole_shards([str(text.path)], job.text_field, job.split))
        start = time.perf_counter()
        found: Findings = mine_shards(shards, job, ScaleOptions(num_proc=workers), kept, Console(quiet=True))
        took = time.perf_counter() - start
        disk = sum(file.stat().st_size for file in kept.folder.iterdir())
    workers_peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return {
        "megabytes": text.size / 1e6,
        "workers": workers,
        "seconds": took,
        "peak_mb": max(status("VmHWM"), workers_peak) / 2**20,
        "kept_mb": disk / 1e6,
        "occurrences": sum(found.occurrences),
    }


def main() -> None:
    """Print tables of speed, and of memory if it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--terms", type=int, default=10_000, help="number of terms")
    parser.add_argument("--megabytes", type=float, nargs="+", default=[50], help="of text; the first is timed")
    parser.add_argument("--with-term", type=float, nargs="+", default=[0.01, 0.1], help="shares of sentences")
    parser.add_argument("--slice", type=float, default=0.5, help="MB that the alternation sees")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[], help="mine with so many processes")
    parser.add_argument("--memory", action="store_true", help="mine each size in a process of its own")
    parser.add_argument("--folder", type=Path, help="where the text is written (default: a temporary folder)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    terms = draw_terms(options.terms)
    job = Job(tuple(terms), Fold(load_tokenizer("minilm")), MiningOptions())
    facts: dict[str, Any] = {"terms": len(terms), "speed": [], "runs": []}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for share in options.with_term:
            text = draw_text(Path(folder) / "text.txt", int(options.megabytes[0] * 1e6), terms, share)
            facts["speed"].append(_speed(text, share, job, options))
        print(_speed_table(facts["speed"]))
        if options.memory or options.workers:
            facts["runs"] = _runs(Path(folder), terms, job, options)
            print("\n" + _run_table(facts["runs"]))
    write_json(facts, options.json)


def _speed(text: Text, share: float, job: Job, options: argparse.Namespace) -> dict[str, Any]:
    found = rates(text, job, int(options.slice * 1e6), options.rounds)
    ours = found["contrastok"]
    return {
        "with_term": share,
        "megabytes": text.size / 1e6,
        "sentences_per_mb": text.sentences / (text.size / 1e6),
        "mb_per_second": {name: median(values) for name, values in found.items()},
        "times": {name: median(a / b for a, b in zip(ours, values, strict=True)) for name, values in found.items()},
    }


def _runs(folder: Path, terms: Sequence[str], job: Job, options: argparse.Namespace) -> list[dict[str, float]]:
    found = []
    context = multiprocessing.get_context("spawn")
    for size in options.megabytes:
        text = draw_text(folder / "text.txt", int(size * 1e6), terms, options.with_term[-1])
        for workers in options.workers or [1]:
            with ProcessPoolExecutor(1, context) as pool:
                found.append(pool.submit(peak_of, text, job, workers).result())
            print(f"  {found[-1]}", file=sys.stderr, flush=True)
    return found


def _speed_table(speed: Sequence[dict[str, Any]]) -> str:
    head = ("sentences with a term", "way", "MB/s a core", "sentences/s a core", "contrastok is faster")
    rows = [
        (
            f"{told['with_term']:.0%}",
            name,
            f"{rate:.3g}",
            f"{rate * told['sentences_per_mb']:,.0f}",
            f"{told['times'][name]:,.3g} times",
        )
        for told in speed
        for name, rate in told["mb_per_second"].items()
    ]
    return table(head, rows)


def _run_table(runs: Sequence[dict[str, float]]) -> str:
    head = ("text, MB", "workers", "peak memory, MB", "findings on disk, MB", "time for each MB, to the first run's")
    first = runs[0]["seconds"] / runs[0]["megabytes"]
    rows = [
        (
            f"{run['megabytes']:,.0f}",
            f"{run['workers']}",
            f"{run['peak_mb']:,.0f}",
            f"{run['kept_mb']:,.1f}",
            f"{run['seconds'] / run['megabytes'] / first:.2f}",
        )
        for run in runs
    ]
    return table(head, rows)


if __name__ == "__main__":
    main()
