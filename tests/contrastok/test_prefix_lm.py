from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from contrastok.config import ApplyConfig, ExportConfig, ImportConfig, TrainConfig
from contrastok.errors import ModelError
from contrastok.exchange import export_adapter, import_adapter
from contrastok.export import apply
from contrastok.feed import Batch
from contrastok.lm_head import load_with_head
from contrastok.loop import Loop
from contrastok.models import language_head, load_tokenizer
from contrastok.trainer import train
from tests.contrastok.test_causal_lm import CLEAN, make_loop, new_ids

Make = Callable[..., TrainConfig]
KINDS = {
    "t5": {"padding": 0},
    "t5-v1.1": {"padding": 9, "tie_word_embeddings": False, "feed_forward_proj": "gated-gelu"},
}
"""Tiny encoder-decoders: the first one makes states shorter before its head reads them, the second one does not."""


@pytest.fixture(scope="module")
def make_t5(
    make_config: Make, tokenizers_by_family: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., TrainConfig]:
    """A function (kind, **options) -> TrainConfig on a tiny random T5."""
    from transformers import T5Config, T5ForConditionalGeneration

    models: dict[str, Path] = {}
    given, pairs = make_config("unigram").pairs, tmp_path_factory.mktemp("pairs") / "pairs.parquet"
    assert given is not None
    pairs.write_bytes((given / "pairs.parquet").read_bytes())  # without the name of the model they were made for

    def make(kind: str = "t5", **options: Any) -> TrainConfig:
        if kind not in models:
            folder, tokenizer = tmp_path_factory.mktemp(kind), tokenizers_by_family["unigram"]
            own: dict[str, Any] = dict(KINDS[kind])
            config = T5Config(
                vocab_size=len(tokenizer) + own.pop("padding"), d_model=32, d_kv=16, d_ff=48, num_layers=2, num_heads=2,
                num_decoder_layers=1, pad_token_id=1, eos_token_id=2, decoder_start_token_id=1, initializer_factor=0.5,
                **own,
            )  # fmt: skip
            torch.manual_seed(3)
            T5ForConditionalGeneration(config).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            models[kind] = folder
        defaults = {"objective": "prefix_lm", "epochs": 1, "batch_size": 12, "learning_rate": 0.03, "pairs": pairs}
        return make_config("unigram", **{**defaults, "model": str(models[kind]), **options})

    return make


def stock(folder: Path | str | None, dtype: Any = torch.float32) -> Any:
    from transformers import AutoModelForSeq2SeqLM

    return AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=dtype).eval()


@pytest.mark.parametrize("objective", ["prefix_lm", "anchored_pairs"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_checkpoint_is_a_stock_encoder_decoder_whose_old_part_kept_its_bits(
    make_t5: Make, tmp_path: Path, kind: str, objective: str
) -> None:
    from sentence_transformers import SentenceTransformer
    from transformers import AutoTokenizer

    config = make_t5(kind, objective=objective)
    summary = train(config)
    assert config.out is not None and summary["frozen"]["sha256_before"] == summary["frozen"]["sha256_after"]
    assert summary["last"]["move"] > 0
    base, ours = (stock(folder) for folder in (config.model, config.out))
    tokenizer, new = AutoTokenizer.from_pretrained(config.out), new_ids(config.out)
    old = [i for i in range(base.config.vocab_size) if i not in new]
    assert ours.config.vocab_size == max(base.config.vocab_size, max(new) + 1)
    now = ours.state_dict()
    for name, tensor in base.state_dict().items():
        rows = old if tensor.shape[0] == base.config.vocab_size else slice(None)
        assert torch.equal(now[name][rows], tensor[rows]), name
    assert all(
        torch.equal(now[name], now["shared.weight"]) for name in ("lm_head.weight", "decoder.embed_tokens.weight")
    )
    for text in CLEAN:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        both = [model(input_ids=ids, decoder_input_ids=ids).logits[..., old] for model in (base, ours)]
        assert torch.equal(*both)
    ids = tokenizer("we bought zorblaxin, she says", return_tensors="pt")["input_ids"]
    assert set(new) & set(ids[0].tolist()) and ours.generate(ids, max_new_tokens=3).shape[0] == 1
    before, after = (SentenceTransformer(str(folder)).encode(CLEAN) for folder in (config.model, config.out))
    assert np.array_equal(before, after)
    assert "AutoModelForSeq2SeqLM" in (config.out / "README.md").read_text()
    assert json.loads((config.out / "contrastok.json").read_text())["training"]["head"]["tied"]
    if objective == "prefix_lm":
        rows = config.out / "new_rows.safetensors"
        apply(ApplyConfig(rows=rows, model=config.model, out=tmp_path / "again", quiet=True))
        for name in ("model.safetensors", "config.json", "tokenizer.json"):
            assert (tmp_path / "again" / name).read_bytes() == (config.out / name).read_bytes()


def reference(loop: Loop, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and gradient of the rows by the whole stock model with the tokens in it, in float64."""
    full, overlay = stock(loop.config.model, torch.float64), loop.overlay
    full.resize_token_embeddings(max(len(overlay.slots), full.config.vocab_size), mean_resizing=False)
    table = full.get_input_embeddings()
    with torch.no_grad():
        table.weight[overlay.ids] = overlay.rows[overlay.row_of].double()
    taken, losses = overlay.ids, []
    assert batch.cut is not None
    parts = [
        part.features[name] for part in (batch.cut.read, batch.cut.said) for name in ("input_ids", "attention_mask")
    ]
    for read, mask, said, mask_said in zip(*parts, strict=True):
        read, said = read[mask.bool()][None], said[mask_said.bool()]
        logits = full(input_ids=read, decoder_input_ids=said[None, :-1]).logits[0]
        losses.append(F.cross_entropy(logits, said[1:], reduction="none"))
    loss = torch.cat(losses).mean()
    loss.backward()
    rows = torch.zeros_like(overlay.rows, dtype=torch.float64)
    return loss.detach(), rows.index_add_(0, overlay.row_of, table.weight.grad[taken])


@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradient_are_the_stock_models(make_t5: Make, kind: str) -> None:
    loop = make_loop(make_t5(kind))
    batch = loop.feed[0][0]
    assert batch.cut is not None
    assert not batch.cut.read.features["attention_mask"].all() and not batch.cut.said.features["attention_mask"].all()
    new = set(loop.overlay.ids.tolist())
    assert all(new & set(part.features["input_ids"].flatten().tolist()) for part in (batch.cut.read, batch.cut.said))
    loss = loop.loss(batch).total
    loss.backward()
    wanted, rows = reference(loop, batch)
    for ours, true in ((loss.detach(), wanted), (loop.trained[0].grad, rows)):
        assert ours is not None and (ours - true).norm() <= 1e-4 * true.norm() and true.norm() > 0


def test_a_sentence_is_cut_anywhere_and_both_parts_end_it(make_t5: Make) -> None:
    loop = make_loop(make_t5("t5", epochs=20))
    ends: set[int] = set()
    for step in range(len(loop.feed)):
        for batch, anchors in zip(
            loop.feed[step], [[loop.feed.data.anchors[j] for j in b] for b in loop.feed.plan[step]], strict=True
        ):
            assert batch.cut is not None
            for i, anchor in enumerate(anchors):
                read, said = (
                    part.features["input_ids"][i][part.features["attention_mask"][i].bool()].tolist()
                    for part in (batch.cut.read, batch.cut.said)
                )
                assert read[-1] == said[-1] == anchor.ids[-1] == 2 and said[0] == 1
                assert (*read[:-1], *said[1:]) == anchor.ids
                ends.add(len(read) - len(anchor.ids))
    assert len(ends) > 4 and max(ends) < 0  # the decoder always has something to say but the end
    first = loop.feed[0][0].cut
    again = make_loop(make_t5("t5", epochs=20)).feed[0][0].cut
    assert first is not None and again is not None
    assert torch.equal(first.said.features["input_ids"], again.said.features["input_ids"])


def test_it_lowers_its_own_loss(make_t5: Make) -> None:
    loop = make_loop(make_t5("t5", epochs=12))
    batch = loop.feed[0][0]
    first = float(loop.loss(batch).total.detach())
    loop.run()
    assert float(loop.loss(batch).total.detach()) < first


def test_objectives_of_other_heads_are_refused_by_name(
    make_t5: Make, make_config: Make, make_decoder: Callable[..., Path], tmp_path: Path
) -> None:
    for name in ("causal_lm", "token_distill_lm", "token_kl"):
        with pytest.raises(
            ModelError, match=f"T5EncoderModel: holds no causal.* --objective {name} needs: it has a head on a decoder"
        ) as refused:
            train(make_t5(objective=name))
        assert "--objective prefix_lm trains" in str(refused.value)
    with pytest.raises(ModelError, match="LlamaModel: holds no head on a decoder of its own"):
        train(make_config("byte-bpe", model=str(make_decoder("llama")), objective="prefix_lm", pairs=make_t5().pairs))
    with pytest.raises(ModelError, match="BertModel: holds no head on a decoder of its own"):
        train(make_config(objective="prefix_lm"))
    model = Path(make_t5().model)
    for file in model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    told = json.loads((model / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in told.items() if k != "decoder_start_token_id"}))
    config = replace(make_t5(), model=str(tmp_path))
    with pytest.raises(ModelError, match="names no decoder_start_token_id"):
        train(config)
    assert config.out is not None and not config.out.exists()


def test_the_factor_before_the_head_is_read_off_the_model(make_t5: Make) -> None:
    scales = {kind: language_head(load_with_head(make_t5(kind).model)).scale for kind in KINDS}
    assert scales == {"t5": pytest.approx(32**-0.5, rel=1e-6), "t5-v1.1": 1.0}


def test_rows_go_out_as_an_adapter_of_peft_and_come_back(make_t5: Make, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    config = make_t5("t5", out=tmp_path / "out")
    train(config)
    export_adapter(ExportConfig(model=config.out, out=tmp_path / "adapter", quiet=True))
    import_adapter(ImportConfig(adapter=tmp_path / "adapter", model=config.model, out=tmp_path / "back", quiet=True))
    for name in ("model.safetensors", "tokenizer.json", "new_rows.safetensors"):
        assert (tmp_path / "back" / name).read_bytes() == (tmp_path / "out" / name).read_bytes(), name
    base, tokenizer = stock(config.model), load_tokenizer(str(tmp_path / "adapter"))
    base.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    loaded = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    ids = tokenizer("we bought zorblaxin at the market", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        ours, theirs = (model(input_ids=ids, decoder_input_ids=ids).logits for model in (stock(config.out), loaded))
    assert torch.equal(ours, theirs)
