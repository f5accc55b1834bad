from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
import torch

from benchmarks.harness import Measured, Steps, against, positive, take_turns, timed, write_json


def busy(megabytes: int) -> Steps:
    """Steps that hold so much memory while they run."""

    def step() -> None:
        torch.ones(megabytes * 2**18).sum()

    return timed(step)


def test_a_ratio_is_of_neighbours_in_time() -> None:
    ours = [Measured([1.0, 3.0], 10), Measured([2.0, 6.0], 30), Measured([1.0, 1.0], 20)]
    peer = [Measured([2.0, 6.0], 40), Measured([12.0, 12.0], 40), Measured([1.0, 1.0], 90)]
    found = against(ours, peer)
    assert found == {"times_faster": 2.0, "least": 1.0, "most": 3.0, "memory_ratio": 2.0}
    uneven = against([Measured([1.0, 1.0, 10.0], 1)], [Measured([2.0, 2.0, 2.0], 1)], alike=True)
    assert uneven["times_faster"] == 2.0


@pytest.mark.skipif(torch.cuda.is_available(), reason="counts the memory of the host")
def test_methods_take_turns_in_processes_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    found = take_turns({"small": (busy, (8,)), "large": (busy, (200,))}, steps=3, warmup=1, rounds=2)
    assert [line.split(":")[0].strip() for line in capsys.readouterr().err.splitlines() if "steps/s" in line] == [
        "small", "large", "small", "large",
    ]  # fmt: skip
    assert all(len(m.seconds) == 3 for measured in found.values() for m in measured)
    assert all(150 * 2**20 < m.peak < 300 * 2**20 for m in found["large"])
    assert all(m.peak < 100 * 2**20 for m in found["small"])


def test_results_say_where_they_were_measured(tmp_path: Path) -> None:
    write_json({"ratio": 2.0}, tmp_path / "r.json")
    facts = json.loads((tmp_path / "r.json").read_text())
    assert facts["ratio"] == 2.0 and facts["device"] and facts["versions"]["torch"] == torch.__version__
    write_json({"ratio": 2.0}, None)


def test_there_is_no_round_of_nothing() -> None:
    assert positive("12") == 12
    for text in ("0", "-1", "1.5", "many"):
        with pytest.raises(argparse.ArgumentTypeError, match="from 1 on"):
            positive(text)
