from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contrastok import bank
from contrastok.candidates import candidates
from contrastok.checkpoint import load_checkpoint
from contrastok.config import GenPairsConfig, ReportConfig, TrainConfig
from contrastok.data_gen.pipeline import gen_pairs
from contrastok.errors import ConfigError, InputError, ModelError
from contrastok.eval.report import report
from contrastok.evidence import WordEvidence, read_evidence
from contrastok.files import sha256_file
from contrastok.initializers import initial_rows
from contrastok.models import load_tokenizer
from contrastok.starting import PLAIN, PREDICTOR, choose_init
from contrastok.state import RunState
from contrastok.trainer import train
from tests.conftest import KITCHEN

FEW = 40
"""Known words that are enough here, see `few_known_words_do`."""
KNOWN = WordEvidence("brie", True, "", (), (), ())
FILES = ("model.safetensors", "new_rows.safetensors", "initial_rows.safetensors", "contrastok.json", "README.md")


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory, glossary_file: Path, tiny_model: Path) -> dict[str, Any]:
    """What gen-pairs finds in the kitchen's text about three made-up words and the tiny vocabulary."""
    folder = tmp_path_factory.mktemp("taught")
    lines = [
        f"{frame} {token} {rest}."
        for token in ("zorblaxin", "brimwax", "quib vexalotl")
        for frame, rest in (("We bought fresh", "at the market"), ("The cook likes", "with bread"))
    ]
    (folder / "corpus.txt").write_text("\n".join(lines) + "\n")
    common: dict[str, Any] = {"terms": (glossary_file,), "model": str(tiny_model), "quiet": True}
    corpus = (str(folder / "corpus.txt"), str(KITCHEN / "corpus"))
    gen_pairs(GenPairsConfig(**common, corpus=corpus, out=folder / "pairs", known_sentences=2, wordnet="none"))
    return {**common, "pairs": folder / "pairs", "device": "cpu", "batch_size": 4, "epochs": 2, "calibrate": 2}


@pytest.fixture
def make(
    few_known_words_do: None, taught: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., TrainConfig]:
    """A function (name, **options) -> TrainConfig that learns from the tiny vocabulary."""
    monkeypatch.setenv("CONTRASTOK_CACHE", str(tmp_path / "cache"))
    return lambda name, **options: TrainConfig(**{**taught, "out": tmp_path / name, **options})


def manifest_of(config: TrainConfig) -> dict[str, Any]:
    assert config.out
    found: dict[str, Any] = json.loads((config.out / "contrastok.json").read_text())
    return found


def test_auto_takes_the_predictor_where_it_can_be_learned(few_known_words_do: None) -> None:
    assert choose_init("auto", [KNOWN] * FEW) == PREDICTOR
    assert choose_init("auto", [KNOWN] * (FEW - 1)) == choose_init("auto", []) == choose_init("auto", None) == PLAIN
    assert choose_init("subtoken_mean", [KNOWN] * FEW) == "subtoken_mean"
    assert choose_init(PREDICTOR, [KNOWN] * FEW) == PREDICTOR


def test_the_predictor_is_refused_where_it_cannot_be_learned(
    few_known_words_do: None, make_config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contrastok.trainer.load_with_head", None)  # before anything is loaded
    config = make_config(init=PREDICTOR)
    with pytest.raises(InputError, match=r"without evidence.parquet.*\n.*gen-pairs again.*charlen_mean"):
        train(config)
    assert config.out and not config.out.exists()
    with pytest.raises(InputError, match=r"evidence of 39 words.*40 are needed.*\n.*charlen_mean"):
        choose_init(PREDICTOR, [KNOWN] * (FEW - 1))


def test_pairs_without_evidence_are_trained_as_before(make_config: Callable[..., TrainConfig]) -> None:
    config = make_config(epochs=0)
    train(config)
    manifest = manifest_of(config)
    assert manifest["init"] == PLAIN and "prior" not in manifest
    assert all("confidence" not in token for token in manifest["tokens"])


@pytest.mark.parametrize("init", ["align", "alacarte", "detok_map", "copy", "hybrid"])
def test_what_another_initialiser_needs_is_there(make: Callable[..., TrainConfig], init: str) -> None:
    config = make("model", init=init, init_norm="scale:2", epochs=0)
    train(config)
    manifest = manifest_of(config)
    assert (manifest["init"], manifest["init_norm"]) == (init, "scale:2") and "prior" not in manifest
    checkpoint = load_checkpoint(config.out)  # type: ignore[arg-type]
    assert checkpoint.initial_rows is not None and np.isfinite(checkpoint.initial_rows).all()
    assert np.array_equal(checkpoint.rows, checkpoint.initial_rows)


def test_predicted_rows_start_and_are_placed_at_the_norm_that_is_asked_for(make: Callable[..., TrainConfig]) -> None:
    config = make("model", init=PREDICTOR, init_norm="median", epochs=0)
    train(config)
    checkpoint = load_checkpoint(config.out)  # type: ignore[arg-type]
    old = checkpoint.table()[: len(checkpoint.base_tokenizer)]
    wanted = float(np.sort(np.linalg.norm(old, axis=-1))[(len(old) - 1) // 2])  # the lower median, as torch takes it
    assert checkpoint.initial_rows is not None
    for rows in (checkpoint.initial_rows, checkpoint.rows):
        np.testing.assert_allclose(np.linalg.norm(rows, axis=-1), wanted, rtol=1e-5)


def test_terms_that_the_model_cannot_spell_are_named(
    make: Callable[..., TrainConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "terms.txt").write_text("ⰀⰁⰂ\nzorblaxin\n")
    (tmp_path / "corpus.txt").write_text("The cook likes ⰀⰁⰂ with bread.\nWe bought fresh zorblaxin at the market.\n")
    common: dict[str, Any] = {"terms": (tmp_path / "terms.txt",), "quiet": True}
    model = make("model").model
    gen_pairs(GenPairsConfig(**common, model=model, corpus=(str(tmp_path / "corpus.txt"),), out=tmp_path / "pairs"))
    capsys.readouterr()
    train(make("model", terms=common["terms"], pairs=tmp_path / "pairs", epochs=0, quiet=False))
    assert "The pieces of 1 of 2 terms are unknown to the model (ⰀⰁⰂ)" in " ".join(capsys.readouterr().err.split())


def test_few_known_words_are_trained_as_before(taught: dict[str, Any], tmp_path: Path) -> None:
    config = TrainConfig(**{**taught, "out": tmp_path / "model", "epochs": 0})
    evidence = read_evidence(taught["pairs"])
    assert evidence and FEW < sum(word.known for word in evidence) < 500
    train(config)
    assert manifest_of(config)["init"] == PLAIN
    with pytest.raises(InputError, match="500 are needed"):
        train(replace(config, init=PREDICTOR, overwrite=True))


def test_a_run_with_the_predictor_tells_what_it_rests_on(make: Callable[..., TrainConfig]) -> None:
    config = make("model", quiet=False)
    summary = train(config)
    manifest = manifest_of(config)
    assert manifest["init"] == PREDICTOR and summary["frozen"]["sha256_before"] == summary["frozen"]["sha256_after"]
    prior = manifest["prior"]
    for fit in prior["fits"].values():
        assert FEW <= fit["known_words"] < 500 and fit["held_out"] <= 20 and 0 < fit["mrr"] <= 1
    assert len(prior["calibration"]) == 3 and prior["confidence_within"] == 10
    untouched = prior["calibration"][0]
    chosen = max(prior["calibration"], key=lambda t: t["row_mrr"] + t["output_mrr"])
    if chosen is untouched:  # no setting brings back more than the prior does by itself
        assert prior["settings"]["steps"] == 0
    else:
        assert {name: chosen[name] for name in prior["settings"]} == prior["settings"]
    used = manifest["training"]["settings"]
    assert prior["pair_settings"] == {name: value for name, value in used.items() if name != "learning_rate"}
    assert len(prior["pair_calibration"]) == 3 and used["learning_rate"] > 0
    assert sum(part["words"] for part in prior["reliability"]) <= 20
    assert all(0 < token["confidence"] < 1 for token in manifest["tokens"])
    assert any(point["words"] > 0 for point in manifest["training"]["curve"])
    checkpoint = load_checkpoint(config.out)  # type: ignore[arg-type]
    assert not np.array_equal(checkpoint.rows, checkpoint.initial_rows)


def test_a_report_reads_the_vocabulary_that_training_encoded(
    make: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make("model", epochs=0, calibrate=0)
    train(config)
    real, encoded = bank.encode_sequences, []

    def counted(*args: Any) -> Any:
        encoded.append(len(args[2]))
        return real(*args)

    monkeypatch.setattr(bank, "encode_sequences", counted)
    summary = report(ReportConfig(model=config.out, quiet=True))
    assert encoded and max(encoded) < 30 < len(candidates(load_tokenizer(config.model)).ids)
    assert summary["tokens"] == 3


def test_without_steps_the_rows_are_those_of_the_word_stage(make: Callable[..., TrainConfig]) -> None:
    plans = {"a": {"epochs": 0}, "b": {"epochs": 0, "word_weight": 0.0}, "c": {"epochs": 2, "word_weight": 0.0}}
    runs = [make(name, calibrate=0, **options) for name, options in plans.items()]  # 0: the built-in settings
    for config in runs:
        train(config)
    first, still, trained = (load_checkpoint(config.out) for config in runs)  # type: ignore[arg-type]
    assert np.array_equal(first.rows, still.rows) and np.array_equal(first.initial_rows, trained.initial_rows)
    assert not np.array_equal(first.rows, first.initial_rows) and not np.array_equal(first.rows, trained.rows)
    assert all(point["words"] == 0 for point in manifest_of(runs[2])["training"]["curve"])
    told = [manifest_of(config)["prior"]["pair_settings"] for config in runs]
    assert told[:2] == [{}, {}] and told[2]["word_weight"] == 0  # no pair stage; and what the options say


def test_twice_the_same_bytes_with_and_without_what_is_kept(
    make: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first, again, fresh, other = make("a"), make("b"), make("c"), make("d", seed=1)
    for config in (first, again):
        train(config)
    monkeypatch.setenv("CONTRASTOK_CACHE", str(tmp_path / "another"))
    for config in (fresh, other):
        train(config)
    for name in FILES:
        digests = [sha256_file(config.out / name) for config in (first, again, fresh) if config.out]
        assert len(set(digests)) == 1, name
    assert first.out and other.out
    assert sha256_file(first.out / FILES[1]) != sha256_file(other.out / FILES[1])


def test_a_dry_run_counts_what_is_to_be_read_and_writes_nothing(
    make: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    summary = train(make("model", dry_run=True))
    evidence = read_evidence(make("model").pairs) or ()  # type: ignore[arg-type]
    assert summary["known_texts"] >= sum(word.known for word in evidence) and summary["seconds"] > 0
    plain = train(make("model", dry_run=True, init=PLAIN))
    assert summary["known_anchors"] > 0 == plain["known_texts"] == plain["known_anchors"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("saves", [1, 4])
def test_an_interrupted_run_resumes_to_the_same_bytes(
    make: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], saves: int
) -> None:
    whole, stopped = (make(name, checkpoint_every=1, quiet=False) for name in ("whole", "stopped"))
    train(whole)
    real, left = RunState.save, iter(range(saves))

    def save(self: RunState, *args: Any) -> None:
        real(self, *args)
        if next(left) == saves - 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunState, "save", save)
        with pytest.raises(KeyboardInterrupt):
            train(stopped)
    assert whole.out and stopped.out and not stopped.out.exists()
    capsys.readouterr()
    train(stopped)
    assert f"Resuming at step {saves} of" in capsys.readouterr().err
    for name in FILES:
        assert sha256_file(stopped.out / name) == sha256_file(whole.out / name), name


def test_the_initialiser_alone_says_what_it_needs(make_config: Callable[..., TrainConfig], tiny_model: Path) -> None:
    from contrastok.export import init_context
    from contrastok.models import load_model
    from contrastok.vocabulary import plan_vocabulary

    model = load_model(str(tiny_model))
    context = init_context(model, plan_vocabulary(model.tokenizer, ["zorblaxin"]))
    with pytest.raises(ConfigError, match=r"needs the evidence.*\n.*train --pairs"):
        initial_rows(PREDICTOR, context)


def test_auto_does_without_a_predictor_that_cannot_be_learned(
    make: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Words that cannot be hidden are found out late: what was not asked for by name is then no error."""

    def refuse(*_: Any) -> None:
        raise ModelError("its words cannot be hidden")

    monkeypatch.setattr("contrastok.starting.make_predictor", refuse)
    train(make("model", epochs=0, quiet=False))
    assert manifest_of(make("model"))["init"] == PLAIN
    assert "cannot be hidden" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(ModelError, match="cannot be hidden"):
        train(make("other", epochs=0, init=PREDICTOR))


def test_auto_does_without_a_prior_that_brings_few_known_words_back(
    few_known_words_do: None,
    make: Callable[..., TrainConfig],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("contrastok.starting.TRUSTED", 2.0)
    train(make("model", epochs=0, quiet=False))
    assert manifest_of(make("model"))["init"] == PLAIN
    assert "known words come back with MRR" in " ".join(capsys.readouterr().err.split())
    train(make("other", epochs=0, init=PREDICTOR))
    assert manifest_of(make("other"))["init"] == PREDICTOR
