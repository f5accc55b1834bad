from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from contrastok.body_lora import BodyLora
from contrastok.config import ExportConfig, TrainConfig
from contrastok.console import Console
from contrastok.errors import ConfigError, InputError
from contrastok.exchange import export_adapter
from contrastok.loop import Loop
from contrastok.trainer import train
from tests.contrastok.test_causal_lm import make_loop, new_ids, stock

Make = Callable[..., TrainConfig]
pytest.importorskip("peft")


@pytest.fixture(scope="module")
def on_decoder(make_config: Make, make_decoder: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A function (**options) -> TrainConfig with LoRA on the body of a tiny language model of tied tables."""
    given, pairs = make_config("byte-bpe").pairs, tmp_path_factory.mktemp("pairs") / "pairs.parquet"
    assert given is not None
    pairs.write_bytes((given / "pairs.parquet").read_bytes())
    model = str(make_decoder("qwen2"))

    def make(**options: Any) -> TrainConfig:
        defaults = {"objective": "causal_lm", "epochs": 2, "rank": 2, "lora": True, "pairs": pairs, "model": model}
        return make_config("byte-bpe", **{**defaults, **options})

    return make


def test_rows_and_body_move_together_and_are_merged(on_decoder: Make, capsys: pytest.CaptureFixture[str]) -> None:
    config = on_decoder(quiet=False)
    summary = train(config)
    told = capsys.readouterr().err
    assert config.out is not None and "--lora moves the body" in told and "NOT the base model's weights" in told
    assert summary["frozen"]["sha256_before"] != summary["frozen"]["sha256_after"] and summary["last"]["move"] > 0
    base, made = (load_file(f"{folder}/model.safetensors") for folder in (config.model, config.out))
    maps = [name for name in base if name.endswith("_proj.weight")]
    assert base.keys() == made.keys() and len(maps) == 2 * 7
    for name in maps:
        away = made[name].double() - base[name].double()
        assert 0 < torch.linalg.matrix_rank(away, rtol=1e-3) <= 2, name
    table, new = "model.embed_tokens.weight", new_ids(config.out)
    old = [i for i in range(len(base[table])) if i not in new]
    assert torch.equal(made[table][old], base[table][old])
    assert all(torch.equal(base[name], made[name]) for name in base.keys() - {table, *maps})
    manifest = json.loads((config.out / "contrastok.json").read_text())
    assert manifest["frozen"]["given_up"]["layers_moved"] == len(maps) and manifest["training"]["options"]["lora"]
    assert "--trainable rows --lora" in " ".join((config.out / "README.md").read_text().split())
    assert stock(config.out)(torch.tensor([new])).logits.isfinite().all()
    with pytest.raises(InputError, match="or --lora"):
        export_adapter(ExportConfig(model=config.out, out=config.out.with_name("adapter")))


def test_the_first_step_moves_rows_as_without_it_and_the_body_beside_them(on_decoder: Make) -> None:
    """B is zero at first: nothing else than the rows' own gradient can reach them, and A has none."""
    alone, both = make_loop(on_decoder()), make_loop(on_decoder())
    lora = BodyLora(both.model, both.overlay, 2, 0)
    beside = Loop(
        both.model, both.overlay, both.feed.data, both.feed.tokenizer, both.config, both.accelerator, None,
        Console(quiet=True), adapters=lora,
    )  # fmt: skip
    before = {id(p): p.detach().clone() for p in lora.parameters()}
    for loop in (alone, beside):
        loop.step(0, loop.feed[0])
    assert torch.equal(alone.overlay.rows, beside.overlay.rows)
    moved = [not torch.equal(p, before[id(p)]) for p in lora.parameters()]
    assert moved == [bool(before[id(p)].eq(0).all()) for p in lora.parameters()] and any(moved)


@pytest.mark.parametrize(
    "options", [{"precision": "bf16"}, {"layers": 1, "objective": "pairs"}, {"compile": True}, {"two_stage": True},
                {"reset_every": 2}],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(on_decoder: Make, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="--lora"):
        train(on_decoder(**options))
