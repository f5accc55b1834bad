"""Rebuilding from the compact delta where the initial rows cannot be had; tests/contrastok/test_trainer.py has the rest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from contrastok.checkpoint import INITIAL_ROWS, MANIFEST, ROWS, load_checkpoint
from contrastok.config import ApplyConfig, TrainConfig
from contrastok.export import apply
from contrastok.trainer import train


@pytest.fixture(scope="module")
def config(make_config: Callable[..., TrainConfig]) -> TrainConfig:
    found = make_config(epochs=1)
    train(found)
    return found


@pytest.fixture
def predicted(config: TrainConfig, tmp_path: Path) -> Path:
    """The delta of a checkpoint that says its first rows came from the predictor."""
    folder = tmp_path / "predicted"
    shutil.copytree(str(config.out), folder)
    with safe_open(folder / ROWS, framework="pt") as handle:
        about = json.loads(handle.metadata()["contrastok"])
    rows = load_file(folder / ROWS)
    save_file(rows, folder / ROWS, metadata={"contrastok": json.dumps({**about, "init": "predictor"})})
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "init": "predictor"}))
    return folder / ROWS


@pytest.mark.parametrize("beside", [True, False])
def test_trained_rows_never_stand_in_for_unknown_initial_ones(
    predicted: Path, config: TrainConfig, tmp_path: Path, beside: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    predicted.with_name(INITIAL_ROWS).unlink()
    if not beside:
        predicted.with_name(MANIFEST).unlink()
    out = tmp_path / "rebuilt"
    summary = apply(ApplyConfig(rows=predicted, model=config.model, out=out))
    assert summary["initial_rows_known"] is False and not (out / INITIAL_ROWS).exists()
    assert "the initial rows are not known" in " ".join(capsys.readouterr().err.split())
    assert load_checkpoint(out).initial_rows is None
    again = tmp_path / "again"
    assert apply(ApplyConfig(rows=out / ROWS, model=config.model, out=again, quiet=True))["initial_rows_known"] is False


def test_known_initial_rows_are_kept(
    predicted: Path, config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "rebuilt"
    assert apply(ApplyConfig(rows=predicted, model=config.model, out=out))["initial_rows_known"] is True
    assert "not known" not in capsys.readouterr().err
    before = load_checkpoint(Path(str(config.out))).initial_rows
    assert before is not None and np.array_equal(load_checkpoint(out).initial_rows, before)
