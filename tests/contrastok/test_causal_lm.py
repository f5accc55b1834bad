from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from contrastok.bank import FrozenEncoder
from contrastok.batches import build_training_set
from contrastok.bounds import Bounded
from contrastok.checkpoint import load_checkpoint
from contrastok.config import ApplyConfig, ExportConfig, ImportConfig, TrainConfig
from contrastok.console import Console
from contrastok.errors import ConfigError, ModelError
from contrastok.exchange import export_adapter, import_adapter
from contrastok.export import apply, init_context
from contrastok.feed import Batch
from contrastok.files import sha256_file
from contrastok.head_rows import first_head_rows, train_classes
from contrastok.initializers import initial_rows
from contrastok.lm_head import load_with_head
from contrastok.loop import Loop, make_accelerator
from contrastok.models import language_head, load_tokenizer, tokenizer_fingerprint
from contrastok.objectives import OBJECTIVES
from contrastok.pairs import read_pairs
from contrastok.state import RunState
from contrastok.trainables import TRAINABLES
from contrastok.trainer import train
from contrastok.vocabulary import extend_tokenizer, plan_vocabulary
from tests.conftest import DECODERS
from tests.contrastok.conftest import GLOSSARY

Make = Callable[..., TrainConfig]
CLEAN = ["the cook likes bread and soup", "there was no cheese left on the table."]
HEADED = [name for name, known in OBJECTIVES.items() if known.head and not known.cut]


@pytest.fixture(scope="session")
def make_run(make_config: Make, make_decoder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A function (kind, dtype=float32, **options) -> TrainConfig on a tiny causal language model.

    Some of them load the tokenizer into a class of their own, so the pairs come without the name of one.
    """
    given, pairs = make_config("byte-bpe").pairs, tmp_path_factory.mktemp("pairs") / "pairs.parquet"
    assert given is not None
    pairs.write_bytes((given / "pairs.parquet").read_bytes())

    def make(kind: str, dtype: Any = torch.float32, **options: Any) -> TrainConfig:
        defaults = {"objective": "causal_lm", "epochs": 1, "batch_size": 12, "learning_rate": 0.03}
        config = make_config("byte-bpe", **{**defaults, **options})
        return replace(config, pairs=pairs, model=str(make_decoder(kind, dtype)))

    return make


def make_loop(config: TrainConfig, state: RunState | None = None, mode: str = "auto") -> Loop:
    model = load_with_head(config.model)
    assert config.pairs
    pairs = read_pairs(config.pairs, "")
    plan = plan_vocabulary(model.tokenizer, list(dict.fromkeys(pairs.token)), mode)
    extended = extend_tokenizer(model.tokenizer, plan)
    data = build_training_set(
        pairs, plan, extended, FrozenEncoder(model, model.tokenizer), 64, aligned=OBJECTIVES[config.objective].aligned
    )
    way = TRAINABLES[config.trainable]
    overlay = way.lay(model, plan, initial_rows("subtoken_mean", init_context(model, plan)), config)
    train_classes(model, overlay, first_head_rows(model, plan, "subtoken_mean"), way.moves_head)
    return Loop(model.eval(), overlay, data, extended, config, make_accelerator(config), state, Console(quiet=True))


def stock(folder: Path | str | None, dtype: Any = torch.float32) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


def new_ids(folder: Path) -> list[int]:
    return [i for token in json.loads((folder / "contrastok.json").read_text())["tokens"] for i in token["ids"]]


@pytest.mark.parametrize("kind", [kind for kind in DECODERS if kind not in ("gemma2", "cohere")])  # heads like others'
def test_the_checkpoint_is_a_stock_language_model_whose_old_part_kept_its_bits(make_run: Make, kind: str) -> None:
    from transformers import AutoTokenizer

    config = make_run(kind, learning_rate=None, dtype=torch.bfloat16 if kind == "gemma" else torch.float32)
    summary = train(config)
    assert config.out is not None and summary["frozen"]["sha256_before"] == summary["frozen"]["sha256_after"]
    base, ours = (stock(folder, "auto") for folder in (config.model, config.out))
    tokenizer, new = AutoTokenizer.from_pretrained(config.out), new_ids(config.out)
    old = [i for i in range(base.get_output_embeddings().weight.shape[0]) if i not in new]
    assert any(i in new for i in tokenizer("we bought zorblaxin, she says")["input_ids"])
    for get in ("get_input_embeddings", "get_output_embeddings"):
        before, after = getattr(base, get)().weight, getattr(ours, get)().weight
        assert torch.equal(before[old], after[old]) and before.dtype == after.dtype
        assert len(after) == max(len(before), max(new) + 1) == ours.config.vocab_size
        assert after[new].norm(dim=-1).min() > 0
    tied = [m.get_output_embeddings().weight is m.get_input_embeddings().weight for m in (base, ours)]
    assert tied[0] is tied[1] is load_checkpoint(config.out).manifest["training"]["head"]["tied"]
    for text in CLEAN:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        assert torch.equal(base(ids).logits[..., old], ours(ids).logits[..., old])


def reference(loop: Loop, batch: Batch) -> tuple[torch.Tensor, ...]:
    """Loss and gradients of rows and classes by the whole stock model with the tokens in it, in float64."""
    full, overlay = stock(loop.config.model, torch.float64), loop.overlay
    tied = full.get_output_embeddings().weight is full.get_input_embeddings().weight
    full.resize_token_embeddings(max(len(overlay.slots), full.config.vocab_size), mean_resizing=False)
    table, head = full.get_input_embeddings(), full.get_output_embeddings()
    with torch.no_grad():
        table.weight[overlay.ids] = overlay.rows[overlay.row_of].double()
        if overlay.head is not None:
            head.weight[overlay.ids] = overlay.head.rows.double()
        if head.bias is not None:
            head.bias[overlay.ids[: overlay.new]] = 0
    assert tied == (head.weight is table.weight)
    losses = []
    for ids, mask in zip(*(batch.anchors.features[name] for name in ("input_ids", "attention_mask")), strict=True):
        ids = ids[mask.bool()]
        losses.append(F.cross_entropy(full(input_ids=ids[None]).logits[0, :-1], ids[1:], reduction="none"))
    loss = torch.cat(losses).mean()
    loss.backward()
    rows = torch.zeros_like(overlay.rows, dtype=torch.float64)
    rows.index_add_(0, overlay.row_of, table.weight.grad[overlay.ids])
    return loss.detach(), rows, head.weight.grad[overlay.ids]


@pytest.mark.parametrize(
    ("kind", "trainable"),
    [*((kind, "rows") for kind in ("llama", "qwen2", "gemma2", "gpt2", "phi")), ("qwen2", "full"), ("phi", "full"),
     ("qwen2", "peft")],
)  # fmt: skip
def test_loss_and_gradients_are_the_stock_models(make_run: Make, kind: str, trainable: str) -> None:
    """Forms share a row; where the head is not tied each has a class of its own. Padding on the left shifts nothing.

    With the whole table trained, old rows and classes get their gradients too, and classes keep their biases.
    """
    if trainable == "peft":
        pytest.importorskip("peft")
    loop = make_loop(make_run(kind, trainable=trainable))
    loop.feed.tokenizer.padding_side = "left" if kind in ("llama", "gpt2") else "right"
    batch = loop.feed[0][0]
    assert not batch.anchors.features["attention_mask"].all()
    loss = loop.loss(batch).total
    loss.backward()
    made = loop.trained if loop.overlay.head is not None else [*loop.trained, None]
    for ours, true in zip(
        [loss.detach(), *(p if p is None else p.grad for p in made)], reference(loop, batch), strict=True
    ):
        if ours is not None:
            assert (ours - true).norm() <= 1e-4 * true.norm() and true.norm() > 0


@pytest.mark.parametrize("objective", HEADED)
@pytest.mark.parametrize("kind", ["mistral", "qwen2"])
def test_it_lowers_its_own_loss(make_run: Make, kind: str, objective: str) -> None:
    loop = make_loop(make_run(kind, objective=objective, epochs=5))
    batch = loop.feed[0][0]
    trained = [loop.overlay.rows, *([] if loop.overlay.head is None else [loop.overlay.head.rows])]
    first, start = float(loop.loss(batch).total.detach()), [rows.detach().clone() for rows in trained]
    loop.run()
    assert float(loop.loss(batch).total.detach()) < first
    now = [loop.overlay.rows, *([] if loop.overlay.head is None else [loop.overlay.head.rows])]
    moved = [not torch.equal(a, b) for a, b in zip(now, start, strict=True)]
    assert moved == [True, objective != "token_kl"][: len(moved)]  # it predicts old tokens alone


def test_distillation_and_prediction_weigh_the_same(make_run: Make) -> None:
    loop = make_loop(make_run("mistral", objective="token_distill_lm"))
    parts = {name: make_loop(make_run("mistral", objective=name)) for name in ("token_distill", "token_distill_lm")}
    batch, rows = loop.feed[0][0], loop.trained[0]
    both = loop.loss(batch)
    torch.testing.assert_close(both.total, 2 * both.distill)
    gradient = torch.autograd.grad(both.total, rows)[0]
    alone = parts["token_distill"]
    distill = alone.loss(alone.feed[0][0])
    torch.testing.assert_close(both.distill, distill.distill)
    pulled = torch.autograd.grad(distill.total, alone.trained[0])[0]
    other: Any = parts["token_distill_lm"]
    states = other.student.states(batch.anchors, batch.aligned.positions)
    predicted, _ = other.objective.next_token(batch.anchors, states[-1])
    pushed = torch.autograd.grad(predicted, other.trained[0])[0]
    torch.testing.assert_close(gradient, pulled + pushed * (both.distill / predicted.detach()), rtol=1e-3, atol=1e-6)


def test_kl_is_over_the_old_vocabulary_at_aligned_positions(make_run: Make) -> None:
    loop = make_loop(make_run("llama", objective="token_kl"))
    batch, full = loop.feed[0][0], stock(loop.config.model, torch.float64)
    both = batch.aligned
    assert both is not None
    taken = loop.overlay.ids[loop.overlay.ids < full.config.vocab_size]
    assert len(taken)
    loop.model.double()  # rows are in float32, the frozen part is exact
    with torch.no_grad():
        found = loop.loss(batch).total
        states = loop.student.states(batch.anchors, both.positions)[-1]
        taught = full.model(**both.originals.features, position_ids=both.original_positions).last_hidden_state
        wanted = []
        for at, at_old in zip(both.student.tolist(), both.teacher.tolist(), strict=True):
            p, q = (full.lm_head(s.flatten(0, 1)[i]) for s, i in ((taught, at_old), (states, at)))
            p, q = (scores.index_fill(0, taken, -torch.inf).softmax(0) for scores in (p, q))
            wanted.append((p * (p / q).log()).nansum())
    torch.testing.assert_close(found.double(), torch.stack(wanted).mean(), rtol=1e-4, atol=1e-6)


def test_a_class_of_its_own_starts_at_its_pieces_classes(make_run: Make) -> None:
    model: Any = load_with_head(make_run("llama").model)
    plan = plan_vocabulary(model.tokenizer, list(GLOSSARY))
    context, head = init_context(model, plan), language_head(model)
    for init in ("subtoken_mean", "predictor"):  # the latter knows nothing of classes
        rows = first_head_rows(model, plan, init)
        assert rows is not None and len(rows) == len(plan.ids)
        for row, token in zip(rows, plan.tokens, strict=True):
            pieces, lengths = context.pieces[token.row], torch.tensor(context.lengths[token.row]).float()
            weights = torch.ones(len(pieces)) if init == "subtoken_mean" else lengths
            expected = (weights[:, None] * head.linear.weight[list(pieces)]).sum(0) / weights.sum()
            torch.testing.assert_close(row, expected)
    drawn = [
        first_head_rows(model, plan, "normal", seed, norm) for seed, norm in ((0, "keep"), (1, "keep"), (0, "scale:2"))
    ]
    assert not torch.equal(drawn[0], drawn[1]) and torch.allclose(drawn[2], 2 * drawn[0])
    assert first_head_rows(load_with_head(make_run("qwen2").model), plan, "subtoken_mean") is None


@torch.no_grad()
def test_a_head_that_has_grown_says_the_same_bits_of_old_classes(make_run: Make) -> None:
    """With two threads a product of one position's logits ends in other bits when it has more columns."""
    base, grown = (language_head(load_with_head(make_run("phi").model)) for _ in range(2))
    size, threads = len(base.linear.weight), torch.get_num_threads()
    grown.grow([size, size + 1], torch.ones(2, 32), torch.empty(size + 2, 32))
    torch.set_num_threads(2)
    try:
        for state in torch.randn(100, 1, 32):
            assert torch.equal(grown.logits(state, apart=size)[:, :size], base.logits(state, apart=size))
        torch.testing.assert_close(grown.logits(state, apart=size), grown.logits(state))
    finally:
        torch.set_num_threads(threads)


def test_scale_and_cap_are_read_off_the_model(make_run: Make) -> None:
    kinds = ("llama", "gemma2", "cohere")
    forms: dict[str, Any] = {kind: language_head(load_with_head(make_run(kind).model)) for kind in kinds}
    assert {kind: (head.scale, head.cap) for kind, head in forms.items()} == {
        "llama": (1.0, 0.0), "gemma2": (1.0, 4.0), "cohere": (0.25, 0.0),
    }  # fmt: skip


def test_rows_never_grow_longer_than_the_tables(make_run: Make) -> None:
    rows = torch.eye(4)[1:3] * torch.tensor([[5.0], [50.0]])
    bounded = Bounded(torch.tensor([9.0, 9.0]))(rows)
    assert torch.equal(bounded[0], rows[0]) and bounded[1].norm() == pytest.approx(9.0)
    for kind in ("qwen2", "mistral"):
        loop = make_loop(make_run(kind, epochs=3, learning_rate=5.0))
        loop.run()
        head = loop.overlay.head
        rows, table = (
            (loop.overlay.rows, loop.overlay.weight) if head is None
            else (head.rows, language_head(loop.model).linear.weight)
        )  # fmt: skip
        limit = table.norm(dim=-1).quantile(0.99)
        assert rows.norm(dim=-1).max() <= limit * 1.0001 and loop.trained[-1].norm(dim=-1).max() > limit


def test_apply_rebuilds_the_checkpoint_byte_by_byte(make_run: Make, tmp_path: Path) -> None:
    config = make_run("llama")
    train(config)
    assert config.out is not None
    apply(ApplyConfig(rows=config.out / "new_rows.safetensors", model=config.model, out=tmp_path / "again", quiet=True))
    for name in (
        "model.safetensors",
        "tokenizer.json",
        "config.json",
        "new_rows.safetensors",
        "generation_config.json",
    ):
        assert (config.out / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_it_resumes_to_the_same_bits(make_run: Make, tmp_path: Path) -> None:
    config = make_run("mistral", batch_size=4, checkpoint_every=2)
    whole, half = make_loop(config), make_loop(config, RunState(tmp_path / "state", "key"))
    whole.run()
    for step in range(2):
        half.step(step, half.feed[step])
    half._save(2, [])
    other = make_loop(config, RunState(tmp_path / "state", "key"))
    other.run()
    assert whole.overlay.head is not None and other.overlay.head is not None
    assert torch.equal(whole.overlay.rows, other.overlay.rows)
    assert torch.equal(whole.overlay.head.rows, other.overlay.head.rows)


@pytest.mark.parametrize(("pooling", "objective"), [("mean", "definition_grounding"), ("lasttoken", "anchored_pairs")])
def test_contrast_on_a_pooled_decoder_keeps_its_head(
    make_run: Make, make_config: Make, pooling: str, objective: str, make_decoder: Callable[..., Path], tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    base = Transformer(str(make_decoder("llama")))
    SentenceTransformer(modules=[base, Pooling(32, pooling)]).save_pretrained(str(tmp_path / "base"))
    stock(make_decoder("llama")).save_pretrained(tmp_path / "base")
    given, own = make_config("byte-bpe").pairs, tmp_path / "pairs"
    assert given is not None
    shutil.copytree(given, own)
    about = json.loads((own / "pairs.json").read_text())  # which tells the definitions
    about["tokenizer_sha256"] = tokenizer_fingerprint(load_tokenizer(str(tmp_path / "base")))
    (own / "pairs.json").write_text(json.dumps(about))
    config = replace(make_run("llama", objective=objective, epochs=4), model=str(tmp_path / "base"), pairs=own)
    summary = train(config)
    assert config.out is not None and summary["last"]["loss"] < summary["first"]["loss"]
    before, after = (SentenceTransformer(str(folder)).encode(CLEAN) for folder in (tmp_path / "base", config.out))
    assert np.array_equal(before, after)
    head, new = stock(config.out).get_output_embeddings().weight, new_ids(config.out)
    old = stock(tmp_path / "base").get_output_embeddings().weight
    kept = [i for i in range(len(old)) if i not in new]
    assert torch.equal(head[kept], old[kept]) and head[new].norm(dim=-1).min() > 0


@pytest.mark.parametrize("options", [{"two_stage": True}, {"trainable": "row_lora"}])
def test_it_goes_with_other_ways_of_training(make_run: Make, options: dict[str, Any]) -> None:
    config = make_run("qwen2", learning_rate=None, **options)
    summary = train(config)
    assert config.out is not None and np.isfinite(summary["last"]["loss"]) and summary["last"]["move"] > 0
    assert stock(config.out)(torch.tensor([[*new_ids(config.out)]])).logits.isfinite().all()


def test_a_model_without_a_head_and_options_that_do_not_fit_are_refused(make_run: Make, make_config: Make) -> None:
    config = make_config(objective="causal_lm")
    with pytest.raises(ModelError, match="BertModel: holds no causal language-model head"):
        train(config)
    assert config.out is not None and not config.out.exists()
    with pytest.raises(ConfigError, match="leave out --layers"):
        train(make_run("llama", layers=1))


@pytest.mark.parametrize(
    ("kind", "trainable", "objective"),
    [("qwen2", "full", "causal_lm"), ("phi", "full", "causal_lm"), ("llama", "full_lora", "causal_lm"),
     ("gpt2", "full_lora", "token_kl"), ("llama", "full", "token_kl")],
)  # fmt: skip
def test_the_whole_embedding_and_its_head_move_and_are_saved(
    make_run: Make, kind: str, trainable: str, objective: str
) -> None:
    """Old classes of a head that is not tied move with `full` alone; what is saved is what was trained."""
    config = make_run(kind, trainable=trainable, objective=objective, learning_rate=None)
    summary = train(config)
    assert config.out is not None and summary["frozen"]["sha256_before"] != summary["frozen"]["sha256_after"]
    base, made, new = stock(config.model), stock(config.out), new_ids(config.out)
    tied = base.get_output_embeddings().weight is base.get_input_embeddings().weight
    old = [i for i in range(len(base.get_input_embeddings().weight)) if i not in new]
    moved = [
        not torch.equal(getattr(base, get)().weight[old], getattr(made, get)().weight[old])
        for get in ("get_input_embeddings", "get_output_embeddings")
    ]
    assert moved == [True, tied or (trainable == "full" and objective != "token_kl")]
    assert tied is (made.get_output_embeddings().weight is made.get_input_embeddings().weight)
    given_up = summary["frozen"]["given_up"]
    assert ("old_classes_moved" in given_up) is (not tied and moved[1])


def test_the_divergence_is_that_of_the_moved_table(make_run: Make) -> None:
    """Where the head is tied, an old row that no text holds still is a class."""
    loop = make_loop(make_run("qwen2", trainable="full", objective="token_kl"))
    batch, overlay = loop.feed[0][0], loop.overlay
    assert batch.aligned is not None
    read = {*batch.anchors.features["input_ids"].flatten().tolist()}
    read |= {*batch.aligned.originals.features["input_ids"].flatten().tolist()}
    with torch.no_grad():
        before = loop.loss(batch).total
        place = next(i for i in overlay.ids[overlay.new :].tolist() if i not in read)
        overlay.parametrizations["rows"].original[overlay.slots[place]] *= -1  # type: ignore[index, union-attr]
        assert loop.loss(batch).total != before


def test_a_head_that_cannot_be_extended_is_refused_by_name(
    tmp_path: Path, tokenizers_by_family: dict[str, Any]
) -> None:
    """BERT's head transforms the state before its output layer reads it."""
    from transformers import BertConfig, BertLMHeadModel

    tokenizer = tokenizers_by_family["wordpiece"]
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
                        intermediate_size=8, is_decoder=True)  # fmt: skip
    BertLMHeadModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="BertLMHeadModel cannot be given new tokens: its output layer does not read"):
        load_with_head(str(tmp_path))


def test_a_body_under_the_name_of_a_language_model_has_no_head(
    tmp_path: Path, make_decoder: Callable[..., Path]
) -> None:
    """Embedding models are saved so: the configuration names the whole, and the weights of the head are not there."""
    from safetensors.torch import load_file, save_file

    for file in make_decoder("mistral").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    save_file(
        {k: v for k, v in tensors.items() if k != "lm_head.weight"}, tmp_path / "model.safetensors", {"format": "pt"}
    )
    assert language_head(load_with_head(str(tmp_path))) is None


@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma"])  # padded, grown, tied
def test_rows_go_out_as_an_adapter_of_peft_and_come_back(make_run: Make, tmp_path: Path, kind: str) -> None:
    """PEFT's logits are the checkpoint's, and the import gives the checkpoint back, classes and all."""
    peft = pytest.importorskip("peft")
    config = make_run(kind, out=tmp_path / "out")
    train(config)
    export_adapter(ExportConfig(model=config.out, out=tmp_path / "adapter", quiet=True))
    import_adapter(ImportConfig(adapter=tmp_path / "adapter", model=config.model, out=tmp_path / "back", quiet=True))
    for name in ("model.safetensors", "tokenizer.json", "new_rows.safetensors"):
        assert sha256_file(tmp_path / "back" / name) == sha256_file(tmp_path / "out" / name), name
    base, tokenizer = stock(config.model), load_tokenizer(str(tmp_path / "adapter"))
    if len(tokenizer) > base.get_input_embeddings().num_embeddings:
        base.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    loaded = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    ids = tokenizer("we bought zorblaxin at the market", return_tensors="pt")["input_ids"]
    assert set(new_ids(tmp_path / "out")) & set(ids[0].tolist())
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, stock(config.out)(ids).logits)
