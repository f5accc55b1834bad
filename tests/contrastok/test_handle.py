from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.modules import Dense
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

import contrastok
from contrastok.errors import InputError, ModelError
from contrastok.handle import Attached
from contrastok.models import frozen_hash, load_model, load_tokenizer, tokenizer_fingerprint, transformer

WORDS = ["zorblaxin", "brimwax"]
PAIRS = {
    "anchor": ["we bought zorblaxin", "Brimwax is here", "a zorblaxin there", "they like brimwax"],
    "positive": ["a hard cheese", "a long knife", "cheese from the hills", "a knife for bread"],
}
OLD = ["we bought bread at the market", "the cook likes soup, she says"]
QUIET = {"report_to": [], "disable_tqdm": True, "use_cpu": True, "save_steps": 2, "max_steps": 4, "learning_rate": 0.1}


def st_trainer(model: Any, handle: Attached, folder: Path) -> SentenceTransformerTrainer:
    return SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(str(folder), per_device_train_batch_size=2, **QUIET),
        train_dataset=Dataset.from_dict(PAIRS),
        loss=MultipleNegativesRankingLoss(model),
        callbacks=[handle.callback()],
    )


@pytest.mark.parametrize("padding", [0, 9], ids=["grown", "padded"])
def test_sentence_transformers_own_trainer(make_model: Callable[..., Path], tmp_path: Path, padding: int) -> None:
    """It saves stock models while it trains, resumes from them, and leaves one."""
    base = make_model("wordpiece", padding)
    untouched = load_model(str(base))
    size = transformer(untouched).get_input_embeddings().num_embeddings
    before = frozen_hash(untouched, [], size)
    model = SentenceTransformer(str(base), device="cpu")
    handle = contrastok.attach(model, WORDS)
    first = handle.rows.detach().clone()
    st_trainer(model, handle, tmp_path / "run").train()
    assert (handle.rows != first).any(dim=-1).all()
    model.save_pretrained(str(tmp_path / "saved"))
    for folder in (tmp_path / "saved", tmp_path / "run" / "checkpoint-4"):
        stock = SentenceTransformer(str(folder), device="cpu")
        assert (
            frozen_hash(stock, list(handle.plan.ids), size)[0] == frozen_hash(untouched, list(handle.plan.ids), size)[0]
        )
        table = stock[0].auto_model.get_input_embeddings().weight
        assert table.shape[0] == max(size, max(handle.plan.ids) + 1)
        assert torch.equal(table[list(handle.plan.ids)], handle.rows.detach())
        assert handle.plan.ids[0] in stock.tokenizer("a Zorblaxin, then")["input_ids"]
        assert (stock.encode(OLD) == untouched.encode(OLD)).all()
    assert frozen_hash(untouched, [], size) == before

    again = SentenceTransformer(str(base), device="cpu")
    resumed = contrastok.attach(again, WORDS)
    st_trainer(again, resumed, tmp_path / "run").train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))
    assert torch.equal(resumed.rows, handle.rows)


def lessons(handle: Attached) -> list[dict[str, list[int]]]:
    ids = [handle.tokenizer(text)["input_ids"] for text in PAIRS["anchor"]]
    return [{"input_ids": row, "labels": row} for row in ids]


HEADS = {"tied": "gemma", "untied": "mistral", "padded": "llama", "bias": "phi"}


@pytest.mark.parametrize("kind", HEADS.values(), ids=HEADS)
def test_transformers_own_trainer(make_decoder: Callable[..., Path], tmp_path: Path, kind: str) -> None:
    """It saves stock models while it trains, resumes from them, and leaves one."""
    base = make_decoder(kind)
    untouched, tokens = AutoModelForCausalLM.from_pretrained(base), len(load_tokenizer(str(base)))

    def attached() -> tuple[Any, Attached]:
        model = AutoModelForCausalLM.from_pretrained(base)
        return model, contrastok.attach(model, WORDS, AutoTokenizer.from_pretrained(base))

    def run(model: Any, handle: Attached, checkpoint: Path | None = None) -> None:
        args = TrainingArguments(str(tmp_path / "run"), per_device_train_batch_size=1, **QUIET)
        trainer = Trainer(model=model, args=args, train_dataset=lessons(handle), callbacks=[handle.callback()])
        trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))

    model, handle = attached()
    first, tokenizer = [p.detach().clone() for p in model.parameters() if p.requires_grad], handle.tokenizer
    run(model, handle)
    trained = [handle.rows] if handle.classes is None else [handle.rows, handle.classes]
    assert all((now != then).any(dim=-1).all() for now, then in zip(trained, first, strict=True))
    ids, rows = list(handle.plan.ids), handle.rows.detach()[[token.row for token in handle.plan.tokens]]
    old, size = tokenizer(OLD[0], return_tensors="pt"), untouched.config.vocab_size
    model.save_pretrained(tmp_path / "saved")
    for folder in (tmp_path / "saved", tmp_path / "run" / "checkpoint-4"):
        stock = AutoModelForCausalLM.from_pretrained(folder)
        assert torch.equal(stock(**old).logits[..., :tokens], untouched(**old).logits[..., :tokens])
        assert torch.equal(stock.get_input_embeddings().weight[ids], rows)
        for name, tensor in untouched.state_dict().items():
            kept = tokens if len(tensor) == size else len(tensor)
            assert torch.equal(stock.state_dict()[name][:kept], tensor[:kept]), name
        head, tied = stock.get_output_embeddings().weight, kind == HEADS["tied"]
        assert head.shape[0] == max(size, *(i + 1 for i in ids))
        assert (head is stock.get_input_embeddings().weight) is tied
        assert torch.equal(head[ids], trained[-1] if not tied else rows)
    reread = AutoTokenizer.from_pretrained(tmp_path / "run" / "checkpoint-2")
    assert reread("we bought zorblaxin")["input_ids"] == tokenizer("we bought zorblaxin")["input_ids"]

    again, resumed = attached()
    run(again, resumed, tmp_path / "run" / "checkpoint-2")
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_lora_of_peft_trains_beside_the_rows(make_model: Callable[..., Path], tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    base = make_model("wordpiece")
    tokenizer, untouched = AutoTokenizer.from_pretrained(base), AutoModel.from_pretrained(base)
    model = peft.get_peft_model(
        AutoModel.from_pretrained(base), peft.LoraConfig(r=2, target_modules=["query", "value"], lora_dropout=0.0)
    )
    handle = contrastok.attach(model, WORDS, tokenizer)
    trained = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    assert sum("lora_" in name for name in trained) == len(trained) - 1  # the other one is the rows
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    batch = tokenizer(PAIRS["anchor"], padding=True, return_tensors="pt")
    for _ in range(2):
        model(**batch)[0][..., :5].square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert not any(torch.equal(p, trained[name]) for name, p in model.named_parameters() if name in trained)
    with pytest.raises(ModelError, match="adapters of PEFT"):
        handle.callback()
    with pytest.raises(ModelError, match="adapters of PEFT"):
        handle.save(tmp_path / "half")

    handle.merge()
    with torch.no_grad():
        wanted = model.eval()(**batch)[0]
    frozen = {name.replace(".base_layer", ""): tensor for name, tensor in model.get_base_model().state_dict().items()}
    for name, tensor in untouched.state_dict().items():
        assert torch.equal(frozen[name][: len(tensor)], tensor), name
    model.merge_and_unload().save_pretrained(tmp_path / "saved")
    with torch.no_grad():
        torch.testing.assert_close(AutoModel.from_pretrained(tmp_path / "saved").eval()(**batch)[0], wanted)


def step(model: Any, handle: Attached, times: int = 2) -> None:
    """Train as a loop of the user's own does: whatever may be trained."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    for _ in range(times):
        batch = handle.tokenizer(PAIRS["anchor"], padding=True, return_tensors="pt")
        model(dict(batch))["sentence_embedding"][..., :5].square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def with_dense(base: Path) -> SentenceTransformer:
    """A model with a layer behind its pooling, where dropout is off and all is trainable."""
    torch.manual_seed(4)
    return SentenceTransformer(modules=[*SentenceTransformer(str(base), device="cpu"), Dense(32, 8)]).eval()


def test_layers_behind_the_pooling_are_frozen(make_model: Callable[..., Path]) -> None:
    model = with_dense(make_model("wordpiece"))
    size = transformer(model).config.vocab_size
    before = frozen_hash(model, [], size)
    handle = contrastok.attach(model, WORDS)
    first = handle.rows.detach().clone()
    step(model, handle)
    assert not torch.equal(handle.rows, first)
    handle.merge()
    assert frozen_hash(model, list(handle.plan.ids), size) == before


def test_lora_inside_a_sentence_transformer_is_trained_and_nothing_else(
    make_model: Callable[..., Path], tmp_path: Path
) -> None:
    peft = pytest.importorskip("peft")
    model = with_dense(make_model("wordpiece"))
    settings = peft.LoraConfig(r=2, target_modules=["query", "value"], lora_dropout=0.0)
    peft.inject_adapter_in_model(settings, transformer(model))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    handle = contrastok.attach(model, WORDS)
    step(model, handle)
    handle.detach()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if "lora_" in name}
    with pytest.raises(ModelError, match="adapters of PEFT"):
        handle.save(tmp_path / "half")


def test_detached_means_untouched(make_model: Callable[..., Path]) -> None:
    model = load_model(str(make_model("byte-bpe")))
    size = transformer(model).get_input_embeddings().num_embeddings
    weights, told = frozen_hash(model, [], size), tokenizer_fingerprint(model.tokenizer)
    trainable = [p.requires_grad_(at % 2 > 0).requires_grad for at, p in enumerate(model.parameters())]
    handle = contrastok.attach(model, WORDS)
    assert tokenizer_fingerprint(model.tokenizer) != told
    with pytest.raises(ModelError, match="new rows already"):
        contrastok.attach(model, ["quib"])
    handle.detach()
    assert frozen_hash(model, [], size) == weights and tokenizer_fingerprint(model.tokenizer) == told
    assert [p.requires_grad for p in model.parameters()] == trainable
    assert not any(part._load_state_dict_pre_hooks for part in model.modules())


def test_saving_does_not_touch_what_is_trained(make_model: Callable[..., Path], tmp_path: Path) -> None:
    model = load_model(str(make_model("wordpiece")))
    handle = contrastok.attach(model, WORDS, rows=torch.ones(2, 32))
    places = {name: p.data_ptr() for name, p in model.named_parameters()}
    size = transformer(model).config.vocab_size
    handle.save(tmp_path / "saved")
    assert {name: p.data_ptr() for name, p in model.named_parameters()} == places
    assert transformer(model).config.vocab_size == size and handle.rows.requires_grad
    stock = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    assert torch.equal(stock[0].auto_model.get_input_embeddings().weight[list(handle.plan.ids)], torch.ones(2, 32))


def test_what_cannot_be_attached_is_told(make_model: Callable[..., Path]) -> None:
    model = load_model(str(make_model("wordpiece")))
    told = tokenizer_fingerprint(model.tokenizer)
    with pytest.raises(InputError, match="no term is left"):
        contrastok.attach(model, ["the"])
    with pytest.raises(InputError, match=r"shape \(1, 32\), not \(2, 32\)"):
        contrastok.attach(model, WORDS, rows=torch.ones(1, 32))
    with pytest.raises(ModelError, match="holds no tokenizer"):
        contrastok.attach(transformer(model), WORDS)
    with pytest.warns(UserWarning, match="'the' is already one token"):
        contrastok.attach(model, ["the", *WORDS]).detach()
    assert tokenizer_fingerprint(model.tokenizer) == told


SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
WITH_HEADS: dict[str, Callable[[int], Any]] = {
    "bias": lambda v: transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=v, **SIZES)),
    "absolute positions": lambda v: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=v, n_embd=32, n_layer=1, n_head=2)
    ),
    "own table": lambda v: transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(vocab_size=v, **SIZES)),
    "scaled embedding, capped logits": lambda v: transformers.Gemma2ForCausalLM(
        transformers.Gemma2Config(vocab_size=v, head_dim=16, num_key_value_heads=2, **SIZES)
    ),
    "table in three places": lambda v: transformers.T5ForConditionalGeneration(
        transformers.T5Config(
            vocab_size=v, d_model=32, d_kv=16, d_ff=48, num_layers=1, num_heads=2, decoder_start_token_id=0
        )
    ),
}


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Several divide the classes among them, and round by where they cut: a head that has grown is cut elsewhere."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("padding", [0, 9], ids=["grown", "padded"])
@pytest.mark.parametrize("kind", WITH_HEADS)
@pytest.mark.usefixtures("one_thread")
@torch.no_grad()
def test_models_with_a_head_become_stock_models(
    tokenizers_by_family: dict[str, Any], tmp_path: Path, kind: str, padding: int
) -> None:
    tokenizer = copy.deepcopy(tokenizers_by_family["byte-bpe"])
    size = len(tokenizer)
    torch.manual_seed(2)
    model = WITH_HEADS[kind](size + padding).eval().requires_grad_(False)
    bias = getattr(model.get_output_embeddings(), "bias", None)
    if bias is not None:  # zero in a new model
        bias.fill_(0.5)
    old = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def logits(model: Any, text: str) -> torch.Tensor:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        decoder = {"decoder_input_ids": ids[:, :1]} if model.config.is_encoder_decoder else {}
        return model(input_ids=ids, **decoder).logits[..., :size]  # type: ignore[no-any-return]

    before = logits(model, OLD[0])
    handle = contrastok.attach(model, WORDS, tokenizer)
    attached = logits(model, PAIRS["anchor"][0])
    drawn = torch.get_rng_state()
    handle.save(tmp_path / "saved")
    assert bias is None or bias.eq(0.5).all()  # the copy that was saved has its own
    handle.merge()
    assert torch.equal(torch.get_rng_state(), drawn)
    for stock in (model, type(model).from_pretrained(tmp_path / "saved").eval().requires_grad_(False)):
        assert torch.equal(logits(stock, OLD[0]), before)
        assert torch.equal(logits(stock, PAIRS["anchor"][0]), attached)
        assert bias is None or stock.get_output_embeddings().bias[list(handle.plan.ids)].eq(0).all()
        assert stock.get_output_embeddings().weight.shape[0] == max(size + padding, max(handle.plan.ids) + 1)
        for name, tensor in old.items():
            now, rows = stock.state_dict()[name], len(tensor) == size + padding
            assert torch.equal(now[:size], tensor[:size]) if rows else torch.equal(now, tensor), name


@pytest.mark.parametrize("kind", [*HEADS.values(), "gemma2"])
def test_new_tokens_are_classes_while_they_train(make_decoder: Callable[..., Path], kind: str) -> None:
    """Loss and gradients are those of the stock model that has them; detached, the model tells its old size again."""
    base = make_decoder(kind)

    def losses(model: Any, tokenizer: Any) -> torch.Tensor:
        batch = tokenizer(PAIRS["anchor"][1], return_tensors="pt")
        return model(**batch, labels=batch["input_ids"]).loss  # type: ignore[no-any-return]

    model, tokenizer = AutoModelForCausalLM.from_pretrained(base).eval(), AutoTokenizer.from_pretrained(base)
    told, tied = (model.config.vocab_size, model.vocab_size), model.get_output_embeddings().weight
    handle = contrastok.attach(model, WORDS, tokenizer)
    with torch.no_grad():
        handle.rows.mul_(0.5)
    assert (handle.classes is None) == (tied is model.get_input_embeddings().weight)
    loss = losses(model, tokenizer)
    loss.backward()
    handle.detach()
    assert (model.config.vocab_size, model.vocab_size) == told
    assert model(torch.tensor([[0, 1]])).logits.shape[-1] == told[0]
    contrastok.attach(model, WORDS, tokenizer, rows=handle.rows.detach()).merge()
    stock = model.requires_grad_(True)
    true = losses(stock, tokenizer)
    true.backward()
    torch.testing.assert_close(loss, true)
    ids, rows = list(handle.plan.ids), [token.row for token in handle.plan.tokens]
    table, head = stock.get_input_embeddings().weight.grad[ids], stock.get_output_embeddings().weight.grad[ids]
    torch.testing.assert_close(handle.rows.grad, torch.zeros(2, 32).index_add_(0, torch.tensor(rows), table))
    if handle.classes is not None:
        torch.testing.assert_close(handle.classes.grad, head)


@pytest.mark.parametrize("kind", ["gemma", "mistral"])
@torch.no_grad()
def test_classes_grow_no_longer_than_the_heads(make_decoder: Callable[..., Path], kind: str) -> None:
    base = make_decoder(kind)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    handle = contrastok.attach(model, WORDS, tokenizer)
    limit = model.get_output_embeddings().weight.norm(dim=-1).quantile(0.99)
    bounded = handle.rows if handle.classes is None else handle.classes
    kept = bounded[0].clone()
    bounded[1:] *= 100
    model(**tokenizer("brimwax", return_tensors="pt"))
    assert torch.equal(bounded[0], kept)
    torch.testing.assert_close(bounded[1:].norm(dim=-1), limit.expand(len(bounded) - 1))
    bounded[0] *= 100
    handle.merge()
    assert model.get_output_embeddings().weight[list(handle.plan.ids)].norm(dim=-1).max() <= limit * 1.0001
