"""Where shards are mined: our two engines beside Ray Data and datatrove, on the same text and with as many processes.

    python -m benchmarks.engines [--terms 10000] [--megabytes 256] [--shard 16] [--workers 2] [--rounds 3] [--json FILE]

All of them call the same `mine_shard`, and the first process adds the findings up in the same way; findings that differ end
the benchmark.

* local: `--engine local`, with one process and with `--workers`.
* ray: `--engine ray`, on this machine.
* Ray Data: a Dataset whose rows are the shards, mapped to their findings.
* datatrove: a step of a pipeline that mines the shards of its rank and leaves a file for each, as steps do; once with a
  task a worker, once with a task a shard, of which a killed run would lose no more than ours. The files are added up after.

Each way mines the text, and next to no text in as many shards; each time in a process of its own, in turns. The second
tells what it takes to start and to hand out the shards, the difference what a megabyte takes, both from the import of the
packages on. Seconds are CPU seconds of the first process and of all that it started, which other load disturbs less than
those of the clock; both are told. A ratio is between neighbours in time, its median over rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.engine_ways import LOCAL, WAYS, Case, Run
from benchmarks.gen_pairs import draw_terms, draw_text
from benchmarks.harness import positive, write_json
from benchmarks.markdown import table
from contrastok.data_gen.corpus import Shard, whole_shards
from contrastok.data_gen.engines import Job
from contrastok.data_gen.evidence import MiningOptions
from contrastok.data_gen.fold import Fold
from contrastok.data_gen.shards import cut_shards
from contrastok.models import load_tokenizer

AS_NICE = {"RAY_worker_niceness": "0"}
"""Ray's workers make way for all others on a machine, by 15; here they are to run as those do that they are beside."""


def run_apart(name: str, shards: Sequence[Shard], job: Job, workers: int) -> Run:
    """Mine in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        case = Path(folder, "case.pickle")
        case.write_bytes(pickle.dumps(Case(shards, job, Path(folder), workers)))
        command = [sys.executable, "-m", "benchmarks.engine_ways", name, str(case)]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **AS_NICE})
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    return Run(**json.loads(done.stdout))


@dataclass(frozen=True)
class Round:
    """A way with next to no text and with all of it."""

    nothing: Run
    text: Run


def require_same(rounds: Mapping[tuple[str, int], Sequence[Round]]) -> None:
    """All ways must have found the same.

    Raises:
        SystemExit: names those that have not found what the first one has.
    """
    told = {way: {(one.nothing.sha256, one.text.sha256) for one in found} for way, found in rounds.items()}
    wanted = next(iter(told.values()))
    if other := [
        f"{name} ({workers})" for (name, workers), found in told.items() if found != wanted or len(found) != 1
    ]:
        raise SystemExit(f"other findings: {', '.join(other)}")


def compared(rounds: Mapping[tuple[str, int], Sequence[Round]], megabytes: float) -> list[dict[str, Any]]:
    """Each way beside `local` with as many processes, in the same round."""

    def more(one: Round) -> float:
        return one.text.cpu - one.nothing.cpu

    lines = []
    for (name, workers), found in rounds.items():
        beside = list(zip(found, rounds[LOCAL, workers], strict=True))
        per_mb = sorted(more(one) / more(base) for one, base in beside)
        lines.append({
            "way": name, "workers": workers,
            "per_mb": median(per_mb), "per_mb_least": per_mb[0], "per_mb_most": per_mb[-1],
            "start_in_mb": median(one.nothing.cpu / more(base) for one, base in beside) * megabytes,
            "clock": median(one.text.clock / base.text.clock for one, base in beside),
            "received_mb": median(one.text.received for one in found) / 1e6,
            "rounds": [
                {part: {"cpu": run.cpu, "clock": run.clock} for part, run in (("nothing", one.nothing), ("text", one.text))}
                for one in found
            ],
        })  # fmt: skip
    return lines


def shown(lines: Sequence[Mapping[str, Any]]) -> str:
    """What `compared` gave, as a table."""
    head = (
        "way", "processes", "CPU time of a megabyte, to local with as many", "to start: MB that local mines with that CPU time",
        "clock, all of it, to local", "findings received, MB",
    )  # fmt: skip
    return table(head, [
        (line["way"], str(line["workers"]),
         f"{line['per_mb']:.2f} ({line['per_mb_least']:.2f}-{line['per_mb_most']:.2f})", f"{line['start_in_mb']:,.0f}",
         f"{line['clock']:.2f}", f"{line['received_mb']:,.1f}")
        for line in lines
    ])  # fmt: skip


def present(ways: Iterable[str]) -> list[str]:
    """Those whose package is installed; of each other one a line is printed."""
    found = []
    for name in ways:
        needs = WAYS[name][1]
        if needs is None or find_spec(needs):
            found.append(name)
        else:
            print(f"{name}: not measured, it needs the package {needs}")
    return found


def cut(path: Path, job: Job, count: int) -> list[Shard]:
    """A text in about so many shards."""
    return cut_shards(whole_shards([str(path)], job.text_field, job.split), path.stat().st_size // count)


def main() -> None:
    """Run, compare, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--terms", type=positive, default=10_000, help="number of terms")
    parser.add_argument("--megabytes", type=positive, default=256, help="of text")
    parser.add_argument("--with-term", type=float, default=0.01, help="share of sentences")
    parser.add_argument("--shard", type=positive, default=16, help="megabytes of a shard, about")
    parser.add_argument("--workers", type=positive, default=2, help="processes")
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    terms = draw_terms(options.terms)
    job = Job(tuple(terms), Fold(load_tokenizer("minilm")), MiningOptions())
    ways = [(LOCAL, 1), *((name, options.workers) for name in present(WAYS) if (name, options.workers) != (LOCAL, 1))]
    rounds: dict[tuple[str, int], list[Round]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        text = draw_text(Path(folder) / "text.txt", int(options.megabytes * 1e6), terms, options.with_term)
        little = draw_text(Path(folder) / "little.txt", 100_000, terms, options.with_term)
        count = max(1, options.megabytes // options.shard)
        shards, few = (cut(one.path, job, count) for one in (text, little))
        for _ in range(options.rounds):
            for name, workers in ways:
                found = Round(*(run_apart(name, part, job, workers) for part in (few, shards)))
                rounds[name, workers].append(found)
                took = ", ".join(f"{one.cpu:.1f} ({one.clock:.0f})" for one in (found.nothing, found.text))
                print(f"  {name}, {workers}: {took} s of CPU (clock)", file=sys.stderr, flush=True)
            require_same(rounds)
        size = text.size / 1e6
    lines = compared(rounds, size)
    packages = {name: version(name) for name in ("ray", "datatrove") if find_spec(name)}
    print(f"{size:,.0f} MB in {len(shards)} shards, {len(terms):,} terms, all found the same\n\n{shown(lines)}")
    write_json(
        {"megabytes": size, "shards": len(shards), "terms": len(terms), "packages": packages, "ways": lines},
        options.json,
    )


if __name__ == "__main__":
    main()
