from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from contrastok.bank import FrozenEncoder
from contrastok.candidates import candidates
from contrastok.checkpoint import load_checkpoint
from contrastok.cli import main
from contrastok.config import TrainConfig
from contrastok.console import Console
from contrastok.errors import ContrastokError, InputError, ModelError
from contrastok.hypernet.definitions import Definitions, read_definitions
from contrastok.hypernet.lesson import Lesson, make_lesson
from contrastok.hypernet.network import PIECES, HyperNetwork, heads
from contrastok.hypernet.store import (
    MANIFEST,
    WEIGHTS,
    base_of,
    kept_network,
    load_network,
    network_key,
    save_network,
)
from contrastok.hypernet.training import SILENT, HypernetSettings, Trained, rate, row_loss, train_network
from contrastok.initializers import InitContext, initial_rows
from contrastok.models import input_embedding, load_model, transformer
from contrastok.state import RunState
from contrastok.trainer import train
from contrastok.vocabulary import piece_lengths

QUIET = Console(quiet=True)
QUICK = HypernetSettings(layers=1, epochs=2, batch_size=64, learning_rate=1e-3)
TABLE = torch.randn(40, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def few_words_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contrastok.hypernet.lesson.MIN_WORDS", 40)


@pytest.fixture(scope="module")
def lesson(tokenizers_by_family: dict[str, Any]) -> Lesson:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("contrastok.hypernet.lesson.MIN_WORDS", 40)
        return make_lesson(tokenizers_by_family["wordpiece"], {}, seed=0, definitions={})


@pytest.fixture(scope="module")
def table(tokenizers_by_family: dict[str, Any]) -> torch.Tensor:
    return torch.randn(len(tokenizers_by_family["wordpiece"]), 16, generator=torch.Generator().manual_seed(1))


def network(width: int = 16, layers: int = 1, told: int = 0) -> HyperNetwork:
    torch.manual_seed(0)
    made = HyperNetwork(width, layers, told)
    made.learn_scale(TABLE)
    return made.eval()


def stirred(told: int = 0) -> HyperNetwork:
    """A network whose output layer is not zero any more."""
    made = network(told=told)
    torch.nn.init.normal_(made.outside.weight, generator=torch.Generator().manual_seed(2))
    return made


def test_untrained_it_is_the_mean_weighted_by_characters() -> None:
    pieces, lengths = ((3, 4), (5, 6, 7), (8,)), ((4, 2), (1, 1, 6), (3,))
    expected = initial_rows("charlen_mean", InitContext(TABLE, ("a", "b", "c"), pieces, lengths))
    torch.testing.assert_close(network().rows(TABLE, pieces, lengths), expected)


def test_a_row_does_not_depend_on_the_others_in_its_batch() -> None:
    made = stirred()
    alone = made.rows(TABLE, [(3, 4)], [(4, 2)])
    together = made.rows(TABLE, [(3, 4), (5, 6, 7, 8, 9)], [(4, 2), (1, 2, 3, 4, 5)])
    torch.testing.assert_close(together[:1], alone)


def test_order_and_place_of_pieces_matter() -> None:
    made = stirred()
    rows = made.rows(TABLE, [(3, 4), (4, 3)], [(2, 2), (2, 2)])
    assert (rows[0] - rows[1]).abs().max() > 1e-3


def test_pieces_beyond_the_seventh_are_not_looked_at() -> None:
    made, long = stirred(), tuple(range(PIECES + 3))
    rows = made.rows(TABLE, [long, long[:PIECES]], [(1,) * len(long), (1,) * PIECES])
    torch.testing.assert_close(rows[0], rows[1])


def test_no_tokens_give_no_rows() -> None:
    assert network().rows(TABLE, [], []).shape == (0, 16)


@pytest.mark.parametrize(("width", "expected"), [(32, 1), (384, 6), (200, 2), (67, 1)])
def test_heads_divide_the_width(width: int, expected: int) -> None:
    assert heads(width) == expected


def test_the_loss_against_a_reference() -> None:
    generator = np.random.default_rng(0)
    predicted, true = generator.normal(size=(2, 5, 8))
    lexical = np.abs(predicted - true).mean() / np.abs(true).mean()
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (predicted, true)]
    logits = unit[0] @ unit[1].T / 0.25
    contrast = np.mean([np.log(np.exp(row).sum()) - row[i] for i, row in enumerate(logits)])
    found = row_loss(torch.from_numpy(predicted), torch.from_numpy(true))
    assert float(found) == pytest.approx(0.9 * lexical + 0.1 * contrast, rel=1e-9)


def test_the_learning_rate_rises_and_falls() -> None:
    assert rate(0.025) == pytest.approx(0.5) and rate(0.05) == pytest.approx(1) and rate(1) == pytest.approx(0)


def test_held_out_words_are_nowhere_in_what_is_learned(any_tokenizer: Any) -> None:
    lesson = make_lesson(any_tokenizer, {}, seed=3, definitions={})
    held = {i for word in (*lesson.choose, *lesson.report) for i in word.ids}
    spellings = {word.word.casefold() for word in (*lesson.choose, *lesson.report)}
    assert len(lesson.choose) >= 1 and len(lesson.report) >= 1
    assert not held & set(lesson.ids) and not held & set(lesson.sampler.ids.values())
    assert not spellings & {text.text.casefold() for text in lesson.texts}
    splits = lesson.splits(np.random.default_rng(0))
    assert not held & {piece for _, pieces in splits for piece in pieces}
    for word in (*lesson.choose, *lesson.report):
        assert len(word.pieces) > 1 and not held & set(word.pieces)


def test_no_token_is_its_own_piece(any_tokenizer: Any) -> None:
    splits = make_lesson(any_tokenizer, {}, seed=0, definitions={}).splits(np.random.default_rng(0))
    assert len(splits) > 200
    assert all(i not in pieces and len(pieces) > 1 for i, pieces in splits)


def test_rows_of_held_out_words_change_nothing_that_is_learned(lesson: Lesson, table: torch.Tensor) -> None:
    other = table.clone()
    other[[i for word in (*lesson.choose, *lesson.report) for i in word.ids]] += 5
    runs = [train_network(rows, lesson, None, QUICK, None, QUIET) for rows in (table, other)]
    assert [p["loss"] for p in runs[0].about["curve"]] == [p["loss"] for p in runs[1].about["curve"]]


def test_training_is_deterministic_and_the_seed_matters(lesson: Lesson, table: torch.Tensor) -> None:
    first, again, other = (
        train_network(table, lesson, None, dataclasses.replace(QUICK, seed=seed), None, QUIET) for seed in (0, 0, 1)
    )
    assert first.about == again.about
    for name, tensor in first.network.state_dict().items():
        assert torch.equal(tensor, again.network.state_dict()[name])
    assert first.about["curve"][-1]["loss"] != other.about["curve"][-1]["loss"]


def test_a_run_that_was_killed_goes_on_to_the_same_bits(
    lesson: Lesson, table: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dataclasses.replace(QUICK, epochs=3)
    whole = train_network(table, lesson, None, settings, None, QUIET)
    state, save = RunState(tmp_path / "run", "key"), RunState.save

    def killed(self: RunState, *arguments: Any) -> None:
        save(self, *arguments)
        if arguments[1] == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RunState, "save", killed)
        train_network(table, lesson, None, settings, state, QUIET)
    loaded = state.load()
    assert loaded is not None and loaded[1] == 2
    resumed = train_network(table, lesson, None, settings, state, QUIET)
    assert resumed.about == whole.about
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, resumed.network.state_dict()[name])


def test_a_loss_that_is_not_finite_is_told(lesson: Lesson, table: torch.Tensor) -> None:
    with pytest.raises(ContrastokError, match="not finite"):
        train_network(table, lesson, None, dataclasses.replace(QUICK, learning_rate=1e30), None, QUIET)


def test_it_learns_what_the_mean_of_the_pieces_cannot_say(tokenizers_by_family: dict[str, Any]) -> None:
    """Rows that are a fixed turn of the first piece's and another one of the last piece's come back."""
    tokenizer = tokenizers_by_family["wordpiece"]
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(len(tokenizer), 24, generator=generator)
    turns = torch.linalg.qr(torch.randn(2, 24, 24, generator=generator))[0]
    lesson = make_lesson(tokenizer, {}, seed=0, definitions={})
    told = {i: pieces for i, pieces in zip(lesson.ids, lesson.natural, strict=True) if pieces}
    told |= {word.id: word.pieces for word in (*lesson.choose, *lesson.report)}
    base = rows.clone()
    for i, pieces in told.items():
        rows[i] = base[pieces[0]] @ turns[0] + base[pieces[-1]] @ turns[1]
    natural = dataclasses.replace(lesson, sampler=_Unsplit())
    settings = HypernetSettings(layers=1, epochs=25, batch_size=64, learning_rate=5e-3)
    mrr = train_network(rows, natural, None, settings, None, QUIET).about["recovery_mrr"]
    assert mrr["hypernet"] > 2 * mrr["charlen_mean"]


class _Unsplit:
    """Samples nothing: the model's own pieces alone are learned from."""

    def split(self, tokens: Sequence[Any], groups: int, generator: Any) -> list[tuple[int, ...]]:
        return [()] * len(tokens)


# Definitions


TOLD_BY = 12
"""Numbers of a made-up definition."""


def made_up(lesson: Lesson, *, seed: int = 5) -> Definitions:
    """Definitions of every second word of a lesson."""
    ids = sorted(lesson.definitions)[::2]
    outputs = torch.randn(len(ids) + 1, TOLD_BY, generator=torch.Generator().manual_seed(seed))
    outputs[-1] = torch.nan
    return Definitions(outputs / outputs.norm(dim=1, keepdim=True), {i: at for at, i in enumerate(ids)})


@pytest.fixture(scope="module")
def defined(tokenizers_by_family: dict[str, Any]) -> Lesson:
    """A lesson in which every word says its own name, and that of a word held out, in its definition."""
    tokenizer = tokenizers_by_family["wordpiece"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("contrastok.hypernet.lesson.MIN_WORDS", 40)
        held = make_lesson(tokenizer, {}, 0, {}).choose[0].word
        return make_lesson(tokenizer, {}, 0, {word: f"{word} of {held}" for word in candidates(tokenizer).words})


def test_definitions_show_neither_their_own_word_nor_one_that_is_held_out(defined: Lesson) -> None:
    held = {i for word in (*defined.choose, *defined.report) for i in word.ids}
    known = {i for i, pieces in zip(defined.ids, defined.natural, strict=True) if pieces}
    assert defined.definitions.keys() == known | {word.id for word in (*defined.choose, *defined.report)}
    for i, ids in defined.definitions.items():
        assert i not in ids and not held & set(ids) and len(ids) > 2


def test_what_is_not_told_changes_nothing() -> None:
    made, plain = stirred(told=TOLD_BY), stirred()
    pieces, lengths = [(3, 4), (5, 6, 7)], [(2, 2), (1, 1, 6)]
    said = torch.randn(2, TOLD_BY, generator=torch.Generator().manual_seed(3))
    rows, silent = made.rows(TABLE, pieces, lengths, said), made.rows(TABLE, pieces, lengths)
    assert (rows - silent).abs().max() > 1e-3
    said[1] = torch.nan
    half = made.rows(TABLE, pieces, lengths, said)
    torch.testing.assert_close(half, torch.stack([rows[0], silent[1]]))
    torch.testing.assert_close(silent, plain.rows(TABLE, pieces, lengths))  # the other weights are the same
    assert torch.equal(plain.rows(TABLE, pieces, lengths, said), plain.rows(TABLE, pieces, lengths))


def test_training_on_definitions_is_deterministic_and_reads_them(defined: Lesson, table: torch.Tensor) -> None:
    told = made_up(defined)
    first, again = (train_network(table, defined, told, QUICK, None, QUIET) for _ in range(2))
    assert first.about == again.about and first.about["definitions"] == {"words": len(told.places), "dim": TOLD_BY}
    for name, tensor in first.network.state_dict().items():
        assert torch.equal(tensor, again.network.state_dict()[name])
    other = train_network(table, defined, made_up(defined, seed=6), QUICK, None, QUIET).about["curve"]
    without = train_network(table, defined, None, QUICK, None, QUIET).about
    losses = {tuple(p["loss"] for p in curve[1:]) for curve in (first.about["curve"], other, without["curve"])}
    assert len(losses) == 3 and "definitions" not in without and SILENT not in without["recovery_mrr"]


def test_about_half_of_the_definitions_are_dropped_anew(defined: Lesson) -> None:
    told, generator = made_up(defined), np.random.default_rng(0)
    first, second = (told.thinned(generator) for _ in range(2))
    assert 0.3 < len(first.places) / len(told.places) < 0.7 and first.places.keys() != second.places.keys()
    gone = next(iter(told.places.keys() - first.places.keys()))
    kept = next(iter(first.places))
    assert first.of([gone, kept]).isnan().all(1).tolist() == [True, False]
    assert torch.equal(first.of([kept]), told.of([kept]))


def test_it_learns_what_definitions_say(defined: Lesson, table: torch.Tensor) -> None:
    """Rows of words that are a fixed map of their definitions come back; without these they do not."""
    generator = torch.Generator().manual_seed(0)
    ids = list(defined.definitions)
    outputs = torch.nn.functional.normalize(torch.randn(len(ids) + 1, 16, generator=generator), dim=1)
    rows = table.clone()
    rows[ids] = 4 * outputs[:-1] @ torch.linalg.qr(torch.randn(16, 16, generator=generator))[0]
    outputs[-1] = torch.nan
    told = Definitions(outputs, {i: at for at, i in enumerate(ids)})
    settings = HypernetSettings(layers=1, epochs=10, batch_size=64, learning_rate=5e-3)
    mrr = train_network(rows, defined, told, settings, None, QUIET).about["recovery_mrr"]
    assert mrr["hypernet"] > 2 * max(mrr[SILENT], mrr["charlen_mean"])


def test_too_few_definitions_are_not_read(defined: Lesson, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(str(tiny_model))
    encoder = FrozenEncoder(model, model.tokenizer, cache=False)
    assert read_definitions(encoder, defined) is None
    monkeypatch.setattr("contrastok.hypernet.definitions.LEAST", 40)
    told = read_definitions(encoder, defined)
    assert told is not None and told.places.keys() == defined.definitions.keys()
    some = sorted(defined.definitions)[3:5]
    expected = encoder.encode_ids([defined.definitions[i] for i in some])
    np.testing.assert_allclose(
        told.of(some).numpy(), expected, atol=1e-6
    )  # other texts of a batch decide the last bits


def test_definitions_from_the_command_to_the_rows_of_terms(
    make_config: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that was saved reads the terms' definitions; one of another body is refused."""
    from contrastok.evidence import WordEvidence
    from contrastok.initializers import InitOptions

    monkeypatch.setattr("contrastok.hypernet.lesson.MIN_WORDS", 40)
    for module in ("definitions", "command"):
        monkeypatch.setattr(f"contrastok.hypernet.{module}.LEAST", 40)
    name = make_config().model
    model = load_model(name)
    words = tmp_path / "words.jsonl"
    words.write_text(
        "\n".join(json.dumps({"token": w, "definition": f"like {w[::-1]}"}) for w in candidates(model.tokenizer).words)
    )
    given = ["--model", name, "--glossary", str(words), "--epochs", "1", "--layers", "1", "--learning-rate", "0.01"]
    assert main(["train-hypernet", *given, "--out", str(tmp_path / "net"), "--quiet"]) == 0
    encoder = FrozenEncoder(model, model.tokenizer, cache=False)
    context = InitContext(
        input_embedding(model).weight, ("a", "b"), ((9, 10), (9, 10)), ((1, 2), (1, 2)), encoder=encoder,
        options=InitOptions(hypernet=tmp_path / "net"),
        evidence=(WordEvidence("b", False, "a salty cheese", (), (), ()),),
    )  # fmt: skip
    rows, network = initial_rows("hypernet", context), load_network(tmp_path / "net", model).network
    told = torch.from_numpy(encoder.encode(["a salty cheese"]))
    alone = [network.rows(context.table, [(9, 10)], [(1, 2)], said) for said in (None, told)]
    torch.testing.assert_close(rows, torch.cat(alone))
    assert not torch.equal(rows[0], rows[1])
    next(parameter for key, parameter in transformer(model).named_parameters() if "encoder" in key).data += 1
    with pytest.raises(ModelError, match="the body of this model is another"):
        load_network(tmp_path / "net", model)


def test_a_glossary_that_says_too_little_is_refused(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "words.jsonl").write_text('{"token": "cheese", "definition": "food"}')
    given = ["--model", str(tiny_model), "--glossary", str(tmp_path / "words.jsonl"), "--out", str(tmp_path / "net")]
    assert main(["train-hypernet", *given]) == 2
    assert "needs 500" in capsys.readouterr().err and not (tmp_path / "net").exists()


def test_too_few_words_are_told(tokenizers_by_family: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contrastok.hypernet.lesson.MIN_WORDS", 10_000)
    with pytest.raises(ModelError, match="whole words"):
        make_lesson(tokenizers_by_family["wordpiece"], {}, seed=0, definitions={})


# On disk


@pytest.fixture(scope="module")
def trained(lesson: Lesson, tiny_model: Path) -> Trained:
    return train_network(input_embedding(load_model(str(tiny_model))).weight, lesson, None, QUICK, None, QUIET)


def test_a_network_is_saved_and_loaded(trained: Trained, tiny_model: Path, tmp_path: Path) -> None:
    model = load_model(str(tiny_model))
    save_network(tmp_path, trained, base_of(model, "tiny"))
    loaded = load_network(tmp_path, model)
    assert loaded.about == trained.about
    rows = input_embedding(model).weight
    assert torch.equal(loaded.network.rows(rows, [(9, 10)], [(1, 1)]), trained.network.rows(rows, [(9, 10)], [(1, 1)]))


def test_a_network_of_another_model_is_refused_by_name(
    trained: Trained, tiny_model: Path, make_model: Callable[..., Path], tmp_path: Path
) -> None:
    save_network(tmp_path, trained, base_of(load_model(str(tiny_model)), "tiny-bert"))
    with pytest.raises(ModelError, match=r"'tiny-bert'.*embedding table"):
        load_network(tmp_path, load_model(str(make_model("byte-bpe"))))


@pytest.mark.parametrize("broken", ["{", "{}", '{"format": 1, "base_model": {}}'])
def test_a_broken_network_is_told(trained: Trained, tiny_model: Path, tmp_path: Path, broken: str) -> None:
    model = load_model(str(tiny_model))
    with pytest.raises(InputError, match="no hypernetwork"):
        load_network(tmp_path, model)
    save_network(tmp_path, trained, base_of(model, "tiny"))
    (tmp_path / WEIGHTS).write_bytes(b"no weights")
    with pytest.raises(InputError, match=WEIGHTS):
        load_network(tmp_path, model)
    (tmp_path / MANIFEST).write_text(broken)
    with pytest.raises(InputError, match="is broken"):
        load_network(tmp_path, model)


def test_a_network_of_another_format_is_refused(trained: Trained, tiny_model: Path, tmp_path: Path) -> None:
    model = load_model(str(tiny_model))
    save_network(tmp_path, trained, base_of(model, "tiny"))
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    (tmp_path / MANIFEST).write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(InputError, match="format 99"):
        load_network(tmp_path, model)


def test_the_cache_trains_once(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTRASTOK_CACHE", str(tmp_path))
    model = load_model(str(tiny_model))
    first = kept_network(FrozenEncoder(model, model.tokenizer), QUICK, {})
    with monkeypatch.context() as patch:
        patch.setattr("contrastok.hypernet.store.train_network", None)
        again = kept_network(FrozenEncoder(model, model.tokenizer), QUICK, {})
    assert first.about == again.about
    assert not list(tmp_path.rglob("*.resume"))
    (weights,) = tmp_path.rglob(WEIGHTS)
    weights.write_bytes(b"cut short")
    assert kept_network(FrozenEncoder(model, model.tokenizer), QUICK, {}).about == first.about
    assert weights.stat().st_size > 1000


def test_init_hypernet(trained: Trained, tiny_model: Path, tmp_path: Path) -> None:
    from contrastok.initializers import InitOptions

    model = load_model(str(tiny_model))
    save_network(tmp_path, trained, base_of(model, "tiny"))
    rows = input_embedding(model).weight
    context = InitContext(
        rows, ("a",), ((9, 10),), ((1, 2),), encoder=FrozenEncoder(model, model.tokenizer),
        options=InitOptions(hypernet=tmp_path),
    )  # fmt: skip
    assert torch.equal(initial_rows("hypernet", context), trained.network.rows(rows, [(9, 10)], [(1, 2)]))


def test_train_starts_at_the_rows_of_a_saved_network(
    trained: Trained, make_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    plain = make_config(init="hypernet", init_hypernet=tmp_path / "net", epochs=0)
    model = load_model(plain.model)
    (tmp_path / "net").mkdir()
    save_network(tmp_path / "net", trained, base_of(model, "tiny"))
    train(plain)
    assert plain.out is not None
    checkpoint = load_checkpoint(plain.out)
    spans = [piece_lengths(model.tokenizer, token["token"]) for token in checkpoint.manifest["tokens"]]
    pieces, lengths = ([[pair[k] for pair in span] for span in spans] for k in (0, 1))
    expected = trained.network.rows(input_embedding(model).weight, pieces, lengths)
    assert checkpoint.initial_rows is not None and np.array_equal(checkpoint.initial_rows, expected.numpy())


def test_a_seed_has_a_network_of_its_own(tiny_model: Path) -> None:
    base = base_of(load_model(str(tiny_model)), "tiny")
    keys = {network_key(base, dataclasses.replace(QUICK, seed=seed)) for seed in (0, 1)}
    assert len(keys) == 2 and network_key({**base, "name": "other"}, QUICK) in keys
