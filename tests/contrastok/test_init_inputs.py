"""What initialisers read: asked for before anything is done, and part of what makes a run the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contrastok.bank import FrozenEncoder
from contrastok.config import TrainConfig
from contrastok.errors import ContrastokError
from contrastok.files import sha256_path
from contrastok.hypernet.store import base_of, save_network
from contrastok.hypernet.training import Trained
from contrastok.init_inputs import input_hashes
from contrastok.models import load_model
from contrastok.trainer import train
from tests.contrastok.conftest import GLOSSARY
from tests.contrastok.test_tracking import stopped_after

Make = Callable[..., TrainConfig]


def write_vectors(file: Path, scale: float) -> Path:
    words = ["the", "cook", "and", "market", "table", *GLOSSARY]
    file.write_text(
        "".join(f"{w.replace(' ', '_')} {i * scale + 1} {i % 3 - 1} {scale}\n" for i, w in enumerate(words))
    )
    return file


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


@pytest.mark.parametrize(
    ("init", "option", "takes"),
    [("focus", "init_vectors", "word vectors"), ("hypernet", "init_hypernet", "train-hypernet"), ("omp", "init_model", "minilm")],
)  # fmt: skip
def test_what_is_missing_is_told_by_its_option_before_anything_is_loaded(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, init: str, option: str, takes: str
) -> None:
    monkeypatch.setattr("contrastok.trainer.load_with_head", None)
    path, name = tmp_path / "nowhere", f"--{option.replace('_', '-')}"
    given = str(path) if option == "init_model" else path
    for dry in (False, True):
        with pytest.raises(ContrastokError, match=rf"^{name} .*nowhere: no such .*folder") as caught:
            train(make_config(init=init, dry_run=dry, **{option: given}))
        assert f"{name} takes" in caught.value.hint and takes in caught.value.hint


@pytest.mark.parametrize("dry", [False, True])
def test_an_initialiser_is_asked_before_the_plan_is_printed_and_anything_is_encoded(
    make_config: Make, empty: Path, monkeypatch: pytest.MonkeyPatch, dry: bool
) -> None:
    monkeypatch.setattr(FrozenEncoder, "_cached", None)
    monkeypatch.setattr("contrastok.trainer.plan_table", None)
    terms = empty.parent / "terms.jsonl"
    terms.write_text(json.dumps({"token": "zorblaxin"}) + "\n")
    refused: dict[str, tuple[dict[str, Any], str]] = {
        "merge_tree": ({}, "does not apply: the tokenizer is a wordpiece one"),
        "sava": ({"init_model": str(empty)}, rf"--init-model {empty}: holds no model"),
        "hypernet": ({"init_hypernet": empty}, "is no hypernetwork"),
        "focus": ({"init_vectors": terms}, "terms.jsonl:1: 1 numbers were expected after the word"),
        "alacarte": ({}, "needs evidence of terms and known words"),
    }
    for init, (options, why) in refused.items():
        config = make_config(init=init, dry_run=dry, **options)
        with pytest.raises(ContrastokError, match=why) as caught:
            train(config)
        assert caught.value.hint and config.out and not config.out.exists()


def test_a_hypernetwork_of_another_model_is_refused_by_a_dry_run(
    make_config: Make, make_model: Callable[..., Path], tmp_path: Path
) -> None:
    from contrastok.hypernet.network import HyperNetwork

    (tmp_path / "net").mkdir()
    other = load_model(str(make_model("unigram")))
    about = {"settings": {"layers": 1}, "recovery_mrr": {}}
    save_network(tmp_path / "net", Trained(HyperNetwork(32, 1), about), base_of(other, "other"))
    with pytest.raises(ContrastokError, match="was trained for 'other', and the embedding table of this model"):
        train(make_config(init="hypernet", init_hypernet=tmp_path / "net", dry_run=True))


def test_a_run_goes_on_with_the_same_contents_alone(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_vectors(tmp_path / "v.vec", 0.5)
    for replaced in (False, True):
        config = make_config(init="wechsel", init_vectors=file, epochs=6, checkpoint_every=1, quiet=False)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            stopped_after(6, patch)
            train(config)
        if replaced:
            write_vectors(file, 0.25)
        capsys.readouterr()
        train(config)
        assert ("Resuming at step" in capsys.readouterr().err) is not replaced


def test_hashes_are_of_contents(make_config: Make, make_model: Callable[..., Path], tmp_path: Path) -> None:
    donor, file = make_model("unigram"), write_vectors(tmp_path / "v.vec", 0.5)
    config = make_config(init_model=str(donor), init_vectors=file, init_hypernet=tmp_path)
    before = input_hashes(config)
    assert before == {"init_vectors": sha256_path(file), "init_model": sha256_path(donor), "init_hypernet": sha256_path(tmp_path)}  # fmt: skip
    assert len({*before.values()}) == 3 and input_hashes(config) == before and input_hashes(make_config()) == {}
    (donor / "model.safetensors").write_bytes((donor / "model.safetensors").read_bytes()[:-1] + b"x")
    write_vectors(file, 0.25)
    assert not set(before.values()) & set(input_hashes(config).values())
    before = input_hashes(config)
    file.rename(file.with_name("w.vec"))  # a folder's files are told apart by their names, too
    assert sha256_path(tmp_path) != before["init_hypernet"]
