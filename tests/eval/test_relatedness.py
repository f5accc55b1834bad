from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from contrastok.data_gen.fold import Fold
from contrastok.errors import ConfigError, InputError
from contrastok.eval.questions import Answer, Question
from contrastok.eval.relatedness import relatedness
from contrastok.eval.relatedness_measure import Field, rank, summarise
from contrastok.eval_config import RelatednessConfig

from .conftest import COPIED, documented


def _field(vectors: np.ndarray, names: list[str], idle: set[str] = frozenset(), holding=((),)) -> Field:  # type: ignore[no-untyped-def,assignment]
    places = {name: at for at, name in enumerate(names)}
    mask = np.array([name in idle for name in names])
    return Field("names", "encoded", vectors, places, mask, lambda view: view.encoded, holding)


def test_ranks_of_a_hand_made_example(any_tokenizer) -> None:  # type: ignore[no-untyped-def]
    names = ["own", "a", "b", "c", "idle", "right", "sister"]
    scores = np.array([[0.9, 0.8, 0.7, 0.6, 0.95, 0.5, 0.75]], np.float32).T
    answers = tuple(Answer(n, k, True, True) for n, k in
                    [("a", "synonym"), ("right", "broader"), ("idle", "related"), ("own", "synonym"), ("sister", "sibling")])  # fmt: skip
    question = Question("own", (*answers, Answer("nowhere", "synonym", True, True)))
    field = _field(scores, names, {"idle"}, [[0]])
    [ranks] = rank(field, np.ones((1, 1), np.float32), [question], Fold(any_tokenizer))
    # own is no candidate; a is first; b, c and the sister stand before "right", the other answers do not compete
    assert ranks == {0: 1, 1: 4, 2: 1, 4: 1}
    assert rank(field, np.full((1, 1), np.nan, np.float32), [question], Fold(any_tokenizer)) == [{}]


def test_figures_count_only_what_may_count() -> None:
    def question(*counts: bool) -> Question:
        return Question("t", tuple(Answer(f"n{i}", "synonym", True, c) for i, c in enumerate(counts)))

    questions = [question(True, True), question(False, True), question(False), question(True)]
    trained = [{0: 2, 1: 20}, {0: 1, 1: 50}, {0: 1}, {}]
    split = [{0: 4, 1: 8}, {1: 100}, {0: 1}, {0: 1}]
    found = summarise({"split word": split, "trained": trained}, questions, lambda answer: True, seed=0)
    view = found["views"]["trained"]
    assert view["units"] == 2  # the third token's only answer leaked, the fourth has no rank
    assert view["hit@10"] == 0.5 and view["recall@10"] == 0.25 and view["mrr"] == pytest.approx((1 / 2 + 1 / 50) / 2)
    assert view["mrr_interval"][0] < view["mrr"] < view["mrr_interval"][1]
    assert found["views"]["split word"]["units"] == 3
    change = found["differences"]["trained - split word"]
    assert change["units"] == 2 and change["mrr"] == pytest.approx((1 / 2 - 1 / 4 + 1 / 50 - 1 / 100) / 2)
    assert change["hit@10"] == 0.0


@pytest.mark.parametrize("family", ["wordpiece", "byte-bpe", "unigram"])
def test_a_copied_row_finds_its_word_in_both_spaces(family: str, make_checkpoint: Callable[..., Path]) -> None:
    summary = relatedness(RelatednessConfig(model=make_checkpoint(family), quiet=True))
    for field in ("vocabulary, rows", "vocabulary, encoded"):
        hard = summary["fields"][field]["kinds"]["hard synonym"]
        assert hard["views"]["trained"]["mrr"] == 1 and hard["views"]["trained"]["units"] == len(COPIED)
        assert hard["differences"]["trained - initial"]["mrr"] > 0
    for field, what in (
        ("vocabulary, rows", "row"),
        ("vocabulary, encoded", "output"),
        ("glossary, encoded", "output"),
    ):
        assert set(summary["fields"][field]["kinds"]["all"]["views"]) == documented("relatedness", what)
    token = summary["per_token"][0]
    own_name = next(a for a in token["answers"] if a["name"] == "halloumi of old")
    assert own_name["ranks"]["glossary, encoded"] == {}  # a name that holds the token is no candidate for it
    assert "entries, encoded" not in summary["fields"]


def test_what_the_definition_says_does_not_count(make_checkpoint: Callable[..., Path]) -> None:
    """The category "salt" stands in every definition of the made-up checkpoint."""
    summary = relatedness(RelatednessConfig(model=make_checkpoint(definitions=False), quiet=True))
    assert summary["answers"]["broader"] == 1  # of the token that has no definition
    assert summary["missing"] == {"encode(gloss)": 1, "gloss mean": 1}
    assert summary["fields"]["vocabulary, rows"]["kinds"]["broader"]["views"]["trained"]["units"] == 1
    assert "gloss mean" not in summary["fields"]["vocabulary, rows"]["kinds"]["broader"]["views"]


def test_the_json_is_the_summary_and_repeats(tiny_checkpoint: Path, tmp_path: Path) -> None:
    file = tmp_path / "new" / "out.json"
    summary = relatedness(RelatednessConfig(model=tiny_checkpoint, json=file, quiet=True))
    assert json.loads(file.read_text()) == summary == relatedness(RelatednessConfig(model=tiny_checkpoint, quiet=True))


def test_a_dry_run_counts_only(tiny_checkpoint: Path) -> None:
    summary = relatedness(RelatednessConfig(model=tiny_checkpoint, dry_run=True, quiet=True))
    assert summary["tokens"] == 3 and summary["answers"] == 6 and "fields" not in summary


def test_a_glossary_needs_the_pairs(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--glossary needs --pairs"):
        relatedness(RelatednessConfig(model=tiny_checkpoint, glossary=(tmp_path,), quiet=True))


def test_nothing_to_ask_for_is_said(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_checkpoint()
    manifest = json.loads((folder / "contrastok.json").read_text())
    for token in manifest["tokens"]:
        token["relations"] = []
    (folder / "contrastok.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="no related word is left"):
        relatedness(RelatednessConfig(model=folder, quiet=True))
