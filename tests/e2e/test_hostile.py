"""Text, disks and files at their worst, through the commands."""

from __future__ import annotations

import errno
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from .conftest import KITCHEN, Run

TERMS = KITCHEN / "terms.jsonl"
HOSTILE = [
    "<script>alert(1)</script>",
    "שלוםית",
    "🧀🧀",
    "zoe\u0301lle",
    "[/bold]",
    "{{7*7}}",
    "a|b|c",
    "'; DROP TABLE x",
]
LONG = 10_000_000


def no_space(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture(scope="module")
def pairs(here: Run, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs for hostile terms, from hostile text."""
    folder = tmp_path_factory.mktemp("hostile")
    terms = [json.dumps({"token": term, "definition": f"a word like {term}"}) for term in HOSTILE]
    (folder / "terms.jsonl").write_text("\n".join(terms))
    (folder / "corpus").mkdir()
    lines = [f"we bought {term} at the \x00 old market \ud800 \u202e today" for term in HOSTILE]
    (folder / "corpus" / "a.jsonl").write_text("\n".join(json.dumps({"text": line}) for line in lines))
    (folder / "corpus" / "b.txt").write_text("we like 🧀🧀 very much. " + "the old " * (LONG // 8) + "and 🧀🧀 again")
    here("gen-pairs", "--terms", folder / "terms.jsonl", "--corpus", folder / "corpus", "--model", tiny_model,
         "--known-sentences", 0, "--out", folder / "pairs")  # fmt: skip
    return folder / "pairs"


def test_hostile_terms_and_text_are_taught(here: Run, pairs: Path, tiny_model: Path, tmp_path: Path) -> None:
    texts = pq.read_table(pairs / "pairs.parquet")["anchor"].to_pylist()
    assert any("\ufffd" in text for text in texts) and max(map(len, texts)) < 2000
    here("train", "--terms", pairs.with_name("terms.jsonl"), "--pairs", pairs, "--model", tiny_model, "--epochs", 1,
         "--init", "charlen_mean", "--device", "cpu", "--out", tmp_path / "model")  # fmt: skip
    manifest = json.loads((tmp_path / "model" / "contrastok.json").read_text())
    assert [token["token"] for token in manifest["tokens"]] == HOSTILE and manifest["skipped"] == []
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    for token in manifest["tokens"]:
        assert {*token["ids"]} & {*tokenizer(f"we saw {token['token']} there")["input_ids"]}, token["token"]


@pytest.mark.parametrize("token", ["a\\u0000b", "a\\ud800b"])
def test_a_term_that_is_no_text_is_told(here: Run, tmp_path: Path, token: str) -> None:
    (tmp_path / "terms.jsonl").write_text(f'{{"token": "brie"}}\n{{"token": "{token}"}}\n')
    done = here("gen-pairs", "--terms", tmp_path / "terms.jsonl", "--corpus", KITCHEN, "--out", tmp_path / "o", code=2)
    assert "terms.jsonl:2" in done.stderr and "no character" in done.stderr


def cut_gzip(file: Path) -> Path:
    content = gzip.compress(b'{"text": "we like halloumi today"}\n' * 1000)
    file.with_suffix(".jsonl.gz").write_bytes(content[: len(content) // 2])
    return file.with_suffix(".jsonl.gz")


def cut_parquet(file: Path) -> Path:
    whole = file.with_suffix(".parquet")
    pq.write_table(pa.table({"text": ["we like halloumi today"] * 1000}), whole)
    whole.write_bytes(whole.read_bytes()[:-100])
    return whole


@pytest.mark.parametrize("cut", [cut_gzip, cut_parquet])
def test_a_corrupt_shard_is_named(here: Run, tiny_model: Path, tmp_path: Path, cut: Any) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "a.txt").write_text("We like halloumi very much.\n")
    shard = cut(corpus / "b")
    done = here(
        "gen-pairs", "--terms", TERMS, "--corpus", corpus, "--model", tiny_model, "--out", tmp_path / "o", code=2
    )
    assert shard.name in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"corpus", ".o.shards"}  # the other shard is not read again


@pytest.mark.parametrize(
    ("command", "full"),
    [
        pytest.param("gen-pairs", "pathlib.Path.write_bytes", id="findings of a shard"),
        pytest.param("gen-pairs", "contrastok.data_gen.writer.pa.table", id="pairs"),
        pytest.param("train", "contrastok.state.write_tensors", id="progress of training"),
    ],
)
def test_a_full_disk_is_told_and_nothing_is_left(
    here: Run, pairs: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, full: str
) -> None:
    """Nothing but whole findings of shards, which the next run goes on with."""
    monkeypatch.setattr(full, no_space)
    given = {
        "gen-pairs": ("--corpus", pairs.with_name("corpus") / "a.jsonl", "--known-sentences", 0),
        "train": ("--pairs", pairs, "--init", "charlen_mean", "--device", "cpu", "--checkpoint-every", 1),
    }[command]
    terms = pairs.with_name("terms.jsonl")
    done = here(command, "--terms", terms, "--model", tiny_model, *given, "--out", tmp_path / "out", code=2)
    assert "No space left" in done.stderr and "free some space" in done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.parent.name != ".out.shards"]
    assert not list(tmp_path.rglob("*.partial"))


def test_a_place_that_cannot_be_written_is_told_before_the_work(here: Run, tiny_model: Path) -> None:
    """/proc takes no file of root's either, whom the mode of a folder does not stop."""
    done = here("gen-pairs", "--terms", TERMS, "--corpus", KITCHEN, "--model", tiny_model, "--out", "/proc/out", code=2)
    assert "cannot be written" in done.stderr and "/proc" in done.stderr
