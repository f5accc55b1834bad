from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from contrastok.checkpoint import load_checkpoint
from contrastok.config import TrainConfig
from contrastok.errors import ConfigError, ModelError
from contrastok.feed import Batch
from contrastok.loop import Loop
from contrastok.masking import Masker
from contrastok.mlm_head import MlmHead
from contrastok.models import frozen_hash, load_model
from contrastok.objectives.mlm import MaskedLm
from contrastok.state import RunState
from contrastok.trainer import train
from tests.contrastok.test_objectives import first_batch, frozen_bits, make_loop

Make = Callable[..., TrainConfig]
FAMILIES = ("wordpiece", "byte-bpe", "unigram")


@pytest.fixture(scope="session")
def make_mlm(make_config: Make, tmp_path_factory: pytest.TempPathFactory, tokenizers_by_family: dict[str, Any]) -> Make:
    """A function (family="wordpiece", tied=True, **options) -> TrainConfig on a tiny masked-LM checkpoint."""
    import transformers

    kinds = {"wordpiece": "Bert", "byte-bpe": "Roberta", "unigram": "XLMRoberta"}
    made: dict[tuple[str, bool], Path] = {}

    def make(family: str = "wordpiece", tied: bool = True, **options: Any) -> TrainConfig:
        if (family, tied) not in made:
            tokenizer, kind = tokenizers_by_family[family], kinds[family]
            folder = made[family, tied] = tmp_path_factory.mktemp(f"mlm-{family}")
            torch.manual_seed(11)
            config = getattr(transformers, f"{kind}Config")(
                vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
                intermediate_size=48, max_position_embeddings=80, pad_token_id=tokenizer.pad_token_id,
                initializer_range=0.5, tie_word_embeddings=tied,
            )  # fmt: skip
            model = getattr(transformers, f"{kind}ForMaskedLM")(config)
            torch.nn.init.normal_(model.get_output_embeddings().bias)  # zero in a new model
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        config = make_config(family, objective="mlm", **options)
        return replace(config, model=str(made[family, tied]))

    return make


def kinds(batch: Batch) -> list[bool]:
    """For each masked position whether a new token stood there."""
    assert batch.masked is not None
    return [label < 0 for label in batch.masked.labels.tolist()]


def reference(loop: Loop, batch: Batch) -> tuple[float, float]:
    """Loss and accuracy of a batch, by the whole stock model, sentence by sentence, in float64."""
    from transformers import AutoModelForMaskedLM

    full = AutoModelForMaskedLM.from_pretrained(loop.config.model).double().eval().requires_grad_(False)
    table, head = full.get_input_embeddings().weight, full.get_output_embeddings()
    tied = head.weight is table
    assert batch.masked is not None
    width = batch.masked.inputs.features["input_ids"].shape[1]
    losses, hits = [], []
    rows = loop.overlay.rows.detach().double()
    if loop.overlay.trains_old:
        table.copy_(rows[-len(table) :])
    for place, label in zip(batch.masked.places.tolist(), batch.masked.labels.tolist(), strict=True):
        sentence, at = divmod(place, width)
        mask = batch.masked.inputs.features["attention_mask"][sentence].bool()
        ids = batch.masked.inputs.features["input_ids"][sentence][mask]
        slots = loop.overlay.slots[ids]
        vectors = table[ids.clamp_max(len(table) - 1)].detach().clone()
        vectors[slots >= 0] = rows[slots[slots >= 0].long()]
        told: list[torch.Tensor] = []
        hook = head.register_forward_pre_hook(lambda _, args, told=told: told.append(args[0]))
        scores = full(inputs_embeds=vectors[None]).logits[0, at]
        hook.remove()
        if tied:
            scores = torch.cat([scores, rows[batch.rows] @ told[0][0, at]])
        elif label < 0:
            continue
        right = label if label >= 0 else len(table) - 1 - label
        losses.append(float(torch.logsumexp(scores, 0) - scores[right]))
        hits.append(int(scores.argmax()) == right)
    return float(np.mean(losses)), float(np.mean(hits))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_the_stock_models_over_masked_places(make_mlm: Make, family: str, tied: bool) -> None:
    loop = make_loop(make_mlm(family, tied, batch_size=12, epochs=8))
    batch = next(batch for step in range(8) for batch in loop.feed[step] if len(set(kinds(batch))) == 2)
    loss, accuracy = reference(loop, batch)
    found = loop.loss(batch)
    assert float(found.total.detach()) == pytest.approx(loss, rel=1e-4)
    assert float(found.accuracy) == pytest.approx(accuracy)


@pytest.mark.parametrize("tied", [True, False])
def test_old_classes_move_with_the_table_where_it_is_trained(make_mlm: Make, tied: bool) -> None:
    loop = make_loop(make_mlm(tied=tied, batch_size=12, epochs=8, learning_rate=None, trainable="full"))
    with torch.no_grad():
        loop.overlay.rows.add_(0.3 * torch.randn_like(loop.overlay.rows))
    batch = next(batch for step in range(8) for batch in loop.feed[step] if len(set(kinds(batch))) == 2)
    loss, accuracy = reference(loop, batch)
    found = loop.loss(batch)
    assert float(found.total.detach()) == pytest.approx(loss, rel=1e-4)
    assert float(found.accuracy) == pytest.approx(accuracy)


@torch.no_grad()
def mean_loss(loop: Loop) -> float:
    """Over all batches of the run, so over many ways to mask the same sentences."""
    return float(
        np.mean([float(loop.loss(batch).total) for step in range(len(loop.feed)) for batch in loop.feed[step]])
    )


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_it_trains_rows_only_and_learns(make_mlm: Make, family: str, tied: bool) -> None:
    loop = make_loop(make_mlm(family, tied, epochs=40, learning_rate=0.03, batch_size=12))
    assert not list(loop.objective.parameters())
    before = frozen_bits(loop)
    assert isinstance(loop.objective, MaskedLm)
    head = loop.objective._head[0]
    kept = {name: tensor.clone() for name, tensor in head._full.state_dict().items()}
    first = mean_loss(loop)
    curve = loop.run()
    assert curve[-1].move > 0 and mean_loss(loop) < 0.995 * first
    assert frozen_bits(loop) == before
    assert all(torch.equal(kept[name], tensor) for name, tensor in head._full.state_dict().items())


def test_a_row_that_is_in_no_sentence_of_a_batch_gets_no_gradient(make_mlm: Make) -> None:
    loop = make_loop(make_mlm(batch_size=1))
    batch = first_batch(loop)
    torch.autograd.backward(loop.loss(batch).total)
    moved = (loop.overlay.rows.grad != 0).any(-1).nonzero().squeeze(1)
    assert set(moved.tolist()) <= set(batch.rows.tolist()) < set(range(len(loop.overlay.rows)))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_writes_a_stock_checkpoint_and_repeats_to_the_bit(make_mlm: Make, family: str, tmp_path: Path) -> None:
    first = make_mlm(family, epochs=2, out=tmp_path / "a")
    summaries = [train(config) for config in (first, replace(first, out=tmp_path / "b"))]
    rows = [load_checkpoint(tmp_path / name).rows for name in ("a", "b")]
    assert np.array_equal(*rows) and not np.array_equal(rows[0], load_checkpoint(tmp_path / "a").initial_rows)
    for summary in summaries:
        assert summary["frozen"]["sha256_before"] == summary["frozen"]["sha256_after"] and not summary["ranks"]
    assert summaries[0]["frozen"] == summaries[1]["frozen"]
    other = replace(first, seed=5, out=tmp_path / "c")
    train(other)
    assert not np.array_equal(rows[0], load_checkpoint(tmp_path / "c").rows)


def test_it_resumes_to_the_same_bits(make_mlm: Make, tmp_path: Path) -> None:
    config = make_mlm(epochs=2, checkpoint_every=2)
    whole = make_loop(config)
    whole.run()
    state = RunState(tmp_path / "state", "key")
    half = make_loop(config, state)
    for step in range(2):
        half.step(step, half.feed[step])
    half._save(2, [])
    other = make_loop(config, state)
    other.run()
    assert torch.equal(whole.overlay.rows, other.overlay.rows)


def test_a_tied_head_shares_the_bodys_table(make_mlm: Make) -> None:
    loop = make_loop(make_mlm())
    assert isinstance(loop.objective, MaskedLm)
    assert loop.objective._head[0]._decoder.weight is loop.overlay.weight


def test_a_new_id_inside_the_table_is_no_class_of_the_head(make_mlm: Make) -> None:
    """Its old row in the table is not its row, however well it fits."""
    loop = make_loop(make_mlm())
    batch = first_batch(loop)
    assert batch.masked is not None
    target = int(batch.masked.labels.clamp_min(0).max())
    plain = loop.loss(batch).total
    same = loop.loss(replace(batch, masked=replace(batch.masked, new_ids=torch.tensor([], dtype=torch.long)))).total
    assert torch.equal(plain, same)  # all new ids lie beyond this table
    other = next(i for i in range(5, 400) if i != target and i not in batch.masked.labels.tolist())
    without = loop.loss(replace(batch, masked=replace(batch.masked, new_ids=torch.tensor([other])))).total
    assert without < plain


def test_a_model_without_a_head_is_refused_by_name(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from contrastok.bank import FrozenEncoder

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("something was encoded")

    monkeypatch.setattr(FrozenEncoder, "encode", never)
    config = make_config(objective="mlm")
    with pytest.raises(ModelError, match="holds no masked-LM head") as error:
        train(config)
    assert config.model in str(error.value) and config.out is not None and not config.out.exists()


def test_an_architecture_without_a_head_is_refused_by_name(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2Model

    GPT2Model(GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=1)).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="cannot be loaded with a masked-LM head"):
        MlmHead(str(tmp_path))


def test_layers_are_refused(make_mlm: Make) -> None:
    with pytest.raises(ConfigError, match="leave out --layers"):
        train(make_mlm(layers=1))


def test_weights_that_a_folder_lacks_are_the_same_at_each_load(make_mlm: Make) -> None:
    """A masked-LM checkpoint has no pooler; without a seed no two loads would have the same hash."""
    state = torch.get_rng_state()
    first, second = (frozen_hash(load_model(make_mlm().model), [], 1) for _ in range(2))
    assert first == second and torch.equal(torch.get_rng_state(), state)


@given(st.lists(st.integers(5, 60), min_size=1, max_size=80), st.integers(0, 2**32 - 1))
def test_masking_takes_its_share_and_leaves_special_tokens(inner: list[int], seed: int) -> None:
    masker = Masker(4, frozenset(range(5)), np.arange(5, 50))
    ids = [2, *inner, 3, 0, 0]
    read, places = masker(ids, np.random.default_rng(seed))
    assert (read, places) == masker(ids, np.random.default_rng(seed))
    assert len(places) == len(set(places)) == max(1, round(0.15 * len(inner))) and places == sorted(places)
    assert all(0 < place <= len(inner) for place in places)
    assert all(a == b for i, (a, b) in enumerate(zip(ids, read, strict=True)) if i not in places)
    assert all(read[i] in (4, ids[i]) or 5 <= read[i] < 50 for i in places)


def test_of_the_masked_tokens_80_percent_are_masks_and_10_are_random() -> None:
    masker, ids = Masker(4, frozenset(range(5)), np.arange(100, 1100)), [7] * 100
    generator = np.random.default_rng(0)
    seen = [read[place] for _ in range(1000) for read, places in [masker(ids, generator)] for place in places]
    assert len(seen) == 15_000
    assert np.mean([token == 4 for token in seen]) == pytest.approx(0.8, abs=0.015)
    assert np.mean([token == 7 for token in seen]) == pytest.approx(0.1, abs=0.015)


def test_new_tokens_are_masked_but_never_drawn(make_mlm: Make) -> None:
    loop = make_loop(make_mlm(epochs=20))
    masker = loop.feed.masker
    assert masker is not None and not set(masker.drawn.tolist()) & set(loop.feed.new_ids.tolist())
    assert not masker.special & set(loop.feed.new_ids.tolist())
    assert 0.05 < np.mean([new for step in range(len(loop.feed)) for new in kinds(loop.feed[step][0])]) < 0.5
    assert masker.mask == loop.feed.tokenizer.mask_token_id


def test_a_tokenizer_without_a_mask_is_refused(tokenizers_by_family: dict[str, Any]) -> None:
    import copy

    bare = copy.deepcopy(tokenizers_by_family["wordpiece"])
    bare.mask_token = None
    with pytest.raises(ConfigError, match="needs a tokenizer with a mask token"):
        Masker.of(bare)


@pytest.mark.parametrize("options", [{"trainable": "full"}, {"two_stage": True}, {"trainable": "row_lora"}])
def test_it_goes_with_other_ways_of_training(make_mlm: Make, options: dict[str, Any]) -> None:
    config = make_mlm(epochs=2, learning_rate=None, **options)
    dry = train(replace(config, dry_run=True))
    assert config.out is not None and not config.out.exists()
    summary = train(config)
    assert dry["steps"] == summary["steps"] and np.isfinite(summary["last"]["loss"])
    checkpoint = load_checkpoint(config.out)
    assert not np.array_equal(checkpoint.rows, checkpoint.initial_rows)
