from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.hidden_words import Lesson
from benchmarks.learner import Learner
from benchmarks.learning_curve import STAGES, curves, markdown, over_words
from contrastok.candidates import candidates
from contrastok.console import Console
from contrastok.eval.recovery import own_cache, prepare
from contrastok.eval_config import RecoveryConfig
from contrastok.evidence import read_evidence
from contrastok.features import EvidenceEncoder
from contrastok.models import load_tokenizer
from contrastok.predictor import make_predictor
from contrastok.vocabulary import pieces
from tests.conftest import KITCHEN, need_few_known_words

QUIET = Console(quiet=True)
OPTIONS = """
[gen-pairs]
max-sentences = 8
known-sentences = 2
wordnet = "none"
[train]
evidence-sentences = 1
"""


@pytest.fixture(scope="module")
def lesson(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lesson]:
    """Five words of the kitchen, hidden; one of them has a synonym that the model knows."""
    work = tmp_path_factory.mktemp("curve")
    tokenizer = load_tokenizer(str(tiny_model))
    words = [w for w in candidates(tokenizer).words if w.isalpha() and len(w) > 4 and len(pieces(tokenizer, w)) == 1]
    hidden = words[::9][:5]
    synonym = next(word for word in words if word not in hidden)
    (work / "words.jsonl").write_text("\n".join(json.dumps({"token": w, "synonyms": [synonym]}) for w in hidden))
    (work / "run.toml").write_text(OPTIONS)
    config = RecoveryConfig(
        terms=(work / "words.jsonl",), corpus=(str(KITCHEN / "corpus"),), model=str(tiny_model),
        config=work / "run.toml", quiet=True,
    )  # fmt: skip
    with own_cache(work):
        yield Lesson({0: hidden}, config, work, prepare(config, work, QUIET))


@pytest.fixture(scope="module")
def learner(lesson: Lesson) -> Iterator[Learner]:
    with pytest.MonkeyPatch.context() as patch:
        need_few_known_words(patch)
        yield Learner(lesson, QUIET)


def test_it_learns_what_train_learns(lesson: Lesson, learner: Learner) -> None:
    evidence, words = read_evidence(lesson.prepared.pairs) or (), learner.words
    predictor = make_predictor(evidence, words.plan, words.extended, words.encoder, learner.sentences, learner.seed)
    prior = learner.learn(words.read(learner.sentences))
    assert np.array_equal(prior.new.rows, predictor.prior.new.rows)
    assert np.array_equal(prior.precision, predictor.prior.precision)
    assert words.synonyms() == predictor.synonyms and any(predictor.synonyms)


def test_gold_rows_rank_first(lesson: Lesson, learner: Learner) -> None:
    gold = np.stack([lesson.prepared.gold[term] for term in learner.words.plan.terms])
    assert learner.stand(gold).ranks.tolist() == [1] * len(gold)
    assert learner.stand(-gold).ranks.min() > 1


def test_fewer_words_are_not_read_again(learner: Learner, monkeypatch: pytest.MonkeyPatch) -> None:
    reading = learner.words.read(1)
    number = len(reading.known.ids)
    learned = []
    learn = learner.learn
    monkeypatch.setattr(EvidenceEncoder, "features", None)
    monkeypatch.setattr(learner, "learn", lambda reading, rows: learned.append(rows) or learn(reading, rows))
    points = over_words(learner, reading, (50, 60, number, 10**6), seed=1)
    assert [found["at"] for found in points] == [50, 60]
    assert [len(rows) for rows in learned] == [50, 60] and set(learned[0]) < set(learned[1])
    assert all((np.diff(rows) > 0).all() for rows in learned)


def test_three_curves(learner: Learner) -> None:
    found = curves(learner, (60,), (0, 2), (0, 3), seed=0)
    count = len(learner.words.read(1).known.ids)
    assert {name: [point["at"] for point in points] for name, points in found.items()} == {
        "known words": [60, count], "sentences": [0, 1, 2], "steps": [0, 3],
    }  # fmt: skip
    for point in (point for points in found.values() for point in points):
        for stage in STAGES:
            low, high = point[stage]["mrr_interval"]
            assert low <= point[stage]["mrr"] <= high and point[stage]["units"] == 5
    whole, start = found["known words"][-1], found["steps"][0]
    assert {**whole, "at": 1} == found["sentences"][1]
    assert start["prediction"] == start["word stage"] == whole["prediction"]
    json.dumps(found, allow_nan=False)


def test_a_table_says_both_stages() -> None:
    figures = dict.fromkeys(("mrr", "hit@1", "hit@10", "median_rank"), 0.25)
    figures |= {f"{name}_interval": [0.2, 0.3] for name in figures}
    point: dict[str, Any] = {"at": 2000, "prediction": figures, "word stage": figures, "gain": figures}
    head, _, *rows = markdown("known words", [point], list(STAGES)).splitlines()
    assert head == "| known words | rows | MRR | hit@1 | hit@10 | median rank | gain in MRR |"
    assert rows == [
        "| 2,000 | prediction | 0.250 [0.200, 0.300] | 0.250 | 0.250 | 0 |  |",
        "| 2,000 | word stage | 0.250 [0.200, 0.300] | 0.250 | 0.250 | 0 | +0.250 [+0.200, +0.300] |",
    ]
