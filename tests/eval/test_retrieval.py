from __future__ import annotations

import dataclasses
import gzip
import json
import unicodedata
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
from contrastok.eval.retrieval import WITHOUT, choose, first_ranks, retrieval
from contrastok.eval.retrieval_data import Search, holding, read_pairs_file, read_search, sample
from contrastok.eval_config import RetrievalConfig

from .conftest import documented

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
    assert set(views) == documented("retrieval", "text")
    change = summary["groups"]["all"]["differences"]["trained - split word"]
    assert change["mrr@10"] == pytest.approx(1 - views["split word"]["mrr@10"], abs=1e-3)
    everything = retrieval(RetrievalConfig(model=model, **_files(words, asked), only_new_tokens=False, quiet=True))
    assert everything["asked"] == 4


def test_queries_without_a_new_token_show_the_harm_of_passages_that_compete(
    make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    """halloumi has the row of cheese, so its passage comes nearer to a query for cheese than the split word was."""
    model = make_checkpoint()
    queries = [{"id": 0, "text": "halloumi", "relevant": ["new"]}, {"id": 1, "text": "cheese", "relevant": ["old"]}]
    passages = [{"id": "new", "text": "halloumi"}, {"id": "old", "text": "cheese cheese"}, {"id": 3, "text": "oil"}]
    files = {
        "queries": _write(tmp_path / "q.jsonl", queries),
        "passages": _write(tmp_path / "p.jsonl", passages),
    }
    summary = retrieval(RetrievalConfig(model=model, **files, quiet=True))
    assert (summary["asked"], summary["asked_without_new_token"], summary["among"]) == (1, 1, 3)
    harmed = summary["groups"][WITHOUT]
    assert harmed["queries"] == 1 and summary["groups"]["all"]["queries"] == 1
    assert harmed["views"]["split word"]["acc@1"] == 1 and harmed["views"]["trained"]["acc@1"] == 0
    assert harmed["differences"]["trained - split word"]["acc@1"] == -1
    assert set(harmed["views"]) == documented("retrieval", "text")
    everything = retrieval(RetrievalConfig(model=model, **files, only_new_tokens=False, quiet=True))
    assert everything["groups"]["all"]["queries"] == 2 and everything["groups"][WITHOUT] == harmed


@given(st.sets(st.integers(0, 7), min_size=1), st.integers(0, 5), st.booleans(), st.integers(0, 5))
def test_the_others_are_capped_and_cost_no_passage(concerned: set[int], limit: int, only: bool, seed: int) -> None:
    relevant = [(q, q + 1) if q % 2 else (q,) for q in range(8)]
    search = Search("x", tuple(f"q{q}" for q in range(8)), tuple(f"p{p}" for p in range(12)), tuple(relevant))
    config = RetrievalConfig(limit=limit, seed=seed, only_new_tokens=only)
    asked, groups = choose(search, sorted(concerned), config)
    here = search.only(sorted(concerned)) if only else search
    alone = sample(here, limit, seed)
    assert asked.passages == alone.passages and asked.queries[: len(alone.queries)] == alone.queries
    assert [asked.queries[q] for q in groups["all"]] == list(alone.queries)
    numbers = [int(text[1:]) for text in asked.queries]
    assert len(set(numbers)) == len(numbers)
    assert groups[WITHOUT] == [at for at, q in enumerate(numbers) if q not in concerned]
    for q, found in zip(numbers, asked.relevant, strict=True):
        assert [asked.passages[p] for p in found] == [f"p{p}" for p in relevant[q]]
    possible = [q for q in range(8) if q not in concerned and {f"p{p}" for p in relevant[q]} <= set(asked.passages)]
    if only:
        assert len(groups[WITHOUT]) == (min(limit, len(possible)) if limit else 8 - len(concerned))


def test_a_dry_run_counts_what_would_be_asked(tiny_checkpoint: Path, tmp_path: Path) -> None:
    asked = [("halloumi with salt", [0]), ("kimchiq", [1]), ("bread", [1]), ("water", [2]), ("hot oil", [3])]
    files = _files(tmp_path, asked)
    config = RetrievalConfig(model=tiny_checkpoint, **files, limit=1, dry_run=True, quiet=True)
    summary = retrieval(config)
    assert (summary["queries"], summary["queries_with_new_token"], summary["passages"]) == (5, 2, 5)
    assert (summary["asked"], summary["among"]) == (1, 2) and summary["asked_without_new_token"] <= 1
    done = retrieval(dataclasses.replace(config, dry_run=False))
    assert all(done[name] == value for name, value in summary.items() if name != "dry_run")


def test_without_such_queries_it_says_so(
    make_checkpoint: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    summary = retrieval(RetrievalConfig(model=make_checkpoint()))
    assert summary["groups"][WITHOUT] == {"queries": 0, "views": {}, "differences": {}}
    assert "harm to such queries is not measured" in " ".join(capsys.readouterr().err.split())


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
    assert search.what == "qa.jsonl.gz: question -> answer"  # results are shared; where a file lay is nobody's business
    assert search.passages == ("cheese with salt", "hot oil") and search.relevant == ((0, 1), (0,))
    config = RetrievalConfig(
        model=tiny_checkpoint, pairs_file=file, query_field="question", passage_field="answer", dry_run=True, quiet=True
    )
    assert retrieval(config)["queries_with_new_token"] == 1
    with pytest.raises(InputError, match="no field 'query'"):
        read_pairs_file(file, "query", "answer")


def test_queries_and_passages_are_called_by_the_names_of_their_files(tmp_path: Path) -> None:
    queries = _write(tmp_path / "q.jsonl", [{"text": "what is halloumi", "relevant": ["p"]}])
    passages = _write(tmp_path / "p.jsonl", [{"id": "p", "text": "a cheese"}])
    assert read_search(queries, passages).what == "q.jsonl -> p.jsonl"


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


def test_wanted_views_have_the_figures_that_they_have_among_all(make_checkpoint: Callable[..., Path]) -> None:
    everything, asked = (
        retrieval(RetrievalConfig(model=make_checkpoint(), views=views, quiet=True))["groups"]["all"]
        for views in ((), ("trained",))
    )
    assert set(asked["views"]) == {"split word", "trained"} < set(everything["views"])
    assert all(
        everything[kind][name] == found
        for kind, own in asked.items()
        if kind != "queries"
        for name, found in own.items()
    )


def test_views_that_are_none(tiny_checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match="--views oracle is none") as error:
        retrieval(RetrievalConfig(model=tiny_checkpoint, views=("oracle", "inital")))
    assert "did you mean 'initial'" in str(error.value) and "--views must name trained" in str(error.value)


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


@given(st.text(min_size=1))
def test_a_leak_is_found_however_its_accents_are_encoded(odd: str) -> None:
    sentence = f"Jalapeño and crème fraîche ΐ {odd} with salt"
    spellings = [unicodedata.normalize(form, sentence) for form in ("NFC", "NFD")]
    assert holding([f"so {text} it is" for text in spellings], spellings[:1]) == [True, True]
    assert holding(spellings, spellings[1:]) == [True, True]


@given(st.integers(0, 8), st.integers(0, 5))
def test_a_sample_keeps_every_answer(limit: int, seed: int) -> None:
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
