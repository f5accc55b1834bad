from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contrastok.checkpoint import load_checkpoint
from contrastok.config import TrainConfig
from contrastok.errors import InputError


def test_with_rows_swaps_and_restores(trained: tuple[TrainConfig, dict[str, Any]]) -> None:
    config, _ = trained
    assert config.out
    checkpoint = load_checkpoint(config.out)
    before = checkpoint.table().copy()
    with checkpoint.with_rows(checkpoint.initial_rows):
        ids = [t["ids"][0] for t in checkpoint.manifest["tokens"]]
        assert np.array_equal(checkpoint.table()[ids], checkpoint.initial_rows)
    assert np.array_equal(checkpoint.table(), before)


def test_no_checkpoint(tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(InputError, match="no checkpoint of contrastok"):
        load_checkpoint(tiny_model)
    (tmp_path / "contrastok.json").write_text("{}")
    with pytest.raises(InputError, match="is broken"):
        load_checkpoint(tmp_path)
