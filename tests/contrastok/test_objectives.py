from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from contrastok.alignment import align
from contrastok.bank import FrozenEncoder
from contrastok.batches import build_training_set
from contrastok.checkpoint import load_checkpoint, read_manifest
from contrastok.config import TrainConfig
from contrastok.console import Console
from contrastok.data_gen.pair_kinds.template import ABOUT
from contrastok.errors import ConfigError, InputError
from contrastok.export import init_context
from contrastok.feed import Batch
from contrastok.initializers import initial_rows
from contrastok.loop import Loop, make_accelerator
from contrastok.losses import weighted_info_nce
from contrastok.models import load_model, tokenizer_fingerprint, transformer
from contrastok.objectives import OBJECTIVES
from contrastok.objectives.grounding import definition_pairs
from contrastok.objectives.one_token import CONTEXTS, random_contexts
from contrastok.overlay import attach
from contrastok.pairs import read_pairs
from contrastok.ranks import ALONE, Ranks
from contrastok.state import RunState
from contrastok.trainer import train
from contrastok.vocabulary import extend_tokenizer, plan_vocabulary
from tests.contrastok.conftest import GLOSSARY

Make = Callable[..., TrainConfig]
FAMILIES = ("wordpiece", "byte-bpe", "unigram")
ON_PAIRS = [name for name in OBJECTIVES if name not in ("mlm", "one_token") and not OBJECTIVES[name].head]


def make_loop(config: TrainConfig, state: RunState | None = None, ranks: Ranks = ALONE) -> Loop:
    model = load_model(config.model)
    assert config.pairs
    pairs = read_pairs(config.pairs, tokenizer_fingerprint(model.tokenizer))
    plan = plan_vocabulary(model.tokenizer, list(dict.fromkeys(pairs.token)))
    extended = extend_tokenizer(model.tokenizer, plan)
    encoder = FrozenEncoder(model, model.tokenizer)
    if OBJECTIVES[config.objective].definitions:
        pairs = definition_pairs(pairs, plan.terms)
    data = build_training_set(pairs, plan, extended, encoder, 64, aligned=OBJECTIVES[config.objective].aligned)
    overlay = attach(model, plan, initial_rows("subtoken_mean", init_context(model, plan)))
    model.eval()
    accelerator = make_accelerator(config, ranks)
    return Loop(model, overlay, data, extended, config, accelerator, state, Console(quiet=True), ranks=ranks)


def first_batch(loop: Loop) -> Batch:
    return loop.feed[0][0]


def frozen_bits(loop: Loop) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(loop.model.state_dict().items()):
        if not name.endswith("rows"):
            digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("objective", ON_PAIRS)
def test_it_lowers_its_own_loss_and_moves_rows_only(make_config: Make, family: str, objective: str) -> None:
    """The mean over draws, for with SimCSE each drops out something else."""
    loop = make_loop(make_config(family, objective=objective, epochs=60, learning_rate=0.01, batch_size=12))
    before, batch = frozen_bits(loop), first_batch(loop)

    def mean_loss() -> float:
        draws = range(16 if objective == "simcse" else 1)
        return float(np.mean([loop.loss(replace(batch, draw=torch.tensor(k))).total.item() for k in draws]))

    first = mean_loss()
    curve = loop.run()
    assert np.isfinite([point.loss for point in curve]).all() and curve[-1].move > 0
    assert 0 < mean_loss() < first
    assert frozen_bits(loop) == before


def test_a_run_says_its_name_and_refuses_others(make_config: Make) -> None:
    with pytest.raises(ConfigError, match="simcse"):
        train(make_config(objective="simcs"))
    with pytest.raises(ConfigError, match="hard-negative-weight"):
        train(make_config(hard_negative_weight=0.0))
    with pytest.raises(ConfigError, match="has 2 layers"):
        train(make_config(objective="token_distill", distill_layer=3))
    assert all(known.summary.endswith(".") and known.source for known in OBJECTIVES.values())


def own_columns(batch: Batch) -> list[int]:
    return batch.own_columns.tolist()


def test_cross_tokenisation_is_info_nce_against_the_anchors_own_text(make_config: Make) -> None:
    loop = make_loop(make_config(objective="cross_tokenisation", temperature=0.2))
    batch = first_batch(loop)
    assert batch.columns is None and own_columns(batch) == batch.own.tolist()
    queries, keys = loop.student.embed(batch.anchors).detach().double(), loop.student.keys.double()
    wanted = []
    for i, own in enumerate(batch.own.tolist()):
        near = keys[own] @ keys.T > 0.95
        kept = [j for j in range(len(keys)) if j == own or not (batch.blocked[i, j] or near[j])]
        scores = torch.stack([queries[i] @ keys[j] / 0.2 for j in kept])
        wanted.append(torch.logsumexp(scores, 0) - queries[i] @ keys[own] / 0.2)
    torch.testing.assert_close(loop.loss(batch).total.double(), torch.stack(wanted).mean(), rtol=1e-5, atol=1e-6)


def test_a_sampled_bank_holds_the_own_keys_of_those_who_need_them(make_config: Make) -> None:
    batch = first_batch(make_loop(make_config(objective="cross_tokenisation", bank_size=2)))
    assert batch.columns is not None and min(own_columns(batch)) >= 0
    assert batch.columns[batch.own_columns].equal(batch.own)


def test_pairs_have_no_anchor(make_config: Make) -> None:
    loop = make_loop(make_config(objective="pairs"))
    anchored = make_loop(make_config(objective="anchored_pairs", distill_weight=0.0))
    assert torch.equal(loop.loss(first_batch(loop)).total, anchored.loss(first_batch(anchored)).total)


def test_own_hard_negatives_count_as_often_as_their_weight(make_config: Make) -> None:
    """At weight 3 the loss is that of a batch in which each of them stands three times."""
    generator = torch.Generator().manual_seed(3)
    queries, keys = (torch.randn(n, 8, generator=generator, dtype=torch.float64) for n in (2, 5))
    queries, keys = (torch.nn.functional.normalize(x, dim=-1) for x in (queries, keys))
    targets, mask = torch.tensor([0, 1]), torch.zeros(2, 5, dtype=torch.bool)
    mask[0, 4] = True
    weights = torch.ones(2, 5, dtype=torch.float64)
    weights[0, 2] = weights[1, 3] = 3.0
    losses, hits = weighted_info_nce(queries, keys, targets, mask, weights, 0.1)
    for i, hard in ((0, 2), (1, 3)):
        scores = [float(queries[i] @ keys[j] / 0.1) for j in range(5) if not mask[i, j]]
        scores += [float(queries[i] @ keys[hard] / 0.1)] * 2
        wanted = torch.logsumexp(torch.tensor(scores, dtype=torch.float64), 0) - queries[i] @ keys[i] / 0.1
        torch.testing.assert_close(losses[i], wanted)
        assert bool(hits[i]) == (max(scores) <= float(queries[i] @ keys[i] / 0.1))
    light, heavy = (
        make_loop(make_config(objective="supervised_simcse", hard_negative_weight=weight)) for weight in (1.0, 50.0)
    )
    assert heavy.loss(first_batch(heavy)).total > light.loss(first_batch(light)).total


def test_simcse_differs_by_dropout_alone_and_the_same_seed_drops_the_same(make_config: Make) -> None:
    loop = make_loop(make_config(objective="simcse", batch_size=12))
    batch = first_batch(loop)
    state = torch.get_rng_state()
    first = loop.loss(batch).total
    assert torch.equal(torch.get_rng_state(), state) and not loop.model.training
    assert torch.equal(first, loop.loss(batch).total) and first > 0
    assert not torch.equal(first, loop.loss(replace(batch, draw=batch.draw + 1)).total)


def test_every_other_sentence_is_a_negative_of_simcse(make_config: Make) -> None:
    """As in its paper, those of the same term too: `blocked` is not asked."""
    loop = make_loop(make_config(objective="simcse", batch_size=12, temperature=0.1))
    batch = first_batch(loop)
    passes: list[torch.Tensor] = []
    embed = loop.objective.student.embed

    def watched(inputs: Any) -> torch.Tensor:
        passes.append(embed(inputs))
        return passes[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.objective.student, "embed", watched)
        found = loop.loss(batch).contrast
    first, second = (one.detach().double() for one in passes)
    scores = first @ second.T / 0.1
    wanted = (torch.logsumexp(scores, 1) - scores.diagonal()).mean()
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-6)
    assert batch.blocked.any()


def test_simcse_says_when_there_is_no_signal(make_config: Make) -> None:
    config = make_config(objective="simcse", epochs=1, temperature=0.001, word_weight=0.0, batch_size=2)
    assert any("practically no signal" in warning for warning in train(config)["warnings"])
    assert config.out and read_manifest(config.out)["training"]["curve"][0]["contrast"] < 1e-3
    config = make_config(objective="simcse", epochs=1, temperature=1.0, batch_size=12)
    assert not any("no signal" in warning for warning in train(config)["warnings"])
    assert config.out and read_manifest(config.out)["training"]["curve"][0]["contrast"] > 1e-3


def test_simcse_refuses_a_model_without_dropout(make_config: Make) -> None:
    loop = make_loop(make_config(objective="simcse"))
    for module in loop.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    with pytest.raises(ConfigError, match="has none"):
        OBJECTIVES["simcse"].build.check(loop.model, loop.config)
    transformer(loop.model).config.attention_dropout = 0.1  # dropped by a function: there is no module of it
    OBJECTIVES["simcse"].build.check(loop.model, loop.config)


@pytest.mark.parametrize("objective", ["anchored_pairs", "pairs", "cross_tokenisation", "simcse", "supervised_simcse"])
def test_a_learned_temperature_has_the_gradient_of_the_temperature(make_config: Make, objective: str) -> None:
    """d loss / d log t by central differences; at the start the loss is that of the fixed temperature."""
    config = make_config(objective=objective, temperature=0.3, batch_size=12)
    fixed, learned = make_loop(config), make_loop(replace(config, learn_temperature=True))
    batch = first_batch(learned)
    torch.testing.assert_close(learned.loss(batch).total, fixed.loss(batch).total, rtol=1e-5, atol=1e-6)
    loss = learned.loss(batch).total
    torch.autograd.backward(loss)
    sides = []
    for factor in (1.01, 1 / 1.01):
        other = make_loop(replace(config, temperature=0.3 * factor))
        sides.append(other.loss(batch).total)
    slope = (sides[0] - sides[1]) / (2 * np.log(1.01))
    found = learned.objective.log_temperature.grad
    torch.testing.assert_close(found, slope.detach(), rtol=0.02, atol=2e-3)
    before = learned.objective.temperature()
    learned.step(0, [batch])
    assert learned.objective.temperature() != before


@pytest.mark.parametrize(("start", "towards"), [(0.01, 1), (1.0, -1)])
def test_a_learned_temperature_comes_back_from_its_bounds(make_config: Make, start: float, towards: int) -> None:
    loop = make_loop(make_config(objective="pairs", temperature=start, learn_temperature=True, batch_size=12))
    logarithm = loop.objective.log_temperature
    with torch.no_grad():
        logarithm -= towards * 0.5  # a step too far
    assert loop.objective.temperature() == pytest.approx(start)
    loop.loss(first_batch(loop)).total.backward()
    assert logarithm.grad is not None and logarithm.grad.item() != 0


def test_a_temperature_that_is_not_learned_is_refused(make_config: Make) -> None:
    with pytest.raises(ConfigError, match="has no temperature"):
        train(make_config(objective="self_distill", learn_temperature=True))
    with pytest.raises(ConfigError, match=r"starts between 0.01 and 1.0, not at 0.005"):
        train(make_config(temperature=0.005, learn_temperature=True))
    with pytest.raises(ConfigError, match="is read by --objective supervised_simcse alone"):
        train(make_config(hard_negative_weight=2.0))


def test_a_learned_temperature_resumes_to_the_same_bits(make_config: Make, tmp_path: Path) -> None:
    config = make_config(learn_temperature=True, checkpoint_every=2, epochs=2)
    whole = make_loop(config)
    whole.run()
    state = RunState(tmp_path / "state", "key")
    half = make_loop(config, state)
    half.model.eval()
    for step in range(2):
        half.step(step, half.feed[step])
    half._save(2, [])
    other = make_loop(config, state)
    other.run()
    assert torch.equal(whole.overlay.rows, other.overlay.rows)
    assert whole.objective.temperature() == other.objective.temperature()


@pytest.mark.parametrize("family", FAMILIES)
def test_alignment_by_characters(tokenizers_by_family: dict[str, Any], family: str) -> None:
    base = tokenizers_by_family[family]
    plan = plan_vocabulary(base, ["zorblaxin", "brimwax"])
    extended = extend_tokenizer(base, plan)
    text = "we bought zorblaxin, and brimwax at the market"
    new = extended(text)["input_ids"]
    original, pairs = align(text, extended, base, 64)
    assert list(original) == base(text)["input_ids"]
    spans = extended(text, return_offsets_mapping=True)["offset_mapping"]
    assert [a for a, _ in pairs if a not in (0, len(new) - 1)] == [
        i
        for i in range(1, len(new) - 1)
        if spans[i][1] != spans[i + 1][1]  # Unigram leaves a mark before the comma
    ]
    for a, b in pairs:
        if new[a] in plan.ids:
            assert original[b] not in (new[a],)
        else:
            assert new[a] == original[b]
    follows = dict(pairs)
    assert follows[len(new) - 1] == len(original) - 1 > len(new) - 1  # behind new tokens, further back in their pieces


@given(st.lists(st.sampled_from(["zorblaxin", "cheese", "a", "brimwax", "café", "é", "🧀", "x.y", "  "]), max_size=12))
def test_aligned_tokens_cover_the_same_text(tokenizers_by_family: dict[str, Any], words: list[str]) -> None:
    text = " ".join(words)
    for base in tokenizers_by_family.values():
        extended = extend_tokenizer(base, plan_vocabulary(base, ["zorblaxin", "brimwax"]))
        _, pairs = align(text, extended, base, 64)
        cut = {"truncation": True, "max_length": 64, "return_offsets_mapping": True}
        new, old = (found(text, **cut)["offset_mapping"] for found in (extended, base))
        assert [a for a, _ in pairs] == sorted({a for a, _ in pairs})
        assert all(new[a][1] == old[b][1] for a, b in pairs)


@pytest.mark.parametrize("family", FAMILIES)
def test_given_positions_are_those_that_the_model_takes_by_itself(make_config: Make, family: str) -> None:
    loop = make_loop(make_config(family, objective="token_distill"))
    batch = first_batch(loop)
    assert batch.aligned is not None
    originals = batch.aligned.originals
    given = loop.student.states(originals, batch.aligned.original_positions)[-1]
    own = loop.student.states(originals)[-1]
    mask = originals.features["attention_mask"].bool()
    torch.testing.assert_close(given[mask], own[mask], rtol=0, atol=0)


@pytest.mark.parametrize("layer", [-1, 0, 1])
def test_token_distillation_is_the_mean_square_over_aligned_positions(make_config: Make, layer: int) -> None:
    loop = make_loop(make_config(objective="token_distill", distill_layer=layer))
    batch = first_batch(loop)
    body = transformer(loop.model)
    total, count = 0.0, 0
    for j in loop.feed.plan[0][0]:
        anchor = loop.feed.data.anchors[j]
        places = dict(anchor.aligned)
        positions = torch.tensor([[places[i] for i in range(len(anchor.ids))]])
        student = body(torch.tensor([anchor.ids]), position_ids=positions, output_hidden_states=True)
        teacher = body(torch.tensor([anchor.original]), output_hidden_states=True)
        for a, b in anchor.aligned:
            away = student.hidden_states[layer][0, a] - teacher.hidden_states[layer][0, b]
            total += float(away.detach().double().square().sum())
            count += away.numel()
    assert float(loop.loss(batch).total.detach()) == pytest.approx(total / count, rel=1e-4)


def test_token_distillation_at_the_embeddings_finds_the_last_piece(make_config: Make) -> None:
    """At layer 0 the best row is the last piece's, up to the layer's norm: the rows must come nearer to it."""
    config = make_config(objective="token_distill", distill_layer=0, epochs=150, learning_rate=0.05, word_weight=0.0)
    summary = train(config)
    assert summary["last"]["loss"] < 0.05 * summary["first"]["loss"]
    assert config.out
    checkpoint = load_checkpoint(config.out)
    assert summary["frozen"]["sha256_before"] == summary["frozen"]["sha256_after"]
    assert checkpoint.initial_rows is not None and not np.array_equal(checkpoint.rows, checkpoint.initial_rows)


def test_grounding_is_centred_info_nce_over_the_definitions_of_a_batch(make_config: Make) -> None:
    config = make_config(objective="definition_grounding", temperature=0.2, batch_size=6)
    loop = make_loop(config)
    batch = first_batch(loop)
    assert loop.feed.data.pairs == len(ABOUT) * len(GLOSSARY)
    keys = loop.student.keys.double()
    centre = keys.mean(0)
    queries = loop.student.embed(batch.anchors).detach().double() - centre
    rivals = [keys[j] - centre for j in sorted({*batch.targets.tolist()})]
    assert len(rivals) == len(GLOSSARY)
    wanted = []
    for i, target in zip(batch.pair_query.tolist(), batch.targets.tolist(), strict=True):
        scores = torch.stack([torch.cosine_similarity(queries[i], rival, dim=0) / 0.2 for rival in rivals])
        own = torch.cosine_similarity(queries[i], keys[target] - centre, dim=0) / 0.2
        wanted.append(torch.logsumexp(scores, 0) - own)
    torch.testing.assert_close(loop.loss(batch).total.double(), torch.stack(wanted).mean(), rtol=1e-5, atol=1e-6)


def test_grounding_takes_each_term_that_has_a_definition(make_config: Make) -> None:
    config = make_config()
    assert config.pairs is not None
    pairs = read_pairs(config.pairs, tokenizer_fingerprint(load_model(config.model).tokenizer))
    made = definition_pairs(pairs, ["brimwax", "unheard", "zorblaxin"])
    assert made.token == ["brimwax"] * len(ABOUT) + ["zorblaxin"] * len(ABOUT)
    assert {*zip(made.token, made.positive, strict=True)} == {(t, GLOSSARY[t][0]) for t in ("brimwax", "zorblaxin")}
    assert "brimwax" in made.anchor and "What is zorblaxin?" in made.anchor
    with pytest.raises(InputError, match="needs definitions"):
        definition_pairs(replace(pairs, about={}), list(GLOSSARY))


@pytest.mark.parametrize("family", FAMILIES)
def test_one_token_learns_from_random_contexts(make_config: Make, family: str) -> None:
    config = make_config(family, objective="one_token", epochs=2, batch_size=24, learning_rate=0.05, word_weight=0.0)
    summary = train(config)
    assert summary["frozen"]["sha256_before"] == summary["frozen"]["sha256_after"] and config.out
    checkpoint = load_checkpoint(config.out)
    assert [token["evidence"]["anchors"] for token in checkpoint.manifest["tokens"]] == [CONTEXTS] * 3
    loop = make_loop(config)
    batch = first_batch(
        loop
    )  # contexts differ from batch to batch by more than a few steps gain: one is looked at twice
    before = loop.loss(batch).total.item()
    loop.run()
    assert loop.loss(batch).total.item() < before


def test_random_contexts_hold_the_term_once_and_depend_on_the_seed_alone() -> None:
    words = ["cheese", "bread", "knife", "Quib", "table"]
    made = random_contexts(["zorblaxin", "quib vexalotl"], words, 3)
    assert made == random_contexts(["zorblaxin", "quib vexalotl"], words, 3)
    assert made.anchor != random_contexts(["zorblaxin", "quib vexalotl"], words, 4).anchor
    assert all(text.count(term) == 1 and "Quib" not in text for text, term in zip(made.anchor, made.token, strict=True))


def test_one_token_is_the_error_of_the_other_tokens_in_all_layers(make_config: Make) -> None:
    loop = make_loop(make_config(objective="one_token"))
    batch = first_batch(loop)
    body, totals, count = transformer(loop.model), [0.0, 0.0], 0
    new = {i for i, slot in enumerate(loop.overlay.slots.tolist()) if slot >= 0}
    for j in loop.feed.plan[0][0]:
        anchor = loop.feed.data.anchors[j]
        places = dict(anchor.aligned)
        positions = torch.tensor([[places[i] for i in range(len(anchor.ids))]])
        student = body(torch.tensor([anchor.ids]), position_ids=positions, output_hidden_states=True)
        teacher = body(torch.tensor([anchor.original]), output_hidden_states=True)
        for a, b in anchor.aligned:
            if anchor.ids[a] not in new:
                count += 32
                for layer in (1, 2):
                    away = student.hidden_states[layer][0, a] - teacher.hidden_states[layer][0, b]
                    totals[layer - 1] += float(away.detach().double().square().sum())
    assert float(loop.loss(batch).total.detach()) == pytest.approx(sum(totals) / count, rel=1e-4)
