from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contrastok.checkpoint import load_checkpoint, read_rows
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


@pytest.mark.parametrize("name", ["model.safetensors", "new_rows.safetensors", "initial_rows.safetensors"])
def test_a_flipped_bit_is_seen(trained: tuple[TrainConfig, dict[str, Any]], tmp_path: Path, name: str) -> None:
    config, _ = trained
    folder = tmp_path / "model"
    shutil.copytree(str(config.out), folder)
    load_checkpoint(folder)
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name}: changed after"):
        load_checkpoint(folder)
    if name != "model.safetensors":  # `contrastok apply` reads the rows alone
        with pytest.raises(InputError, match=rf"{name}: changed after"):
            read_rows(folder / name)
    (folder / name).unlink()
    with pytest.raises(InputError, match=rf"{name}: no such file") as told:
        load_checkpoint(folder)
    rebuilt = f"contrastok apply {folder / 'new_rows.safetensors'}"  # from a file that is there, and whole
    assert (rebuilt in told.value.hint) is (name != "new_rows.safetensors") and "train it again" in told.value.hint
