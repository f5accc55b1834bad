from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from contrastok import calibrate_pairs as module
from contrastok.bank import FrozenEncoder
from contrastok.calibrate import calibrate
from contrastok.calibrate_pairs import (
    Names,
    anchor_passes,
    calibrate_pairs,
    can_calibrate,
    clearly_more,
    kept_pair_calibration,
)
from contrastok.candidates import candidates
from contrastok.config import TrainConfig
from contrastok.features import WordInput
from contrastok.fit import Predicted
from contrastok.guide import Guide
from contrastok.loop import make_accelerator
from contrastok.map_rows import WordBank, WordObjective, outputs_of
from contrastok.models import fingerprint, input_embedding, load_model
from contrastok.pair_settings import PairSettings
from contrastok.predictor import Predictor
from contrastok.prior import Prior

HELD = 16
CONFIG = TrainConfig(device="cpu", epochs=1, batch_size=8, calibrate=3)
Calibrate = Callable[[TrainConfig], module.PairCalibration]


@pytest.fixture(scope="module")
def encoder(tiny_model: Path) -> FrozenEncoder:
    model = load_model(str(tiny_model))
    return FrozenEncoder(model, model.tokenizer, cache=False)


@pytest.fixture(scope="module")
def guide(encoder: FrozenEncoder) -> Guide:
    """Sixteen held-out words in two sentences each; what is predicted of them lies near the truth."""
    model = encoder.model
    table = input_embedding(model).weight.detach().numpy().copy()
    ids = np.array(candidates(model.tokenizer).ids[:HELD])
    outputs = outputs_of(model, model.tokenizer, torch.from_numpy(table[ids]))
    noise = np.random.default_rng(0).normal(size=(HELD, 32)).astype(np.float32)
    ones = np.ones(HELD, np.float32)
    predicted = Predicted(table[ids] + 0.6 * noise, outputs.numpy(), ones, np.linspace(0.5, 1, HELD, dtype=np.float32))
    precision = np.eye(32, dtype=np.float32)
    prior = Prior(predicted, predicted, np.arange(HELD), precision, table.mean(0), {})
    bank = WordBank(outputs, torch.from_numpy(precision), float(table.std(0).mean()))
    texts = [
        WordInput((40 + k, 41 + k), (1, 1), ((60 + k, 40 + k, 41 + k), (40 + k, 41 + k, 70)), ((1, 2), (0, 1)))
        for k in range(HELD)
    ]
    places = tuple((at,) for at in range(HELD))
    predictor = Predictor(prior, bank, table, ids, places, tuple(texts), (), "key")
    calibration = calibrate(model, model.tokenizer, predictor, 0, module.QUIET)
    return Guide(predictor, calibration, WordObjective(predicted, bank, calibration.settings, places, model.device), ())


@pytest.fixture
def ask(guide: Guide, encoder: FrozenEncoder) -> Calibrate:
    return lambda config: calibrate_pairs(guide, encoder, make_accelerator(config), config)


def moved(*at: int) -> PairSettings:
    """The built-in settings after some of the moves."""
    return dataclasses.replace(PairSettings(), **dict(module.MOVES[k] for k in at))


@pytest.mark.parametrize("best", [(), (0,), (1,), (0, 2)])
def test_the_settings_that_bring_most_back_are_chosen(
    ask: Calibrate, guide: Guide, monkeypatch: pytest.MonkeyPatch, best: tuple[int, ...]
) -> None:
    """The more of the best settings, the more words come home; once found, what is tried next are changes of them."""
    tried: list[PairSettings] = []

    def teach(_: Any, settings: PairSettings) -> np.ndarray:
        tried.append(settings)
        right = sum(getattr(settings, f.name) == getattr(moved(*best), f.name) for f in dataclasses.fields(settings))
        gold = guide.predictor.table[guide.predictor.gold]
        return np.where(np.arange(HELD)[:, None] < 3 * right, gold, -gold)

    monkeypatch.setattr(module._School, "teach", teach)
    found = ask(dataclasses.replace(CONFIG, calibrate=4))
    assert found.settings == moved(*best)
    chosen = [moved(*(k for k in best if k < at)) for at in range(4)]
    steps = [dataclasses.replace(was, **dict(module.MOVES[k : k + 1])) for k, was in enumerate(chosen[:3])]
    assert tried == [PairSettings(), *steps]
    start, *rest = found.tried
    assert (
        "rate" not in start and [PairSettings(**{k: t[k] for k in dataclasses.asdict(moved())}) for t in rest] == tried
    )


def test_names_are_found_from_the_token_among_those_that_compete(encoder: FrozenEncoder) -> None:
    """A known word and the name of another word stand before its own; what was told, and its spellings, do not."""
    words = [
        WordInput((40, 41), (1, 1), synonyms=((50,), (51,)), broader=((52,),)),
        WordInput((42, 43), (1, 1), synonyms=((53,),), broader=((54,),)),
        WordInput((44, 45), (1, 1)),
    ]
    names = [(51,), (52,), (54,), (50,), (53,)]
    vector = dict(zip(names, torch.from_numpy(encoder.encode_ids(names)), strict=True))
    seen = torch.nn.functional.normalize(vector[(51,)] + 0.1 * vector[(54,)], dim=0)
    known = torch.stack([seen, seen, vector[(53,)]])
    found = Names(words, known, [(0, 1), (2,), ()], encoder)(torch.stack([seen, vector[(53,)], seen]))
    assert found[0] == 1 and found[2] == 0  # the best of two; and nothing to ask
    unmasked = Names(words, known, [(0,), (2,), ()], encoder)(torch.stack([seen, vector[(53,)], seen]))
    assert unmasked[0] == 0.5
    itself = Names(words, vector[(52,)][None] * (1 + 1e-6), [(), (), ()], encoder)(torch.stack([vector[(52,)]] * 3))
    assert itself[0] == 1  # a name that is a known word does not compete with itself
    nearer = vector[(53,)] @ torch.stack([vector[(51,)], vector[(52,)], vector[(50,)], seen, seen]).T
    assert found[1] == 1 / (1 + int((nearer > vector[(53,)] @ vector[(54,)]).sum()))


def test_what_the_options_say_is_not_tried(ask: Calibrate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module._School, "teach", lambda school, _: school.placed.numpy())
    said = dataclasses.replace(CONFIG, calibrate=9, contrast_weight=2.0, learning_rate=1e-3)
    names = [name for name, _ in module.MOVES if name not in ("contrast_weight", "rate")]
    found = ask(said)
    assert found.settings == PairSettings() and len(found.tried) == 2 + len(names)
    assert all(trial["rate"] == PairSettings().rate for trial in found.tried[1:])


def test_chance_chooses_nothing() -> None:
    """A gain is one when it is above its standard error."""
    before, noise = np.zeros(100), np.tile([1.0, -1.0], 50)
    assert clearly_more(before + 0.11 + noise, before) and not clearly_more(before + 0.09 + noise, before)
    assert not clearly_more(before, before)


def test_a_real_calibration_repeats_itself_and_leaves_the_model(
    ask: Calibrate, guide: Guide, encoder: FrozenEncoder
) -> None:
    before = fingerprint(encoder.model)
    first, again = ask(CONFIG), ask(CONFIG)
    assert first == again and fingerprint(encoder.model) == before
    far = ask(dataclasses.replace(CONFIG, learning_rate=1.0, calibrate=1))
    start, taught = far.tried
    assert start == first.tried[0] and taught["row_mrr"] < start["row_mrr"] - 0.1  # rows went where nothing is


OTHERWISE = {
    "seed": 1, "calibrate": 2, "objective": "pairs", "epochs": 2, "max_steps": 3, "batch_size": 4, "gradient_accumulation": 2,
    "bank_size": 5, "learn_temperature": True, "learning_rate": 0.1, "temperature": 0.2, "contrast_weight": 0.5,
    "distill_weight": 1.0, "word_weight": 0.0,
}  # fmt: skip


def test_what_was_chosen_is_looked_up_again(
    guide: Guide, encoder: FrozenEncoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Until any option that decides how words are taught is another one."""
    monkeypatch.setenv("CONTRASTOK_CACHE", str(tmp_path))
    kept, accelerator = FrozenEncoder(encoder.model, encoder.tokenizer), make_accelerator(CONFIG)
    asked: list[TrainConfig] = []
    made = module.PairCalibration(moved(1), ({"row_mrr": 0.5}, {"row_mrr": 0.6, "rate": 0.01}))
    monkeypatch.setattr(module, "calibrate_pairs", lambda *args: asked.append(args[3]) or made)
    assert set(OTHERWISE) == set(module.OPTIONS)
    others = [dataclasses.replace(CONFIG, **{name: value}) for name, value in OTHERWISE.items()]
    for config in (CONFIG, CONFIG, *others, *others):
        assert kept_pair_calibration(guide, kept, accelerator, config) == made
    assert asked == [CONFIG, *others]


def test_the_passes_are_counted(ask: Calibrate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sentences and the token alone, which here has no definition: one anchor less a word."""
    looked: list[int] = []

    def teach(school: Any, _: Any) -> np.ndarray:
        looked.append(len(school.data.anchors) * school.config.epochs)
        return school.placed.numpy()

    monkeypatch.setattr(module._School, "teach", teach)
    monkeypatch.setattr(module, "WORDS", HELD)
    for config in (CONFIG, dataclasses.replace(CONFIG, epochs=2, calibrate=9, temperature=0.1)):
        looked.clear()
        ask(config)
        assert anchor_passes(config, 1) == sum(looked)
    assert anchor_passes(dataclasses.replace(CONFIG, calibrate=0), 1) == 0


@pytest.mark.parametrize(
    "options", [{"calibrate": 0}, {"epochs": 0}, {"objective": "pairs"}, {"trainable": "mixing"}, {"layers": 1},
                {"reset_every": 2}]
)  # fmt: skip
def test_where_known_words_cannot_be_taught_alike_they_are_not_asked(options: dict[str, Any]) -> None:
    assert can_calibrate(CONFIG) and not can_calibrate(dataclasses.replace(CONFIG, **options))
