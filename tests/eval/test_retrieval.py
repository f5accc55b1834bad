from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contrastok.checkpoint import load_checkpoint
from contrastok.errors import ConfigError, InputError
from contrastok.eval.index import unit
from contrastok.eval.retrieval import first_ranks, retrieval
from contrastok.eval.retrieval_data import holding, read_pairs_file, read_search, sample
from contrastok.eval_config import RetrievalConfig

PASSAGES = ["cheese with salt", "bread and butter", "a glass of water", "hot oil in a pan", "nothing of that"]


def _write(path: Path, records: list[Any]) -> Path:
    text = "".join(json.dumps(record) + "\n" for record in records)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def _files(folder: Path, queries: list[tuple[str, list[int]]]) -> dict[str, Path]:
    records = [
        {"id": f"q{i}", "text": text, "relevant": [f"p{r}" for r in right]} for i, (text, right) in enumerate(queries)
    ]
    passages = [{"id": f"p{i}", "text": text} for i, text in enumerate(PASSAGES)]
    return {
        "queries": _write(folder / "queries.jsonl", records),
        "passages": _write(folder / "passages.jsonl", passages),
    }


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 99))
def test_first_ranks_are_those_of_sorting(queries: int, passages: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    q, p = (unit(generator.normal(size=(n, 3)).astype(np.float32)) for n in (queries, passages))
    relevant = [sorted({int(r) for r in generator.integers(0, passages, 2)}) for _ in range(queries)]
    order = np.argsort(-(q @ p.T), axis=1, kind="stable")
    expected = [1 + min(list(own).index(r) for r in right) for own, right in zip(order, relevant, strict=True)]
    assert first_ranks(q, p, relevant).tolist() == expected


@pytest.mark.parametrize("family", ["wordpiece", "byte-bpe", "unigram"])
def test_a_copied_row_searches_like_its_word(family: str, make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    model = make_checkpoint(family)
    mine, words = tmp_path / "mine", tmp_path / "words"
    mine.mkdir()
    words.mkdir()
    asked = [("halloumi with salt", [0]), ("kimchiq and butter", [1]), ("a glass of zzqorp", [2, 3]), ("hot oil", [3])]
    summary = retrieval(RetrievalConfig(model=model, **_files(mine, asked), quiet=True))
    assert summary["queries"] == 4 and summary["queries_with_new_token"] == summary["asked"] == 3
    views = summary["groups"]["all"]["views"]
    assert views["trained"]["acc@1"] == views["trained"]["mrr@10"] == 1
    assert {"split word", "random", "pieces mean", "gloss mean", "initial", "trained"} == set(views)
    change = summary["groups"]["all"]["differences"]["trained - split word"]
    assert change["mrr@10"] == pytest.approx(1 - views["split word"]["mrr@10"], abs=1e-3)
    everything = retrieval(RetrievalConfig(model=model, **_files(words, asked), only_new_tokens=False, quiet=True))
    assert everything["asked"] == 4


def test_text_without_a_new_token_is_refused_or_changes_nothing(tiny_checkpoint: Path, tmp_path: Path) -> None:
    files = _files(tmp_path, [("bread", [1]), ("salt", [0])])
    with pytest.raises(InputError, match="no query and no relevant passage holds a new token"):
        retrieval(RetrievalConfig(model=tiny_checkpoint, **files, quiet=True))
    summary = retrieval(RetrievalConfig(model=tiny_checkpoint, **files, only_new_tokens=False, quiet=True))
    views = summary["groups"]["all"]["views"]
    assert all(view == views["split word"] for view in views.values())
    assert summary["groups"]["all"]["differences"]["trained - split word"]["mrr@10_interval"] == [0.0, 0.0]


def test_definitions_are_the_default_and_it_says_what_they_are(make_checkpoint: Callable[..., Path]) -> None:
    model = make_checkpoint(definitions=False)
    summary = retrieval(RetrievalConfig(model=model, quiet=True))
    assert summary["asked"] == summary["among"] == 2 and "2 of these 2 definitions" in summary["note"]
    assert summary["filled"] == {"gloss mean": 1}
    before = load_checkpoint(model).table()
    assert np.array_equal(before, load_checkpoint(model).table())


def test_a_file_of_pairs(tiny_checkpoint: Path, tmp_path: Path) -> None:
    file = _write(
        tmp_path / "qa.jsonl.gz",
        [
            {"question": "what is halloumi", "answer": "cheese with salt"},
            {"question": "what is halloumi", "answer": "hot oil"},
            {"question": "what is bread", "answer": "cheese with salt"},
            {"question": "what is water", "answer": " "},
        ],
    )
    search = read_pairs_file(file, "question", "answer")
    assert search.queries == ("what is halloumi", "what is bread")
    assert search.passages == ("cheese with salt", "hot oil") and search.relevant == ((0, 1), (0,))
    config = RetrievalConfig(
        model=tiny_checkpoint, pairs_file=file, query_field="question", passage_field="answer", dry_run=True, quiet=True
    )
    assert retrieval(config)["queries_with_new_token"] == 1
    with pytest.raises(InputError, match="no field 'query'"):
        read_pairs_file(file, "query", "answer")


def test_everything_wrong_with_the_files_in_one_message(tmp_path: Path) -> None:
    queries = _write(
        tmp_path / "q.jsonl",
        [{"id": 1, "text": "a", "relevant": ["pl"]}, {"id": 2, "text": "b"}, {"text": 3, "relevant": []}],
    )
    passages = _write(tmp_path / "p.jsonl", [{"id": "p1", "text": "x"}, {"id": "p1", "text": "y"}, {"text": "z"}])
    with pytest.raises(InputError) as error:
        read_search(queries, passages)
    for part in (
        "p.jsonl:2",
        "stands there twice",
        "p.jsonl:3",
        "needs an id",
        "q.jsonl:1",
        "no passage has the id 'pl'",
        "q.jsonl:2",
        "relevant",
        "expected text, not a number",
    ):
        assert part in str(error.value)


def test_options_that_contradict_each_other(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        retrieval(RetrievalConfig(model=tiny_checkpoint, queries=tmp_path, pairs_file=tmp_path, limit=-1))
    for part in ("belong together", "stands in place of", "--limit"):
        assert part in str(error.value)


def test_a_training_text_inside_a_passage_is_found() -> None:
    training = ["The cheese is grilled in Cyprus.", "cheese", "salt and oil"]
    texts = ["In short:\nthe  Cheese is grilled in cyprus. Good.", "cheese", "salt and oil", "the cheese is fried"]
    assert holding(texts, training) == [True, False, False, False]
    assert holding(texts, []) == [False] * 4


@given(st.integers(0, 8), st.integers(0, 5))
def test_a_sample_keeps_every_answer(limit: int, seed: int) -> None:
    from contrastok.eval.retrieval_data import Search

    search = Search(
        "x", tuple(f"q{i}" for i in range(6)), tuple(f"p{i}" for i in range(20)), tuple((i, 2 * i) for i in range(6))
    )
    drawn = sample(search, limit, seed)
    assert drawn == sample(search, limit, seed)
    assert len(drawn.queries) == (min(limit, 6) or 6)
    for query, relevant in zip(drawn.queries, drawn.relevant, strict=True):
        at = int(query[1:])
        assert [drawn.passages[p] for p in relevant] == [f"p{at}", f"p{2 * at}"]
    right = {p for r in drawn.relevant for p in r}
    assert len(drawn.passages) - len(right) == (min(limit, 20 - len(right)) if limit else 20 - len(right))
