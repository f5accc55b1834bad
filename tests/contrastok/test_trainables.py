from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from contrastok.bank import FrozenEncoder
from contrastok.checkpoint import load_checkpoint
from contrastok.cli import main
from contrastok.config import ApplyConfig, TrainConfig
from contrastok.errors import ConfigError, InputError
from contrastok.eval.measure import untouched_encoder
from contrastok.export import apply, init_context
from contrastok.initializers import initial_rows
from contrastok.models import load_model
from contrastok.overlay import attach
from contrastok.state import RunState
from contrastok.trainables import TRAINABLES
from contrastok.trainables.shared import LowRank, Mixture, convex_fit, effective_rank, neighbours, ridge_fit
from contrastok.trainer import train
from contrastok.vocabulary import extend_tokenizer, plan_vocabulary

Make = Callable[..., TrainConfig]
FAMILIES = ("wordpiece", "byte-bpe", "unigram")
FROZEN = [name for name, way in TRAINABLES.items() if not way.moves_old]
MOVING = [name for name, way in TRAINABLES.items() if way.moves_old]


def laid(config: TrainConfig, name: str) -> Any:
    model = load_model(config.model)
    plan = plan_vocabulary(model.tokenizer, ["zorblaxin", "brimwax"])
    first = initial_rows("subtoken_mean", init_context(model, plan))
    extend_tokenizer(model.tokenizer, plan)
    return model, plan, first, TRAINABLES[name].lay(model, plan, first, config)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", FROZEN)
def test_only_new_rows_move_and_the_loss_falls(make_config: Make, family: str, name: str) -> None:
    config = make_config(family, trainable=name, epochs=10, batch_size=12, learning_rate=None)
    summary = train(config)
    assert config.out and summary["frozen"]["sha256_before"] == summary["frozen"]["sha256_after"]
    assert "given_up" not in summary["frozen"]
    assert summary["last"]["loss"] < summary["first"]["loss"]
    checkpoint = load_checkpoint(config.out)
    assert checkpoint.initial_rows is not None and not np.array_equal(checkpoint.rows, checkpoint.initial_rows)
    for token in checkpoint.manifest["tokens"]:
        for i in token["ids"]:
            assert np.array_equal(checkpoint.table()[i], checkpoint.rows[token["row"]])
    stock = SentenceTransformer(str(config.out), device="cpu").encode(["zorblaxin is on the table"])
    assert np.isfinite(stock).all()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", MOVING)
def test_what_moves_old_rows_says_so(make_config: Make, family: str, name: str, capsys: Any) -> None:
    config = make_config(family, trainable=name, epochs=3, learning_rate=None, quiet=False)
    summary = train(config)
    told = capsys.readouterr().err
    assert config.out and summary["frozen"]["sha256_before"] != summary["frozen"]["sha256_after"]
    base, made = (load_file(Path(folder) / "model.safetensors") for folder in (config.model, config.out))
    table = next(key for key in base if key.endswith("word_embeddings.weight"))
    assert all(torch.equal(base[key], made[key]) for key in base if key != table)
    before, after = base[table], made[table][: len(base[table])]
    moved = int((before != after).any(dim=1).sum())
    given_up = json.loads((config.out / "contrastok.json").read_text())["frozen"]["given_up"]
    assert 0 < moved == given_up["old_rows_moved"] < given_up["old_rows"] == len(before)
    away = (after - before).norm(dim=1) / before.norm(dim=1).clamp_min(1e-12)
    assert given_up["largest_move"] == pytest.approx(float(away.max()), rel=1e-5)
    assert "NOT the base model's weights" in told and "moves old rows" in told
    card = (config.out / "README.md").read_text()
    assert "has to be made again" in card and "bit for bit" not in card
    assert np.isfinite(SentenceTransformer(str(config.out), device="cpu").encode(["zorblaxin is here"])).all()


def test_a_delta_that_is_not_all_is_refused(make_config: Make, tmp_path: Path) -> None:
    config = make_config(trainable="full", epochs=1)
    train(config)
    assert config.out
    with pytest.raises(InputError, match="old weights"):
        apply(ApplyConfig(rows=config.out / "new_rows.safetensors", model=config.model, out=tmp_path / "again"))
    assert not (tmp_path / "again").exists()


def test_a_frozen_trainables_delta_rebuilds_the_checkpoint(make_config: Make, tmp_path: Path) -> None:
    config = make_config(trainable="row_lora", epochs=1)
    train(config)
    assert config.out
    apply(ApplyConfig(rows=config.out / "new_rows.safetensors", model=config.model, out=tmp_path / "again", quiet=True))
    for name in ("model.safetensors", "tokenizer.json"):
        assert (tmp_path / "again" / name).read_bytes() == (config.out / name).read_bytes()


def test_the_reports_ask_for_the_base_model_where_old_rows_moved(make_config: Make, tmp_path: Path) -> None:
    config = make_config(trainable="full", epochs=1)
    train(config)
    assert config.out
    checkpoint = load_checkpoint(config.out)
    from contrastok.console import Console

    untouched_encoder(checkpoint, Console(quiet=True))
    checkpoint.manifest["base_model"]["name"] = str(tmp_path / "gone")
    with pytest.raises(ValueError, match="base model cannot be found"):
        untouched_encoder(checkpoint, Console(quiet=True))
    texts = tmp_path / "texts.txt"
    texts.write_text(
        "We bought a hard cheese from the hills at the market.\nThere was zorblaxin on the table of the cook.\n"
    )
    out = tmp_path / "harm.json"
    assert main(["eval", "no-harm", "--model", str(config.out), "--texts", str(texts), "--json", str(out)]) == 0
    harm = json.loads(out.read_text())
    assert harm["given_up"]["old_rows_moved"] > 0 and harm["identical"] is False


@pytest.mark.parametrize("name", list(TRAINABLES))
def test_nothing_has_moved_before_the_first_step(make_config: Make, name: str) -> None:
    config = make_config()
    _, plan, first, overlay = laid(config, name)
    if name == "mixing":
        return  # its rows start at the nearest mixture, see below
    assert torch.equal(overlay.rows.detach()[: len(first)], first)
    ids = torch.tensor([[5, 6, plan.ids[0], 7, plan.ids[-1]]])
    found = overlay(ids).detach()
    plain = attach(load_model(config.model), plan, first)(ids).detach()
    assert torch.equal(found, plain)


@pytest.mark.parametrize("name", list(TRAINABLES))
def test_a_killed_run_of_it_resumes_to_the_same_bits(
    make_config: Make, name: str, tmp_path: Path, monkeypatch: Any
) -> None:
    options = {"trainable": name, "epochs": 2, "checkpoint_every": 2, "learning_rate": None}
    whole, killed = make_config(**options), make_config(**options)
    train(whole)
    real = RunState.save

    def dies(state: RunState, *args: Any) -> None:
        real(state, *args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunState, "save", dies)
        with pytest.raises(KeyboardInterrupt):
            train(killed)
    train(killed)
    assert whole.out and killed.out
    for file in ("model.safetensors", "contrastok.json"):
        assert (whole.out / file).read_bytes() == (killed.out / file).read_bytes(), file


def test_peft_gives_the_rows_gradients(make_config: Make) -> None:
    """PEFT's layer is the oracle of ours: same embeddings, same gradient."""
    config = make_config()
    gradients = []
    for name in ("rows", "peft"):
        _, plan, _, overlay = laid(config, name)
        ids = torch.tensor([[5, plan.ids[0], 7, plan.ids[-1], plan.ids[0]]])
        torch.autograd.backward(overlay(ids).sin().sum())
        gradients.append(overlay.rows.grad)
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["peft", "full", "full_lora"])
def test_copies_of_frozen_weights_need_full_precision(make_config: Make, name: str) -> None:
    with pytest.raises(ConfigError, match="needs --precision fp32"):
        train(make_config(trainable=name, precision="bf16"))


def test_unknown_names_and_sizes_are_told(make_config: Make) -> None:
    with pytest.raises(ConfigError, match="row_lora"):
        train(make_config(trainable="row_lorra"))
    with pytest.raises(ConfigError, match="--rank must be at least 1"):
        train(make_config(trainable="row_lora", rank=0))
    with pytest.raises(ConfigError, match="--mix-rows must be at least 2"):
        train(make_config(trainable="mixing", mix_rows=1))
    assert all(known.summary.endswith(".") and known.source for known in TRAINABLES.values())


def test_peft_that_is_missing_is_told_before_anything_is_encoded(
    make_config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FrozenEncoder, "encode", lambda *_, **__: pytest.fail("something was encoded"))
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match="--trainable peft needs the package peft"):
        train(make_config(trainable="peft"))


@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 4), st.integers(0, 99))
def test_low_rank_is_the_formula(n: int, d: int, rank: int, seed: int) -> None:
    module, first = LowRank(n, d, rank, 0.5, seed), torch.randn(n, d)
    assert torch.equal(module(first), first)
    with torch.no_grad():
        module.b.normal_()
    wanted = first.double() + 0.5 / rank**0.5 * module.a.detach().double() @ module.b.detach().double()
    torch.testing.assert_close(module(first).double(), wanted, rtol=1e-4, atol=1e-5)
    assert effective_rank(module(first).detach() - first) <= rank + 1e-3


def test_effective_rank_counts_equal_directions() -> None:
    assert effective_rank(torch.eye(4)) == pytest.approx(4)
    assert effective_rank(torch.ones(3, 5)) == pytest.approx(1)
    assert effective_rank(torch.zeros(3, 5)) == 0.0


def test_a_low_rank_run_has_no_higher_rank(make_config: Make) -> None:
    config = make_config(trainable="row_lora", rank=1, epochs=2, learning_rate=None)
    train(config)
    assert config.out
    told = json.loads((config.out / "contrastok.json").read_text())["training"]
    assert told["effective_rank"] == pytest.approx(1, abs=0.01) and told["parameters"] == 3 + 32


def test_mixtures_start_at_the_nearest_one() -> None:
    generator = torch.Generator().manual_seed(0)
    old = torch.randn(2, 4, 16, generator=generator)
    shares = torch.tensor([[0.5, 0.3, 0.2, 0.0], [0.25, 0.25, 0.25, 0.25]])
    rows = torch.einsum("nm,nmd->nd", shares, old)
    found = convex_fit(old, rows)
    torch.testing.assert_close(found.sum(-1), torch.ones(2))
    torch.testing.assert_close(found, shares, rtol=0, atol=5e-3)
    free = torch.tensor([[2.0, -1.0, 0.5, 0.0], [0.0, 0.0, 3.0, 1.0]])
    torch.testing.assert_close(ridge_fit(old, torch.einsum("nm,nmd->nd", free, old)), free, rtol=0.02, atol=0.02)
    for convex, weights in ((True, found), (False, ridge_fit(old, rows))):
        torch.testing.assert_close(Mixture(old, weights, convex)(rows), rows, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("mix", ["softmax", "free"])
def test_mixed_rows_stay_among_the_rows_they_mix(make_config: Make, mix: str) -> None:
    config = make_config(trainable="mixing", mix=mix, mix_rows=6, epochs=3, learning_rate=None)
    train(config)
    assert config.out
    checkpoint = load_checkpoint(config.out)
    table = torch.from_numpy(checkpoint.table())
    model = load_model(config.model)
    plan = plan_vocabulary(model.tokenizer, [token["token"] for token in checkpoint.manifest["tokens"]])
    assert checkpoint.initial_rows is not None
    overlay = TRAINABLES["mixing"].lay(model, plan, torch.from_numpy(checkpoint.initial_rows), config)
    old = overlay.parametrizations["rows"][0].old
    rows = torch.from_numpy(checkpoint.rows)
    assert all((table == row).all(-1).any() for row in old.flatten(0, 1))
    solved = torch.linalg.lstsq(old.transpose(1, 2).double(), rows.double()[..., None])
    again = torch.einsum("nm,nmd->nd", solved.solution[..., 0], old.double())
    torch.testing.assert_close(again, rows.double(), rtol=0, atol=1e-4)
    if mix == "softmax":
        assert (solved.solution > -1e-3).all()
        torch.testing.assert_close(solved.solution.sum(1)[:, 0], torch.ones(3).double(), rtol=0, atol=1e-3)


def test_neighbours_are_the_nearest_by_centred_cosine() -> None:
    table = torch.randn(20, 5, generator=torch.Generator().manual_seed(1))
    ids = [2, 3, 5, 7, 11, 13, 17, 19]
    found = neighbours(table, table[[5, 11]] * 1.0, ids, 3)
    assert [row[0] for row in found] == [5, 11]
    centre = table[ids].double().mean(0)
    for row, chosen in zip((5, 11), found, strict=True):
        cosines = {
            i: float(torch.cosine_similarity(table[row].double() - centre, table[i].double() - centre, dim=0))
            for i in ids
        }
        assert chosen == sorted(ids, key=lambda i: -cosines[i])[:3]
