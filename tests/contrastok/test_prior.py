from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from contrastok import fit, prior
from contrastok.errors import InputError
from contrastok.features import Features
from contrastok.fit import Fit, Known, Predicted, gold_ranks
from contrastok.prior import learn_prior, usable_sources

WIDTH, SOURCES = 12, ("form", "definition", "sentences", "synonyms", "broader")
Truth = Callable[[np.ndarray], np.ndarray]


@pytest.fixture(autouse=True)
def few_words_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prior, "MIN_WORDS", 60)
    monkeypatch.setattr(fit, "MIN_WORDS", 60)
    monkeypatch.setattr(fit, "HELD_OUT", 60)


def linear(meaning: np.ndarray) -> np.ndarray:
    return meaning @ np.random.default_rng(5).normal(size=(meaning.shape[1], WIDTH))


def curved(meaning: np.ndarray) -> np.ndarray:
    """Products of the meaning's parts: no linear map follows them."""
    left, right = (np.random.default_rng(6).normal(size=(meaning.shape[1], WIDTH)) for _ in range(2))
    return np.sin(3 * meaning @ left / 2) * np.cos(3 * meaning @ right[:, ::-1] / 2)


def words(n: int, truth: Truth, seed: int, parts: int = 6) -> tuple[Features, np.ndarray]:
    """Evidence of words that mean something, and the rows that go with it, float32 `[n, WIDTH]`."""
    generator = np.random.default_rng(seed)
    meaning = generator.normal(size=(n, parts))

    def seen(noise: float) -> np.ndarray:
        return (meaning + noise * generator.normal(size=meaning.shape)).astype(np.float32)

    blocks = {
        "form/character length mean": generator.normal(size=(n, 4)).astype(np.float32),
        "definition/output": seen(0.02),
        "sentences/output": seen(0.05),
        "synonyms/rows": seen(0.05),
        "broader/rows": seen(0.05),
    }
    present = dict.fromkeys(SOURCES, np.ones(n, bool))
    return Features(blocks, present, generator.integers(1, 5, size=n)), truth(meaning).astype(np.float32)


def lacking(features: Features, rows: np.ndarray | slice, *sources: str) -> Features:
    """The same words, some of them without some sources."""
    present = {name: flags.copy() for name, flags in features.present.items()}
    blocks = {name: block.copy() for name, block in features.blocks.items()}
    for source in sources:
        present[source][rows] = False
        for name in blocks:
            if name.startswith(f"{source}/"):
                blocks[name][rows] = 0
    return Features(blocks, present, features.sentences)


def known(features: Features, rows: np.ndarray, others: int = 200, seed: int = 9) -> Known:
    """The words' rows lie in a larger table, in an order of its own."""
    generator = np.random.default_rng(seed)
    table = generator.normal(size=(len(rows) + others, WIDTH)).astype(np.float32) * rows.std()
    ids = generator.permutation(len(table))[: len(rows)]
    table[ids] = rows
    outputs = rows @ generator.normal(size=(WIDTH, 5)).astype(np.float32)
    keys = [f"word {i}" for i in range(len(rows))]
    return Known(features, ids, outputs / np.linalg.norm(outputs, axis=1, keepdims=True), table, keys)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    found: np.ndarray = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return found


def same(a: Predicted, b: Predicted) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(Predicted))


def test_a_linear_truth_is_found_without_the_kernel() -> None:
    features, rows = words(400, linear, 0)
    asked, gold = words(40, linear, 1)
    found = learn_prior(known(features, rows), asked, seed=0)
    assert cosines(found.new.rows - found.mean, gold - found.mean).min() > 0.97
    (story,) = found.story.values()
    assert story["mix"] == 0 and story["mrr"] > 0.95 and story["known_words"] == 400 and story["held_out"] == 60
    assert (found.new.agreement < 1).all()
    lengths = np.linalg.norm(found.new.rows - found.mean, axis=1)
    np.testing.assert_allclose(lengths, np.linalg.norm(rows - found.mean, axis=1).mean(), rtol=0.05)
    np.testing.assert_allclose(np.linalg.norm(found.new.outputs, axis=1), 1, rtol=1e-5)


def test_a_curved_truth_takes_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    features, rows = words(900, curved, 0, parts=2)
    asked, gold = words(60, curved, 1, parts=2)
    found = learn_prior(known(features, rows), asked, seed=0)
    (story,) = found.story.values()
    assert story["mix"] > 0 and story["left_out_mrr"] > 1.5 * story["left_out_ridge_mrr"]
    assert (found.new.agreement < 1).all()
    monkeypatch.setattr(fit, "MIXES", (0.0,))
    bare = learn_prior(known(features, rows), asked, seed=0)
    near, far = (np.median(cosines(p.new.rows - p.mean, gold - p.mean)) for p in (found, bare))
    assert near > 1.2 * far


def test_words_without_a_source_get_a_fit_without_it() -> None:
    """Nothing that is missing is taken for a zero, and nothing that stands in its place is looked at."""
    features, rows = words(400, linear, 0)
    asked, gold = words(40, linear, 1)
    patterns = {"definition": slice(0, 10), "sentences": slice(10, 20)}
    mixed = asked
    for source, some in patterns.items():
        mixed = lacking(mixed, some, source)
    mixed = lacking(mixed, slice(20, 30), "definition", "sentences")
    teachers = known(features, rows)
    found = learn_prior(teachers, mixed, seed=0)
    assert set(found.story) == {"form+sentences", "form+definition", "form", "form+definition+sentences"}
    assert cosines(found.new.rows - found.mean, gold - found.mean)[:20].min() > 0.9
    rubbish = dataclasses.replace(mixed, blocks={name: block.copy() for name, block in mixed.blocks.items()})
    for name, block in rubbish.blocks.items():
        block[~mixed.present[name.split("/")[0]]] = 1e6
    assert same(learn_prior(teachers, rubbish, seed=0).new, found.new)
    whole = learn_prior(teachers, mixed.take(np.arange(30, 40)), seed=0)
    np.testing.assert_allclose(whole.new.rows, found.new.rows[30:], atol=1e-5)


def test_known_words_without_a_source_teach_the_fits_that_do_without() -> None:
    features, rows = words(400, linear, 0)
    some = lacking(features, slice(0, 150), "definition")
    asked, _ = words(10, linear, 1)
    mixed = learn_prior(known(some, rows), lacking(asked, slice(0, 4), "definition"), seed=0)
    counts = {name: story["known_words"] for name, story in mixed.story.items()}
    assert counts == {"form+sentences": 400, "form+definition+sentences": 250}


def test_the_most_sources_that_enough_words_have() -> None:
    def present(definition: int, sentences: int) -> dict[str, np.ndarray]:
        at = np.arange(100)
        return {"definition": at < definition, "sentences": at >= 100 - sentences}

    wanted = ("definition", "sentences")
    assert usable_sources(present(90, 90), wanted) == wanted
    assert usable_sources(present(70, 70), wanted) == ("sentences",)
    assert usable_sources(present(70, 30), wanted) == ("definition",)
    assert usable_sources(present(50, 50), wanted) == ()
    assert usable_sources(present(90, 90), ()) == ()


def test_too_few_words() -> None:
    features, rows = words(59, linear, 0)
    with pytest.raises(InputError, match=r"59 words that the model knows.* 60 are needed.*\n.*charlen_mean"):
        learn_prior(known(features, rows), features, seed=0)


def test_optional_sources_help_where_enough_words_have_them() -> None:
    features, rows = words(400, linear, 0)
    asked, gold = words(40, linear, 1)
    bare = lacking(lacking(features, slice(None), "definition", "sentences"), slice(0, 200), "synonyms")
    few = lacking(bare, slice(0, 395), "synonyms", "broader")
    near = {}
    for name, teachers in (("synonyms", bare), ("none", few)):
        found = learn_prior(known(teachers, rows), lacking(asked, slice(None), "definition", "sentences"), seed=0)
        near[name] = np.median(cosines(found.new.rows - found.mean, gold - found.mean))
    assert near["synonyms"] > 0.9 > 0.5 > near["none"]


def test_same_seed_same_bits_other_seed_other_words() -> None:
    features, rows = words(400, linear, 0)
    asked, _ = words(10, linear, 1)
    first, again, other = (learn_prior(known(features, rows), asked, seed=seed) for seed in (0, 0, 1))
    assert same(first.new, again.new) and same(first.held, again.held)
    assert np.array_equal(first.held_words, again.held_words) and np.array_equal(first.precision, again.precision)
    assert first.story == again.story
    assert not np.array_equal(first.held_words, other.held_words)


@pytest.mark.parametrize("mix", [0.0, 1.0])
def test_held_out_words_teach_nothing(monkeypatch: pytest.MonkeyPatch, mix: float) -> None:
    """Their rows and outputs change places among them: nothing that is predicted changes by a bit.

    The mean of the table is of all rows, so they are rounded such that their sum is exact in any order.
    """
    monkeypatch.setattr(fit, "MIXES", (mix,))
    features, rows = words(400, linear, 0)
    teachers = known(features, rows)
    teachers = dataclasses.replace(teachers, table=np.round(teachers.table * 256) / 256)

    def learned(some: np.ndarray) -> prior.Prior:
        """The prior when the rows of some words have changed places."""
        table, outputs = teachers.table.copy(), teachers.outputs.copy()
        table[teachers.ids[some]] = np.roll(table[teachers.ids[some]], 1, axis=0)
        outputs[some] = np.roll(outputs[some], 1, axis=0)
        return learn_prior(dataclasses.replace(teachers, table=table, outputs=outputs), asked, seed=0)

    asked = words(5, linear, 1)[0]
    found = learned(np.arange(0))
    (story,) = found.story.values()
    assert story["mix"] == mix
    other = learned(found.held_words)
    assert same(other.held, found.held) and same(other.new, found.new)
    assert np.array_equal(other.held_words, found.held_words) and np.array_equal(other.mean, found.mean)
    taught = learned(np.setdiff1d(np.arange(400), found.held_words))
    assert np.abs(taught.held.rows - found.held.rows).max() > 0.1


def test_the_covariance_is_that_of_the_held_out_errors() -> None:
    features, rows = words(400, linear, 0)
    noisy = rows + np.random.default_rng(3).normal(size=rows.shape).astype(np.float32) * np.linspace(0.2, 2, WIDTH)
    found = learn_prior(known(features, noisy.astype(np.float32)), features.take(np.arange(3)), seed=0)
    covariance = np.linalg.inv(found.precision.astype(np.float64))
    errors = found.held.rows - noisy[found.held_words]
    assert np.trace(covariance) == pytest.approx(np.square(errors).sum(1).mean(), rel=0.02)
    assert np.linalg.eigvalsh(covariance).min() > 0
    assert np.corrcoef(np.diag(covariance), np.linspace(0.2, 2, WIDTH) ** 2)[0, 1] > 0.8


def test_words_with_fewer_sentences_get_a_wider_prior() -> None:
    features, rows = words(600, linear, 0)
    features = dataclasses.replace(features, sentences=np.repeat([1, 4], 300))
    noise = np.random.default_rng(3).normal(size=rows.shape) * np.repeat([3, 0.1], 300)[:, None]
    asked = dataclasses.replace(words(2, linear, 1)[0], sentences=np.array([1, 5]))
    found = learn_prior(known(features, (rows + noise).astype(np.float32)), asked, seed=0)
    assert found.new.scale[0] > 1 > found.new.scale[1] > 0
    assert found.new.scale.mean() == pytest.approx(1, abs=0.05)


def test_words_that_lack_sources_get_the_covariance_of_such_words() -> None:
    """And the confidence sees such words: they are among those held out."""
    features, rows = words(500, linear, 0)
    asked, _ = words(30, linear, 1)
    bare = lacking(lacking(asked, slice(20, 30), "definition", "sentences"), slice(20, 30), "synonyms", "broader")
    teachers = known(lacking(features, slice(0, 150), "synonyms", "broader"), rows)
    found = learn_prior(teachers, bare, seed=0)
    fits = {sources: Fit(teachers, sources, seed=0) for sources in (("definition", "sentences"), ())}
    errors = {
        sources: np.square(f.held.rows - teachers.table[teachers.ids[f.held_words]]).sum(1).mean()
        for sources, f in fits.items()
    }
    wider = errors[()] / errors["definition", "sentences"]
    assert wider > 2
    ratio = found.new.scale[20:].mean() / found.new.scale[:20].mean()
    assert ratio == pytest.approx(wider, rel=0.2)
    assert len(found.held_words) == len(found.held.rows) == 60 + prior.LEAST_HELD
    assert found.held.scale[60:].mean() == pytest.approx(wider * found.held.scale[:60].mean(), rel=0.2)


def test_words_that_are_known_as_well_as_the_new_ones_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the words have one sentence and rows that nothing explains: they have no say where there are others."""
    asked: list[set[int]] = []
    real = Fit._recovery
    monkeypatch.setattr(Fit, "_recovery", lambda fit, said, gold: asked.append(set(gold)) or real(fit, said, gold))
    monkeypatch.setattr(fit, "FEW_JUDGES", 50)
    features, rows = words(400, linear, 0)
    features = dataclasses.replace(features, sentences=np.repeat([1, 4], 200))
    teachers = known(features, rows)
    for like, most in ((0, 340), (4, 200), (5, 340)):
        asked.clear()
        found = Fit(teachers, ("definition", "sentences"), seed=0, like=like)
        judges = asked[0]
        assert len(judges) <= most and judges.isdisjoint(teachers.ids[found.held_words])
        assert (judges <= set(teachers.ids[200:])) is (like == 4)


def test_other_spellings_of_a_word_are_held_out_with_it() -> None:
    """With half of all words spelled twice, no spelling of a held-out word teaches."""
    features, rows = words(400, linear, 0)
    twice = dataclasses.replace(known(features, rows), keys=[f"word {i % 200}" for i in range(400)])
    found = Fit(twice, ("definition", "sentences"), seed=0)
    out = {i % 200 for i in found.held_words.tolist()}
    assert len(found.held_words) == 60
    assert len(found.fitted) == sum(i % 200 not in out for i in range(400))


def test_ranks_against_a_plain_loop() -> None:
    generator = np.random.default_rng(0)
    table = generator.normal(size=(50, 6)).astype(np.float32)
    gold = np.array([3, 17, 40])
    rows = (table[gold] + generator.normal(size=(3, 6)) * [[0], [1], [3]]).astype(np.float32)
    mean = table.mean(0)
    found = gold_ranks(rows, gold, table, mean)
    for i in range(3):
        near = [float(np.dot(rows[i] - mean, t - mean) / np.linalg.norm(t - mean)) for t in table]
        assert found[i] == 1 + sum(value > near[gold[i]] for value in near)
    assert found[0] == 1 and found.dtype == np.int64
