from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks import engine_ways, engines
from benchmarks.engine_ways import LOCAL, Case, CpuMeter, Run, added, run
from benchmarks.engines import Round, compared, cut, present, require_same, shown
from benchmarks.gen_pairs import draw_terms, draw_text
from contrastok.data_gen.engines import Job, mine_shard
from contrastok.data_gen.evidence import MiningOptions
from contrastok.data_gen.fold import Fold
from contrastok.models import load_tokenizer


def took(nothing: float, text: float, clock: float = 1.0, sha256: str = "same") -> Round:
    return Round(Run(nothing, 1.0, 0, "little"), Run(text, clock, 2_000_000, sha256))


def test_a_way_is_told_beside_local_with_as_many_processes() -> None:
    rounds = {
        (LOCAL, 1): [took(1, 5), took(1, 5)],
        (LOCAL, 2): [took(1, 11, clock=10), took(1, 6, clock=5)],
        ("ray", 2): [took(6, 26, clock=40), took(6, 21, clock=10)],
    }
    alone, both, ray = compared(rounds, megabytes=100)
    assert alone["per_mb"] == both["per_mb"] == alone["clock"] == 1
    assert (ray["per_mb_least"], ray["per_mb"], ray["per_mb_most"]) == (2, 2.5, 3)
    assert ray["start_in_mb"] == pytest.approx((60 + 120) / 2)  # 6 s, where local takes 0.1 s or 0.05 s for a megabyte
    assert ray["clock"] == 3 and ray["received_mb"] == 2
    assert "| ray | 2 | 2.50 (2.00-3.00) | 90 | 3.00 | 2.0 |" in shown([ray])


def test_other_findings_end_it() -> None:
    same = {(LOCAL, 1): [took(1, 2)], ("ray", 2): [took(3, 4)]}
    require_same(same)
    for broken in ([took(3, 4, sha256="other")], [took(3, 4), took(3, 4, sha256="other")]):
        with pytest.raises(SystemExit, match=r"other findings: ray \(2\)"):
            require_same({**same, ("ray", 2): broken})


def test_a_package_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda name: None if name == "ray" else True)
    assert present(engine_ways.WAYS) == [LOCAL, "datatrove, a task a worker", "datatrove, a task a shard"]
    assert capsys.readouterr().out.splitlines() == [
        "ray: not measured, it needs the package ray",
        "Ray Data: not measured, it needs the package ray",
    ]


def test_seconds_of_processes_below_are_counted_from_now_on() -> None:
    work = "import time\nwhile time.process_time() < 0.8: pass"
    busy = "import sys, time\nwhile time.process_time() < 4: pass\nprint()\nsys.stdin.read()"
    older = subprocess.Popen([sys.executable, "-c", busy], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert older.stdin and older.stdout and older.stdout.readline()
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {work!r}])"
    with CpuMeter() as meter:
        subprocess.run([sys.executable, "-c", nested], check=True)
    older.communicate()
    assert 0.5 < meter.seconds < 3


def test_what_our_engine_finds_is_what_its_shards_add_up_to(tmp_path: Path) -> None:
    terms = draw_terms(20)
    job = Job(tuple(terms), Fold(load_tokenizer("minilm")), MiningOptions())
    text = draw_text(tmp_path / "a.txt", 60_000, terms, 0.2)
    shards = cut(text.path, job, 3)
    assert len(shards) == 3
    case = Case(shards, job, tmp_path, 1)
    found = run(LOCAL, case)
    packed = engine_ways.pickle.dumps(job)
    total, size = added(job, (mine_shard(packed, shard, engine_ways.ALL) for shard in shards))
    assert found.sha256 == engine_ways.hashlib.sha256(total.to_bytes()).hexdigest()
    assert 0 < found.received <= size and found.cpu > 0
    assert run(LOCAL, replace(case, shards=shards[:2], folder=tmp_path / "less")).sha256 != found.sha256


@pytest.mark.parametrize("name", engine_ways.WAYS)
def test_every_way_that_is_there_runs_apart(name: str, tmp_path: Path) -> None:
    needs = engine_ways.WAYS[name][1]
    if needs is not None and not find_spec(needs):
        pytest.skip(f"{needs} is not installed")
    terms = draw_terms(20)
    job = Job(tuple(terms), Fold(load_tokenizer("minilm")), MiningOptions())
    shards = cut(draw_text(tmp_path / "a.txt", 30_000, terms, 0.2).path, job, 2)
    here = run(LOCAL, Case(shards, job, tmp_path, 1))
    assert engines.run_apart(name, shards, job, 2).sha256 == here.sha256
