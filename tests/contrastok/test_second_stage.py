from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from contrastok.body_lora import BodyLora, linear_layers
from contrastok.checkpoint import load_checkpoint
from contrastok.cli import main
from contrastok.config import ApplyConfig, TrainConfig
from contrastok.errors import ConfigError, InputError, ModelError
from contrastok.export import apply
from contrastok.loop import Loop
from contrastok.models import load_model, transformer
from contrastok.second_stage import ROWS_SHARE, second_epochs, second_stage
from contrastok.state import RunState
from contrastok.trainer import train
from tests.contrastok.test_objectives import first_batch, make_loop

Make = Callable[..., TrainConfig]
FAMILIES = ("wordpiece", "byte-bpe", "unigram")
MAPS = 2 * 6
"""Linear maps of a tiny body: q, k, v, the attention's output, both of the MLP; two layers."""


def tensors(folder: Any) -> dict[str, torch.Tensor]:
    return load_file(Path(folder) / "model.safetensors")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_moves_the_layers_linear_maps_and_says_so(make_config: Make, family: str, capsys: Any) -> None:
    config = make_config(family, two_stage=True, rank=2, quiet=False)
    summary = train(config)
    told = capsys.readouterr().err
    assert config.out and summary["frozen"]["sha256_before"] != summary["frozen"]["sha256_after"]
    base, made = tensors(config.model), tensors(config.out)
    maps = [key for key in base if ".layer." in key and key.endswith("weight") and base[key].ndim == 2]
    table = next(key for key in base if key.endswith("word_embeddings.weight"))
    assert set(base) == set(made) and len(maps) == MAPS
    assert torch.equal(made[table][: len(base[table])], base[table])
    for key in set(base) - {table}:
        assert torch.equal(base[key], made[key]) == (key not in maps), key
    away = {key: float((made[key] - base[key]).norm() / base[key].norm()) for key in maps}
    for key in maps:
        assert torch.linalg.matrix_rank(made[key].double() - base[key].double(), rtol=1e-3) <= 2
    given_up = json.loads((config.out / "contrastok.json").read_text())["frozen"]["given_up"]
    assert given_up["layers_moved"] == given_up["layers"] == MAPS
    assert given_up["largest_layer_move"] == pytest.approx(max(away.values()), rel=1e-3)
    assert given_up["median_layer_move"] == pytest.approx(np.median(list(away.values())), rel=1e-3)
    assert "NOT the base model's weights" in told and "moves the body" in told
    card = " ".join((config.out / "README.md").read_text().split())
    assert "--trainable rows --two-stage" in card and "has to be made again" in card and "bit for bit" not in card


def test_a_stock_library_reads_what_training_ended_with(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from contrastok import trainer

    seen: list[torch.Tensor] = []

    def watched(first: Loop, state: RunState) -> Any:
        found = second_stage(first, state)
        first.model.eval()
        inputs = first_batch(first).anchors
        with torch.no_grad():
            seen.append(found[0].student.embed(inputs).clone())
        return found

    monkeypatch.setattr(trainer, "second_stage", watched)
    config = make_config(two_stage=True)
    train(config)
    stock = SentenceTransformer(str(config.out), device="cpu")
    assert not [name for name, _ in stock.named_modules() if "lora" in name]
    inputs = first_batch(make_loop(config)).anchors
    with torch.no_grad():
        found = stock(dict(inputs.features))["sentence_embedding"]
    found = torch.nn.functional.normalize(found, dim=-1)
    torch.testing.assert_close(found, seen[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("trainable", ["row_lora", "full", "full_lora", "peft"])
def test_every_way_of_training_has_a_second_stage(make_config: Make, trainable: str) -> None:
    config = make_config(two_stage=True, trainable=trainable, epochs=2, learning_rate=None)
    train(config)
    assert config.out
    checkpoint = load_checkpoint(config.out)
    given_up = checkpoint.manifest["frozen"]["given_up"]
    assert given_up["layers_moved"] == MAPS and ("old_rows_moved" in given_up) == trainable.startswith("full")
    for token in checkpoint.manifest["tokens"]:
        for i in token["ids"]:
            assert np.array_equal(checkpoint.table()[i], checkpoint.rows[token["row"]])


@pytest.mark.parametrize("objective", ["token_distill", "supervised_simcse", "simcse"])
def test_objectives_work_with_a_body_that_moves(make_config: Make, objective: str) -> None:
    summary = train(make_config(two_stage=True, objective=objective, epochs=2))
    assert summary["frozen"]["given_up"]["layers_moved"] == MAPS


def test_the_curve_goes_on_and_the_manifest_says_from_where(make_config: Make) -> None:
    config = make_config(two_stage=True, epochs=5)
    alone = train(replace(config, two_stage=False, out=config.out.with_name("alone")))  # type: ignore[union-attr]
    both = train(config)
    assert config.out
    told = json.loads((config.out / "contrastok.json").read_text())["training"]
    steps = [point["step"] for point in told["curve"]]
    assert second_epochs(config) == 2 and steps == list(range(1, alone["steps"] // 5 * 7 + 1))
    assert told["second_stage"] == {"after_step": alone["steps"], "steps": both["steps"] - alone["steps"]}
    first_stage = json.loads((config.out.with_name("alone") / "contrastok.json").read_text())["training"]["curve"]
    assert told["curve"][: alone["steps"]] == first_stage
    assert told["curve"][alone["steps"]]["move"] == pytest.approx(alone["last"]["move"], rel=0.1)
    assert second_epochs(replace(config, epochs=0)) == 0 and second_epochs(replace(config, two_stage=False)) == 0


def test_no_epochs_train_neither_rows_nor_body(make_config: Make) -> None:
    config = make_config(two_stage=True, epochs=0)
    planned, done = train(replace(config, dry_run=True)), train(config)
    assert planned["steps"] == done["steps"] == 0 and config.out
    assert done["frozen"]["sha256_before"] == done["frozen"]["sha256_after"] and "given_up" not in done["frozen"]
    base, made = tensors(config.model), tensors(config.out)
    assert all(torch.equal(base[key], made[key][: len(base[key])]) for key in base)


def test_a_budget_of_steps_ends_both_stages(make_config: Make) -> None:
    config = make_config(two_stage=True, epochs=5, max_steps=5)
    planned, done = train(replace(config, dry_run=True)), train(config)
    assert done["steps"] == planned["steps"] == 5 + 2
    assert config.out
    few = train(replace(config, max_steps=1, out=config.out.with_name("few")))
    assert few["steps"] == 1 + 1


def test_the_same_seed_gives_the_same_bits(make_config: Make, tmp_path: Path) -> None:
    config = make_config(two_stage=True, out=tmp_path / "a")
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(replace(config, seed=seed, out=tmp_path / name))
    a, b, c = (tensors(tmp_path / name) for name in "abc")
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not all(torch.equal(a[key], c[key]) for key in a)


class Killed(Exception):
    pass


def test_a_killed_second_stage_goes_on_where_it_was(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(two_stage=True, epochs=4, checkpoint_every=2, out=tmp_path / "whole")
    train(config)
    config = replace(config, out=tmp_path / "killed")
    with monkeypatch.context() as patch:
        step = Loop.step

        def dies(self: Loop, number: int, batches: Any) -> torch.Tensor:
            if self.student.adapters is not None and number == 3:
                raise Killed
            return step(self, number, batches)

        patch.setattr(Loop, "step", dies)
        with pytest.raises(Killed):
            train(config)
    taken: list[tuple[bool, int]] = []
    step = Loop.step

    def counted(self: Loop, number: int, batches: Any) -> torch.Tensor:
        taken.append((self.student.adapters is not None, number))
        return step(self, number, batches)

    monkeypatch.setattr(Loop, "step", counted)
    train(config)
    assert taken[-1][0] and min(number for second, number in taken if second) == 2
    assert min([number for second, number in taken if not second], default=99) > 2
    whole, resumed = tensors(tmp_path / "whole"), tensors(tmp_path / "killed")
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert not list(tmp_path.glob(".killed*"))


def test_lora_is_the_formula_and_starts_at_nothing(make_config: Make) -> None:
    loop = make_loop(make_config())
    batch = first_batch(loop)
    before = loop.student.embed(batch.anchors)
    body = transformer(loop.model)
    weights = {name: dict(body.named_parameters())[f"{name}.weight"].clone() for name in linear_layers(loop.model)}
    state = torch.get_rng_state()
    lora = BodyLora(loop.model, loop.overlay, 3, 0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(loop.student.embed(batch.anchors), before, rtol=0, atol=0)
    assert loop.overlay.rows.requires_grad and len(lora.parameters()) == 2 * MAPS
    with torch.no_grad():
        for parameter in lora.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(parameter.numel()))
    ab = dict(body.named_parameters())
    wanted = {
        name: weights[name].double()
        + ab[f"{name}.lora_B.default.weight"].detach().double() @ ab[f"{name}.lora_A.default.weight"].detach().double()
        for name in weights
    }
    moved = loop.student.embed(batch.anchors).detach()
    assert not torch.allclose(moved, before)
    with lora.disabled():
        torch.testing.assert_close(loop.student.embed(batch.anchors), before, rtol=0, atol=0)
    torch.testing.assert_close(loop.student.embed(batch.anchors).detach(), moved, rtol=0, atol=0)
    body.set_input_embeddings(loop.overlay.base)
    lora.merge()
    for name in weights:
        found = dict(body.named_parameters())[f"{name}.weight"]
        torch.testing.assert_close(found.double(), wanted[name], rtol=1e-4, atol=1e-4)
        assert not found.requires_grad


def test_the_teacher_of_distillation_does_not_move(make_config: Make) -> None:
    loop = make_loop(make_config(objective="token_distill", two_stage=True))
    batch = first_batch(loop)
    assert batch.aligned is not None
    with torch.no_grad(), loop.student.frozen():
        before = loop.student.states(batch.aligned.originals)[-1]
    loop.run()
    second, _, _ = second_stage(loop, RunState(Path("unused"), "key"))
    with torch.no_grad(), second.student.frozen():
        assert torch.equal(second.student.states(batch.aligned.originals)[-1], before)
    with torch.no_grad(), second.overlay.bypassed():
        assert not torch.equal(second.student.states(batch.aligned.originals)[-1], before)
    assert second.rate == ROWS_SHARE * loop.rate


def test_a_learned_temperature_is_handed_on(make_config: Make) -> None:
    loop = make_loop(make_config(learn_temperature=True, two_stage=True, epochs=12))
    loop.run()
    second, _, _ = second_stage(loop, RunState(Path("unused"), "key"))
    assert loop.objective.temperature() != loop.settings.temperature == 0.05
    assert second.config.temperature == loop.objective.temperature()


def test_the_compact_file_is_refused_and_no_harm_tells(make_config: Make, tmp_path: Path) -> None:
    config = make_config(two_stage=True, epochs=1)
    train(config)
    assert config.out
    with pytest.raises(InputError, match="without --two-stage"):
        apply(ApplyConfig(rows=config.out / "new_rows.safetensors", model=config.model, out=tmp_path / "again"))
    assert not (tmp_path / "again").exists()
    texts, out = tmp_path / "texts.txt", tmp_path / "harm.json"
    texts.write_text("We bought a hard cheese from the hills at the market.\nThere was zorblaxin on the table.\n")
    assert main(["eval", "no-harm", "--model", str(config.out), "--texts", str(texts), "--json", str(out)]) == 0
    harm = json.loads(out.read_text())
    assert harm["given_up"]["layers_moved"] == MAPS and harm["identical"] is False


@pytest.mark.parametrize("options", [{"precision": "bf16"}, {"layers": 1}, {"compile": True}])
def test_what_does_not_go_together_is_refused(make_config: Make, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="--two-stage"):
        train(make_config(two_stage=True, **options))


def test_a_body_without_linear_maps_is_refused(tmp_path: Path, tokenizers_by_family: dict[str, Any]) -> None:
    from transformers import GPT2Config, GPT2Model

    GPT2Model(GPT2Config(vocab_size=900, n_embd=8, n_layer=1, n_head=1)).save_pretrained(tmp_path)
    tokenizers_by_family["byte-bpe"].save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no linear maps"):
        linear_layers(load_model(str(tmp_path)))


def test_peft_that_is_missing_is_told_before_anything_is_encoded(
    make_config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contrastok.bank import FrozenEncoder

    monkeypatch.setattr(FrozenEncoder, "encode", lambda *_, **__: pytest.fail("something was encoded"))
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match="needs PEFT"):
        train(make_config(two_stage=True))
