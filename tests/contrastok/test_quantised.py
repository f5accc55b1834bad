from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from contrastok.checkpoint import load_checkpoint
from contrastok.config import ApplyConfig, TrainConfig
from contrastok.embedding import RowOverlay
from contrastok.errors import ModelError
from contrastok.export import apply
from contrastok.lm_head import LanguageHead
from contrastok.trainer import train

Make = Callable[..., TrainConfig]


def test_quantised_tables_are_refused(make_decoder: Callable[..., Path]) -> None:
    from transformers import AutoModelForCausalLM

    table = nn.Embedding(8, 4)
    table.weight = nn.Parameter(torch.ones(8, 4, dtype=torch.int8), requires_grad=False)
    with pytest.raises(ModelError, match="Embedding: its embedding table is quantised"):
        RowOverlay(table, torch.ones(1, 4), [8], [0])
    full = AutoModelForCausalLM.from_pretrained(make_decoder("mistral"))
    full.lm_head.weight = nn.Parameter(full.lm_head.weight.to(torch.int8), requires_grad=False)
    with pytest.raises(
        ModelError, match="MistralForCausalLM cannot be given new tokens: its output layer is quantised"
    ):
        LanguageHead(full, full.model)


@pytest.mark.parametrize("bits", [4, 8])
def test_rows_of_a_quantised_model_are_trained_and_its_weights_stay(
    make_config: Make, make_decoder: Callable[..., Path], tmp_path: Path, bits: int
) -> None:
    """Table and head are not quantised; all else keeps the bits that it has in its file."""
    pytest.importorskip("bitsandbytes")
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    plain, model = make_decoder("mistral"), tmp_path / "quantised"
    quantised = BitsAndBytesConfig(load_in_4bit=bits == 4, load_in_8bit=bits == 8)
    AutoModelForCausalLM.from_pretrained(plain, quantization_config=quantised, device_map="cpu").save_pretrained(model)
    AutoTokenizer.from_pretrained(plain).save_pretrained(model)
    given = make_config("byte-bpe").pairs
    assert given is not None
    (tmp_path / "pairs.parquet").write_bytes((given / "pairs.parquet").read_bytes())
    config = make_config(
        "byte-bpe", model=str(model), pairs=tmp_path / "pairs.parquet", objective="causal_lm", epochs=1,
        out=tmp_path / "out",
    )  # fmt: skip
    summary = train(config)
    assert summary["frozen"]["sha256_before"] == summary["frozen"]["sha256_after"] and summary["last"]["move"] > 0
    base, ours = (AutoModelForCausalLM.from_pretrained(folder).eval() for folder in (model, tmp_path / "out"))
    ids = torch.tensor([[5, 6, 7, 8]])
    size = base.config.vocab_size
    with torch.no_grad():
        assert torch.equal(base(ids).logits, ours(ids).logits[..., :size])
    assert ours.config.vocab_size > size and type(ours.model.layers[0].mlp.up_proj) is not nn.Linear
    apply(
        ApplyConfig(
            rows=tmp_path / "out" / "new_rows.safetensors", model=str(model), out=tmp_path / "again", quiet=True
        )
    )
    assert (
        load_checkpoint(tmp_path / "again").manifest["frozen"] == load_checkpoint(tmp_path / "out").manifest["frozen"]
    )
    with pytest.raises(ModelError, match="is quantised, and LoRA cannot be merged"):
        train(dataclasses.replace(config, lora=True, out=tmp_path / "other"))
