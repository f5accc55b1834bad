from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from contrastok.checkpoint import INITIAL_ROWS, MANIFEST, ROWS, load_checkpoint
from contrastok.config import ApplyConfig, TrainConfig
from contrastok.errors import InputError
from contrastok.export import apply
from contrastok.files import sha256_file
from contrastok.tensor_file import read_tensors, write_tensors
from contrastok.trainer import train

Make = Callable[..., TrainConfig]


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
    rows, about = read_tensors(folder / ROWS, "")
    write_tensors(folder / ROWS, rows, {**(about or {}), "init": "predictor"})
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


def test_apply_rebuilds_the_checkpoint_bit_by_bit(trained: tuple[TrainConfig, dict[str, Any]], tmp_path: Path) -> None:
    config, _ = trained
    assert config.out
    alone = tmp_path / "new_rows.safetensors"
    alone.write_bytes((config.out / "new_rows.safetensors").read_bytes())
    assert alone.stat().st_size < 10_000
    for source, out in ((config.out / "new_rows.safetensors", tmp_path / "beside"), (alone, tmp_path / "alone")):
        apply(ApplyConfig(rows=source, model=config.model, out=out, quiet=True))
        for name in ("model.safetensors", "tokenizer.json", "config.json", "initial_rows.safetensors"):
            assert sha256_file(out / name) == sha256_file(config.out / name), name
        load_checkpoint(out)
    with pytest.raises(InputError, match="trained for"):
        apply(ApplyConfig(rows=alone, model="minilm", out=tmp_path / "wrong", quiet=True))
    assert not (tmp_path / "wrong").exists()


@pytest.mark.parametrize("init", ["mvn", "charlen_mean"])
def test_rows_made_again_follow_norm_and_seed(make_config: Make, tmp_path: Path, init: str) -> None:
    config = make_config(epochs=1, init=init, init_norm="median", seed=5)
    train(config)
    assert config.out
    alone = tmp_path / ROWS
    alone.write_bytes((config.out / ROWS).read_bytes())
    for out in (tmp_path / "once", tmp_path / "twice"):  # the second from what the first wrote
        apply(ApplyConfig(rows=alone, model=config.model, out=out, quiet=True))
        assert sha256_file(out / INITIAL_ROWS) == sha256_file(config.out / INITIAL_ROWS)
        manifest = json.loads((out / MANIFEST).read_text())
        assert (manifest["init"], manifest["init_norm"], manifest["seed"]) == (init, "median", 5)
        alone.write_bytes((out / ROWS).read_bytes())


def test_rows_of_older_versions_were_kept_as_made(config: TrainConfig, tmp_path: Path) -> None:
    """Neither their delta nor their manifest says anything of norms."""
    folder = tmp_path / "old"
    shutil.copytree(str(config.out), folder)
    with safe_open(folder / ROWS, framework="pt") as handle:
        about = json.loads(handle.metadata()["contrastok"])
    told = {name: value for name, value in about.items() if name not in ("init_norm", "seed", "sha256")}
    save_file(load_file(folder / ROWS), folder / ROWS, metadata={"contrastok": json.dumps(told)})
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["init_norm"], manifest["files"]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    before = sha256_file(folder / INITIAL_ROWS)
    (folder / INITIAL_ROWS).unlink()
    apply(ApplyConfig(rows=folder / ROWS, model=config.model, out=tmp_path / "new", quiet=True))
    assert sha256_file(tmp_path / "new" / INITIAL_ROWS) == before


def test_a_manifest_about_other_rows_is_not_taken(
    trained: tuple[TrainConfig, dict[str, Any]], make_config: Make
) -> None:
    config, _ = trained
    other = make_config(epochs=0)
    assert config.out and other.out
    train(other)
    manifest = json.loads((other.out / "contrastok.json").read_text())
    manifest["tokens"][0]["token"] = "something else"
    (other.out / "contrastok.json").write_text(json.dumps(manifest))
    rebuilt = other.out.with_name("rebuilt")
    apply(ApplyConfig(rows=other.out / "new_rows.safetensors", model=other.model, out=rebuilt, quiet=True))
    assert load_checkpoint(rebuilt).manifest["tokens"][0]["token"] == "zorblaxin"
    (other.out / "contrastok.json").write_text("{broken")
    with pytest.raises(InputError, match="is broken"):
        apply(ApplyConfig(rows=other.out / "new_rows.safetensors", model=other.model, out=rebuilt, overwrite=True))


def test_a_model_that_holds_its_table_twice(
    tokenizers_by_family: dict[str, Any], make_config: Make, tmp_path: Path
) -> None:
    """T5 shares its table between two modules; training, merging and applying must move both."""
    from transformers import T5Config, T5EncoderModel

    tokenizer = tokenizers_by_family["unigram"]
    torch.manual_seed(0)
    config = T5Config(vocab_size=len(tokenizer), d_model=32, d_kv=16, d_ff=48, num_layers=2, num_heads=2)
    T5EncoderModel(config).save_pretrained(tmp_path / "t5")
    tokenizer.save_pretrained(tmp_path / "t5")
    options = make_config("unigram", model=str(tmp_path / "t5"), out=tmp_path / "out", epochs=1)
    train(options)
    apply(
        ApplyConfig(
            rows=tmp_path / "out" / "new_rows.safetensors", model=options.model, out=tmp_path / "again", quiet=True
        )
    )
    assert sha256_file(tmp_path / "out" / "model.safetensors") == sha256_file(tmp_path / "again" / "model.safetensors")
