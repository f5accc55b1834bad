from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

from contrastok.checkpoint import load_checkpoint
from contrastok.cli import main
from contrastok.config import ApplyConfig, TrainConfig
from contrastok.errors import ConfigError, InputError, ModelError, OutputError
from contrastok.export import apply
from contrastok.files import sha256_file
from contrastok.last_good import last_good_path
from contrastok.loop import CurvePoint, DivergedError, Loop, state_path
from contrastok.trainer import train
from tests.contrastok.test_tracking import stopped_after

Make = Callable[..., TrainConfig]


def test_the_loss_falls_and_rows_move(trained: tuple[TrainConfig, dict[str, Any]]) -> None:
    config, summary = trained
    assert summary["steps"] == 24 and summary["tokens"] == 3 and config.out
    losses = [p["loss"] for p in json.loads((config.out / "contrastok.json").read_text())["training"]["curve"]]
    assert np.mean(losses[-6:]) < np.mean(losses[:6])
    assert summary["last"]["move"] > 0.01
    assert summary["frozen"]["sha256_before"] == summary["frozen"]["sha256_after"]
    assert summary["gate"]["passed"]


def test_stock_libraries_load_it_without_contrastok(
    trained: tuple[TrainConfig, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loading imports nothing of ours; tests/e2e does it in a process where none of it was ever there."""
    config, _ = trained
    path = str(config.out)
    for name in ("contrastok", *(name for name in sys.modules if name.startswith("contrastok."))):
        monkeypatch.setitem(sys.modules, name, None)
    model, tokenizer = AutoModel.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    ids = tokenizer("we bought zorblaxin at the market")["input_ids"]
    assert max(ids) < model.get_input_embeddings().weight.shape[0] == model.config.vocab_size
    assert "zorblaxin" in tokenizer.convert_ids_to_tokens(ids)
    assert SentenceTransformer(path, device="cpu").encode(["we bought zorblaxin at the market"]).shape == (1, 32)


def test_texts_without_new_tokens_keep_their_bits(trained: tuple[TrainConfig, dict[str, Any]]) -> None:
    config, _ = trained
    words = ["cheese", "bread", "knife", "soup", "market", "table", "cook", "wine", "old", "warm", "zorblaxins", "zorb"]
    texts = [f"the {a} and a {b}, {c}." for a in words for b in words for c in words[:8]][:1000]
    assert len(texts) == 1000
    before = SentenceTransformer(config.model, device="cpu").encode(texts)
    after = SentenceTransformer(str(config.out), device="cpu").encode(texts)
    assert np.array_equal(before, after)


@pytest.mark.parametrize("family", ["byte-bpe", "unigram"])
@pytest.mark.parametrize("mode", ["added", "vocab"])
def test_other_tokenizers_and_padded_tables(make_config: Make, family: str, mode: str) -> None:
    config = make_config(family, padding=2, token_mode=mode, epochs=1)
    summary = train(config)
    assert summary["frozen"]["sha256_before"] == summary["frozen"]["sha256_after"] and config.out
    checkpoint = load_checkpoint(config.out)
    for token in checkpoint.manifest["tokens"]:
        assert token["evidence"]["anchors"] == 4
        for i in token["ids"]:  # every form of a term has the same row
            assert np.array_equal(checkpoint.table()[i], checkpoint.rows[token["row"]])


def test_same_seed_same_bits_other_seed_other_bits(
    make_config: Make, trained: tuple[TrainConfig, dict[str, Any]]
) -> None:
    first, _ = trained
    again, other = make_config(epochs=8), make_config(epochs=8, seed=1)
    train(again)
    train(other)
    assert first.out and again.out and other.out
    assert sha256_file(first.out / "model.safetensors") == sha256_file(again.out / "model.safetensors")
    assert sha256_file(first.out / "contrastok.json") == sha256_file(again.out / "contrastok.json")
    assert sha256_file(first.out / "new_rows.safetensors") != sha256_file(other.out / "new_rows.safetensors")


def test_a_killed_run_resumes_to_the_same_bytes(make_config: Make, capsys: pytest.CaptureFixture[str]) -> None:
    """SIGKILL in the middle of the steps; the same command then gives what an undisturbed run gives."""
    whole = make_config(epochs=40, checkpoint_every=1)
    killed = make_config(epochs=40, checkpoint_every=1)
    train(whole)
    assert whole.out and killed.out
    flags = [
        "train", "--terms", str(killed.terms[0]), "--pairs", str(killed.pairs), "--model", killed.model, "--out", str(killed.out),
        "--batch-size", "4", "--epochs", "40", "--learning-rate", "0.05", "--checkpoint-every", "1", "--device", "cpu",
    ]  # fmt: skip
    state = killed.out.with_name(f".{killed.out.name}.resume") / "state.safetensors"
    process = subprocess.Popen([sys.executable, "-m", "contrastok", *flags], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 600
    while not state.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert state.exists() and not killed.out.exists()
    assert main(flags) == 0
    assert "Resuming at step" in capsys.readouterr().err
    for name in ("model.safetensors", "new_rows.safetensors", "contrastok.json", "tokenizer.json"):
        assert sha256_file(killed.out / name) == sha256_file(whole.out / name), name
    assert not state.exists()


def test_a_damaged_state_is_ignored(make_config: Make) -> None:
    config = make_config(epochs=1, checkpoint_every=1)
    assert config.out
    train(config)
    folder = config.out.with_name(f".{config.out.name}.resume")
    folder.mkdir()
    (folder / "state.safetensors").write_bytes(b"no state at all")
    summary = train(replace(config, overwrite=True))
    assert summary["steps"] == 3


def test_the_state_of_another_run_is_ignored(
    make_config: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped, and started again with another seed: it begins anew, and not one step of the first run is in the rows."""
    stopped = make_config(epochs=2, checkpoint_every=1)
    undisturbed = make_config(epochs=2, checkpoint_every=1, seed=7)
    train(undisturbed)
    assert stopped.out and undisturbed.out
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stopped_after(3, patch)
        train(stopped)
    assert state_path(stopped.out).joinpath("state.safetensors").is_file()
    train(replace(stopped, seed=7, overwrite=True, quiet=False))
    assert "Resuming" not in capsys.readouterr().err
    for name in ("model.safetensors", "new_rows.safetensors", "contrastok.json"):
        assert sha256_file(stopped.out / name) == sha256_file(undisturbed.out / name), name


def test_zero_steps_leave_the_initial_rows(make_config: Make) -> None:
    config = make_config(epochs=0, init="subtoken_mean")
    summary = train(config)
    assert summary["steps"] == 0 and summary["last"] is None and config.out
    checkpoint = load_checkpoint(config.out)
    assert np.array_equal(checkpoint.rows, checkpoint.initial_rows)


def test_dry_run_writes_nothing(make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTRASTOK_CACHE", str(tmp_path / "cache"))
    config = make_config(dry_run=True)
    assert config.out
    before = sorted(config.out.parent.rglob("*"))
    summary = train(config)
    assert summary["steps"] == 9 and summary["seconds"] > 0 and summary["memory_mb"] > 0
    assert sorted(config.out.parent.rglob("*")) == before and not (tmp_path / "cache").exists()


@pytest.mark.parametrize("options", [{"precision": "bf16"}, {"gradient_accumulation": 3}, {"bank_size": 2}])
def test_ways_of_training(make_config: Make, options: dict[str, Any]) -> None:
    summary = train(make_config(epochs=2, **options))
    assert summary["last"]["move"] > 0.005 and np.isfinite(summary["last"]["loss"])
    assert summary["steps"] == (2 if "gradient_accumulation" in options else 6)


def test_bf16_holds_the_frozen_weights_once_and_the_checkpoint_has_the_base_models_bits(
    make_config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[torch.dtype] = []
    run = Loop.run

    def watched(loop: Loop) -> list[CurvePoint]:
        held.extend(p.dtype for p in loop.model.parameters() if p is not loop.overlay.rows)
        assert loop.overlay.rows.dtype == torch.float32
        return run(loop)

    monkeypatch.setattr(Loop, "run", watched)
    config = make_config(epochs=1, precision="bf16")
    summary = train(config)
    assert held and set(held) == {torch.bfloat16}
    assert summary["frozen"]["sha256_before"] == summary["frozen"]["sha256_after"]
    assert summary["frozen"] == train(make_config(epochs=1))["frozen"]
    loaded = AutoModel.from_pretrained(str(config.out), dtype="auto")
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}


def test_a_profile_tells_the_parts_of_a_step_and_changes_no_bit(
    make_config: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, watched = make_config(epochs=1), make_config(epochs=1, profile=True, quiet=False)
    assert "profile" not in train(plain)
    summary = train(watched)
    assert set(summary["profile"]) == {
        "batches", "embedding", "body forward", "loss", "backward", "optimizer", "figures",
    }  # fmt: skip
    assert all(milliseconds > 0 for milliseconds in summary["profile"].values())
    assert "body forward" in capsys.readouterr().err
    assert plain.out and watched.out
    assert sha256_file(plain.out / "model.safetensors") == sha256_file(watched.out / "model.safetensors")


def test_existing_output_is_refused_before_any_work(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config()
    assert config.out
    config.out.mkdir()
    (config.out / "mine.txt").write_text("precious")
    monkeypatch.setattr("contrastok.trainer.load_with_head", None)
    with pytest.raises(OutputError, match="--overwrite"):
        train(config)
    assert (config.out / "mine.txt").read_text() == "precious"


def test_overwrite_replaces_the_whole_folder(make_config: Make) -> None:
    config = make_config(epochs=0, overwrite=True)
    assert config.out
    config.out.mkdir()
    (config.out / "old.txt").write_text("old")
    with pytest.raises(OutputError, match="did not write"):  # somebody else's folder
        train(config)
    (config.out / "contrastok.json").write_text("{}")
    train(config)
    assert not (config.out / "old.txt").exists() and (config.out / "model.safetensors").exists()


def test_overwrite_never_takes_an_input(make_config: Make) -> None:
    config = make_config(overwrite=True)
    assert config.pairs
    for out in (config.pairs, config.pairs.parent, Path.cwd(), config.pairs / "inside", Path(config.model)):
        with pytest.raises(OutputError, match=r"would replace|lies inside"):
            train(replace(config, out=out))
    assert (config.pairs / "pairs.parquet").exists()


def test_the_json_file_is_checked_before_the_work(make_config: Make, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder"):
        train(make_config(json=tmp_path, overwrite=True))
    (tmp_path / "s.json").write_text("mine")
    with pytest.raises(OutputError, match="--overwrite"):
        train(make_config(json=tmp_path / "s.json"))


def test_an_output_that_appears_during_the_run_is_not_replaced(
    make_config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(epochs=0)
    from contrastok import trainer

    real = trainer.build_manifest

    def meanwhile(*args: Any) -> Any:
        assert config.out
        config.out.mkdir()
        (config.out / "contrastok.json").write_text("of another run")
        return real(*args)

    monkeypatch.setattr(trainer, "build_manifest", meanwhile)
    with pytest.raises(OutputError, match="another run"):
        train(config)
    assert config.out and (config.out / "contrastok.json").read_text() == "of another run"


def test_files_can_be_read_by_those_whom_the_umask_lets(trained: tuple[TrainConfig, dict[str, Any]]) -> None:
    config, _ = trained
    assert config.out
    assert len({path.stat().st_mode & 0o777 for path in config.out.iterdir() if path.is_file()}) == 1


def test_terms_and_paths_that_look_like_markup(make_config: Make, tmp_path: Path) -> None:
    terms = tmp_path / "terms.txt"
    terms.write_text("zorblaxin\n[/bold]\n[/BOLD]\n[red]\n")
    out = tmp_path / "m[/x]"
    train(make_config(terms=(terms,), epochs=0, out=out, quiet=False))
    assert (out / "contrastok.json").exists()
    apply(ApplyConfig(rows=out / "new_rows.safetensors", model=make_config().model, out=tmp_path / "a[/y]"))
    assert (tmp_path / "a[/y]").exists()


def test_pairs_of_another_tokenizer(make_config: Make) -> None:
    config = make_config()
    with pytest.raises(InputError, match="another"):
        train(replace(config, model="minilm"))


def test_pairs_that_changed(make_config: Make, tmp_path: Path) -> None:
    config = make_config()
    assert config.pairs
    copy = tmp_path / "pairs"
    copy.mkdir()
    for name in ("pairs.json", "pairs.parquet"):
        (copy / name).write_bytes((config.pairs / name).read_bytes())
    (copy / "pairs.parquet").write_bytes(b"PAR1 broken")
    with pytest.raises(InputError, match="changed after"):
        train(replace(config, pairs=copy))
    (copy / "pairs.json").unlink()
    with pytest.raises(InputError, match="no readable parquet"):
        train(replace(config, pairs=copy))
    with pytest.raises(InputError, match="no such file"):
        train(replace(config, pairs=tmp_path / "nowhere"))


def test_unknown_initialiser_and_mode_are_told(make_config: Make) -> None:
    config = make_config(init="charlen")
    with pytest.raises(ConfigError, match="charlen_mean"):
        train(config)
    assert config.out and not config.out.exists()


def test_strict_refuses_terms_that_cannot_be_added(make_config: Make, tmp_path: Path) -> None:
    file = tmp_path / "terms.txt"
    file.write_text("zorblaxin\nthe\n")
    config = make_config(terms=(file,), strict=True)
    with pytest.raises(InputError, match="already one token"):
        train(config)


def test_a_loss_that_is_not_finite_stops_and_the_last_good_rows_are_kept(
    make_config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows saved after step 4 are what a run of the same steps has then; the loss of step 6 is no number."""
    from contrastok.objectives import contrast

    real, real_step, calls = contrast.anchored_info_nce, Loop.step, 0

    def poisoned(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        terms = real(*args, **kwargs)
        return replace(terms, total=terms.total * float("nan")) if calls == 6 else terms

    after: list[torch.Tensor] = []

    def watched(loop: Loop, step: int, batch: Any) -> torch.Tensor:
        figures = real_step(loop, step, batch)
        after.append(loop.overlay.rows.detach().clone())
        return figures

    monkeypatch.setattr(Loop, "step", watched)
    monkeypatch.setattr(contrast, "anchored_info_nce", poisoned)
    config = make_config(checkpoint_every=2)
    assert config.out
    with pytest.raises(DivergedError, match="not finite at step 6") as told:
        train(config)
    assert not config.out.exists() and told.value.kept == 4
    kept = last_good_path(config.out)
    assert str(kept) in told.value.hint
    apply(ApplyConfig(rows=kept, model=config.model, out=config.out, quiet=True))
    assert np.array_equal(load_checkpoint(config.out).rows, after[3].numpy())


@pytest.mark.parametrize("options", [{"trainable": "full"}, {"lora": True}, {"checkpoint_every": 100}])
def test_rows_that_are_not_finite_never_become_a_checkpoint(
    make_config: Make, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    """A row that overflows in the last step shows in no loss; rows beside moved old ones or a moved body are not kept alone."""
    real_step = Loop.step

    def overflowing(loop: Loop, step: int, batch: Any) -> torch.Tensor:
        figures = real_step(loop, step, batch)
        if step + 1 == len(loop.feed):
            loop.overlay.rows.data[0, 0] = float("inf")
        return figures

    monkeypatch.setattr(Loop, "step", overflowing)
    config = make_config(epochs=1, **options)
    assert config.out
    with pytest.raises(DivergedError, match="not finite after step 3"):
        train(config)
    assert not config.out.exists() and last_good_path(config.out).exists() == ("checkpoint_every" in options)


def test_several_processes_are_refused(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accelerate.Accelerator.num_processes", 2)
    with pytest.raises(ModelError, match="one process"):
        train(make_config())


def test_manifest_tells_the_story(trained: tuple[TrainConfig, dict[str, Any]]) -> None:
    config, _ = trained
    assert config.out
    manifest = json.loads((config.out / "contrastok.json").read_text())
    token = manifest["tokens"][0]
    assert token["token"] == "zorblaxin" and len(token["pieces"]) > 1 and token["move"] > 0
    assert token["definition"] == "a hard cheese from the hills"
    assert {"name": "hill cheese", "kind": "synonym", "held_out": False} in token["relations"]
    assert len(manifest["training"]["curve"]) == 24
    card = (config.out / "README.md").read_text()
    assert "zorblaxin" in card and manifest["frozen"]["sha256_after"][:16] in card


def test_a_full_disk_leaves_nothing_behind(make_config: Make, capsys: pytest.CaptureFixture[str]) -> None:
    """A limit on file size stands in for a full disk: the checkpoint cannot be written, nothing stays."""
    config = make_config(epochs=0)
    assert config.out
    flags = ["train", "--terms", config.terms[0], "--pairs", config.pairs, "--model", config.model, "--out", config.out]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        code = main([*map(str, flags), "--epochs", "0", "--quiet"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert code == 2 and "could not be written" in capsys.readouterr().err
    assert list(config.out.parent.iterdir()) == []
