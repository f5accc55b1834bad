from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from benchmarks import transfer
from contrastok.eval.sts import RatedPairs
from tests.conftest import kitchen_lines


def test_every_line_has_the_same_tokenizer_and_its_own_rows(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "INITS", ("mean", "charlen_mean"))
    lines = kitchen_lines()[:200]
    rated = RatedPairs(tuple(lines[:6]), tuple(lines[6:12]), (1.0, 2.0, 3.0, 4.0, 5.0, 0.0))
    found = transfer.measure(lines, rated, Namespace(model=str(tiny_model), hypernet=None, vocabulary=400))
    mean, pieces = (found["lines"][init] for init in ("mean", "charlen_mean"))
    assert mean["copied"] + mean["predicted"] + mean["fallen_back"] == mean["tokens"] <= 400
    assert mean["predicted"] == pieces["predicted"] > 0 and mean["fidelity"]["texts"] == 20
    assert mean["fidelity"]["mean"] != pieces["fidelity"]["mean"] and mean["sts"] != pieces["sts"]
    table = transfer.to_markdown(found).splitlines()
    assert len(table) == 5 and table[2].startswith("| the model itself | 1.000 |")
    assert table[4].startswith(f"| `charlen_mean` | {pieces['fidelity']['mean']:.3f} |")
