"""Whatever bytes a file holds, its reader gives a result, or an error of ours that names the file.

Files are random bytes, valid ones with damage, and valid JSON with other values in it. A reader that is not here is not
tested so: add its line to READERS.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save as safetensors_bytes

from contrastok.adapter import CONFIG, WEIGHTS, read_adapter
from contrastok.bank import FrozenEncoder
from contrastok.cache import kept_arrays
from contrastok.checkpoint import MANIFEST, read_manifest, read_rows
from contrastok.config import COMMANDS
from contrastok.config_file import from_toml
from contrastok.data_gen.corpus import read_corpus
from contrastok.data_gen.term_readers import read_terms
from contrastok.data_gen.wordnet import WordNet
from contrastok.data_gen.writer import EVIDENCE_SCHEMA, SCHEMA
from contrastok.errors import ContrastokError
from contrastok.eval.retrieval_data import read_pairs_file, read_search
from contrastok.eval.sts import read_sts
from contrastok.evidence import EVIDENCE_FILE, read_evidence
from contrastok.export import plan_of, read_delta
from contrastok.files import sha256_file
from contrastok.hypernet import store
from contrastok.models import load_model, load_tokenizer, transformer_folder
from contrastok.pairs import read_about, read_pairs
from contrastok.state import RunState
from contrastok.tensor_file import write_tensors
from contrastok.word_vectors import read_word_vectors
from tests.conftest import ROOT

EXAMPLES = 30
OBO = (ROOT / "tests" / "data_gen" / "data" / "cheeses.obo").read_bytes()
TERMS = b'{"token": "brie", "definition": "a cheese", "synonyms": ["soft cheese"], "broader": ["cheese"]}\n{"token": "feta"}\n'
CSV = b'token,definition,synonyms\nbrie,"a cheese, soft","x|y"\nfeta,,\n'
TEXT = "The brie is soft,\nand the feta is not.\n\n- Ein Käse \U0001f9c0\n".encode()
DOCUMENTS = b'{"text": "The brie is soft."}\n\n{"text": null}\n'
TOML = (
    b'seed = 3\nquiet = true\n[train]\nepochs = 2\nmodel = "minilm"\nterms = ["a.jsonl"]\n[eval.recovery]\nsample = 4\n'
)
VECTORS = b"2 3\nbrie 0.5 1 -2\nfeta 1e-3 0 7\n"
RELEVANT = b'{"id": "1", "text": "what is brie", "relevant": ["p"]}\n'
PASSAGES = b'{"id": "p", "text": "a cheese"}\n'
STS = b"score,sentence1,sentence2\n5.0,A man eats.,A man is eating.\n1.5,A man eats.,A dog runs.\n"
BASE = {"name": "m", "frozen_sha256": "a", "tokenizer_sha256": "b", "table_rows": 9, "dim": 2}
TOKEN = {
    "token": "brie", "row": 0, "ids": [9], "forms": ["brie"], "pieces": ["br", "##ie"], "definition": "",
    "relations": [{"name": "x", "kind": "synonym", "held_out": False}],
    "evidence": {"sentences": 1, "pairs": {"template": 1}, "negatives": 0, "examples": ["a brie"]},
}  # fmt: skip
CHECKPOINT = {
    "format": 1, "base_model": BASE, "tokens": [TOKEN], "skipped": [{"term": "the", "reason": "known"}],
    "tokenizer": {"family": "wordpiece", "mode": "added", "gate": {}}, "init": "mvn", "seed": 0, "versions": {},
    "training": {"options": {}, "steps": 1, "pairs": 2, "curve": [{"step": 1}]},
    "frozen": {"tensors": 3, "sha256_before": "c", "sha256_after": "c"},
}  # fmt: skip
DELTA = {
    "format": 1, "version": "0", "family": "wordpiece", "mode": "added", "edits": {}, "init": "mvn", "seed": 0,
    "base_model": BASE, "tokens": [["brie", "brie", 9, 0, True, None]],
}  # fmt: skip
NETWORK = {
    "format": store.FORMAT, "settings": {"layers": 2},
    "base_model": {"name": "m", "dim": 4, "table_sha256": "a", "tokenizer_sha256": "b"},
}  # fmt: skip
ADAPTER = {"peft_type": "TRAINABLE_TOKENS", "token_indices": [9, 10], "target_modules": ["embed"]}


def parquet(schema: pa.Schema, row: dict[str, Any]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([row] * 3, schema=schema), sink)
    return sink.getvalue()


PAIRS = parquet(SCHEMA, dict.fromkeys(SCHEMA.names, "a brie") | {"negatives": ["x"]})
EVIDENCE = parquet(
    EVIDENCE_SCHEMA,
    {
        "token": "brie",
        "known": False,
        "definition": "",
        "synonyms": [],
        "broader": [],
        "sentences": ["a brie"],
        "per_million": 1.0,
    },
)
DOCUMENTS_PARQUET = parquet(pa.schema([("text", pa.string())]), {"text": "The brie is soft."})
ADAPTER_ROWS = safetensors_bytes({"base_model.model.embed.trainable_tokens_delta": torch.ones(2, 2)})


def tensors(about: dict[str, Any] | None) -> bytes:
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        write_tensors(Path(file.name), {"rows": torch.ones(1, 2)}, about)
        return Path(file.name).read_bytes()


def evidence_beside_its_hash(file: Path) -> object:
    about = {"evidence": {"sha256": sha256_file(file)}}
    (file.parent / "pairs.json").write_text(json.dumps(about))
    return read_evidence(file.parent)


def adapter_with(name: str, content: bytes) -> Callable[[Path], object]:
    def read(file: Path) -> object:
        (file.parent / name).write_bytes(content)
        return read_adapter(file.parent)

    return read


def wordnet_with(file: Path) -> object:
    for other in (ROOT / "tests" / "data_gen" / "data" / "wordnet").iterdir():
        if other.name != file.name:
            (file.parent / other.name).write_bytes(other.read_bytes())
    words = WordNet(file.parent)
    return [words.lookup("cheese"), words.lookup("dog"), list(words.synsets()), list(words.words())]


def search_with(file: Path) -> object:
    (file.parent / "passages.jsonl").write_bytes(PASSAGES)
    return read_search(file, file.parent / "passages.jsonl")


def tokenizer_of(file: Path) -> object:
    (file.parent / "config.json").write_text("{}")
    return transformer_folder(str(file.parent))


@dataclass(frozen=True)
class Reader:
    """A reader, the name of its file, and a file that it reads."""

    name: str
    valid: bytes
    read: Callable[[Path], object]


def everything(items: Iterable[object]) -> list[object]:
    return list(items)


READERS = [
    Reader("terms.jsonl", TERMS, lambda file: read_terms([file])),
    Reader("terms.jsonl.gz", gzip.compress(TERMS, mtime=0), lambda file: read_terms([file])),
    Reader("terms.csv", CSV, lambda file: read_terms([file])),
    Reader("terms.txt", b"# cheeses\nbrie\nfeta\n", lambda file: read_terms([file])),
    Reader("terms.obo", OBO, lambda file: read_terms([file])),
    Reader("corpus.txt", TEXT, lambda file: everything(read_corpus([str(file)]))),
    Reader("corpus.txt.gz", gzip.compress(TEXT, mtime=0), lambda file: everything(read_corpus([str(file)]))),
    Reader("corpus.jsonl", DOCUMENTS, lambda file: everything(read_corpus([str(file)]))),
    Reader("corpus.csv", CSV, lambda file: everything(read_corpus([str(file)], "definition"))),
    Reader("corpus.parquet", DOCUMENTS_PARQUET, lambda file: everything(read_corpus([str(file)]))),
    Reader("data.noun", (ROOT / "tests/data_gen/data/wordnet/data.noun").read_bytes(), wordnet_with),
    Reader("index.noun", (ROOT / "tests/data_gen/data/wordnet/index.noun").read_bytes(), wordnet_with),
    Reader("pairs.parquet", PAIRS, lambda file: read_pairs(file, "")),
    Reader("pairs.json", json.dumps({"terms": [{"token": "brie"}]}).encode(), read_about),
    Reader(EVIDENCE_FILE, EVIDENCE, evidence_beside_its_hash),
    Reader(MANIFEST, json.dumps(CHECKPOINT).encode(), lambda file: read_manifest(file.parent)),
    Reader("rows.safetensors", tensors(None), read_rows),
    Reader("delta.safetensors", tensors(DELTA), lambda file: plan_of(read_delta(file))),
    Reader(CONFIG, json.dumps(ADAPTER).encode(), adapter_with(WEIGHTS, ADAPTER_ROWS)),
    Reader(WEIGHTS, ADAPTER_ROWS, adapter_with(CONFIG, json.dumps(ADAPTER).encode())),
    Reader(store.MANIFEST, json.dumps(NETWORK).encode(), lambda file: store.read_manifest(file.parent)),
    Reader("modules.json", b'[{"type": "x.Transformer", "path": "t"}]', tokenizer_of),
    Reader("run.toml", TOML, lambda file: [from_toml(kind, file) for kind in COMMANDS.values()]),
    Reader("vectors.txt", VECTORS, lambda file: everything(read_word_vectors(file))),
    Reader("queries.jsonl", RELEVANT, search_with),
    Reader("search.csv", CSV, lambda file: read_pairs_file(file, "token", "definition")),
    Reader("sts.csv", STS, read_sts),
]

OTHER_TYPES = [
    pa.array([1, 2, 3]), pa.array([0.5, None, 1.0]), pa.array([b"a", b"b", b"\xff"]), pa.array([True, False, None]),
    pa.array(["a", "b", None]), pa.array([["a"], [], None]), pa.array([["a", None], [], []]), pa.array([[1], [2], []]),
    pa.array([{"a": 1}, {"a": 2}, None]), pa.nulls(3), pa.array(["a", "b", "a"]).dictionary_encode(),
    pa.array([1, 2, 3], pa.timestamp("ns")),
]  # fmt: skip


@pytest.mark.parametrize("reader", [r for r in READERS if r.name.endswith(".parquet")], ids=lambda reader: reader.name)
def test_any_type_of_column(reader: Reader) -> None:
    """One column of another type, or with gaps: read as what it should hold, or told."""
    table = pq.read_table(io.BytesIO(reader.valid))
    for at, name in enumerate(table.column_names):
        for values in OTHER_TYPES:
            sink = io.BytesIO()
            pq.write_table(table.slice(0, 3).set_column(at, name, values), sink)
            read_or_told(reader, sink.getvalue())


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)


@st.composite
def other_bytes(draw: st.DrawFn, valid: bytes) -> bytes:
    """Random bytes, or a valid file that was cut, or of which some bytes are others."""
    way = draw(st.sampled_from(["random", "text", "cut", "spliced"]))
    if way == "random":
        return draw(st.binary(max_size=80))
    if way == "text":
        return draw(st.text(max_size=60)).encode("utf-8", "surrogatepass")
    start = draw(st.integers(0, len(valid)))
    if way == "cut":
        return valid[:start]
    end = min(len(valid), start + draw(st.integers(0, 8)))
    return valid[:start] + draw(st.binary(max_size=8)) + valid[end:]


@st.composite
def other_values(draw: st.DrawFn, valid: Any) -> Any:
    """A JSON value with another one somewhere in it, or without one of its keys."""
    if not isinstance(valid, dict | list) or not valid or draw(st.integers(0, 5)) == 0:
        return draw(anything)
    places = sorted(valid) if isinstance(valid, dict) else range(len(valid))
    at = draw(st.sampled_from(list(places)))
    if isinstance(valid, list):
        return [*valid[:at], draw(other_values(valid[at])), *valid[at + 1 :]]
    if draw(st.integers(0, 5)) == 0:
        return {key: value for key, value in valid.items() if key != at}
    return valid | {at: draw(other_values(valid[at]))}


def read_or_told(reader: Reader, content: bytes) -> None:
    """Fails on any error that is not ours, and on ours that do not say where."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / reader.name
        file.write_bytes(content)
        try:
            reader.read(file)
        except ContrastokError as error:
            assert any(other.name in str(error) for other in Path(folder).iterdir()) and error.what


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_any_bytes(reader: Reader) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / reader.name
        file.write_bytes(reader.valid)
        reader.read(file)  # what is damaged below is fit to be read

    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
    @given(content=other_bytes(reader.valid))
    def damaged(content: bytes) -> None:
        read_or_told(reader, content)

    damaged()


@pytest.mark.parametrize(
    "reader",
    [reader for reader in READERS if reader.name.endswith((".json", ".jsonl"))],
    ids=lambda reader: reader.name,
)
def test_any_values(reader: Reader) -> None:
    first, *_ = reader.valid.splitlines() if reader.name.endswith(".jsonl") else [reader.valid]

    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
    @given(value=other_values(json.loads(first)))
    def damaged(value: Any) -> None:
        read_or_told(reader, json.dumps(value).encode())

    damaged()


@pytest.mark.parametrize("reader", READERS[:9], ids=lambda reader: reader.name)
def test_the_line_is_named(reader: Reader, tmp_path: Path) -> None:
    """The third line is no UTF-8; other faults of lines have tests of their own beside their readers."""
    lines = (gzip.decompress(reader.valid) if reader.name.endswith(".gz") else reader.valid).splitlines(keepends=True)
    broken = b"".join([*lines[:2], b"caf\xe9\n", *lines[2:]])
    file = tmp_path / reader.name
    file.write_bytes(gzip.compress(broken) if reader.name.endswith(".gz") else broken)
    with pytest.raises(ContrastokError) as told:
        reader.read(file)
    assert re.search(rf"{re.escape(reader.name)}:3\b", str(told.value))


KEPT = tensors({"key": "k", "step": 3, "curve": []})


@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
@given(content=other_bytes(KEPT))
def test_a_damaged_state_is_none(content: bytes) -> None:
    """It is read whole or not at all: no flipped bit passes for progress."""
    with tempfile.TemporaryDirectory() as folder:
        state = RunState(Path(folder), "k")
        state.file.write_bytes(content)
        assert state.load() is None or content == KEPT


MADE = {"a": np.ones(2), "text": np.array("told")}


def kept_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        kept_arrays(Path(folder) / "kept.arrays", lambda: MADE)
        return (Path(folder) / "kept.arrays").read_bytes()


def old_kept_file() -> bytes:
    """As it was before files of the cache had a hash."""
    sink = io.BytesIO()
    np.savez(sink, a=np.zeros(2))
    return sink.getvalue()


def kept_or_made(file: Path, content: bytes) -> None:
    """Fails where content passes for arrays that were never made."""
    file.write_bytes(content)
    made = kept_arrays(file, lambda: MADE)
    found = kept_arrays(file, lambda: {})
    for arrays in (made, found):
        assert arrays.keys() == MADE.keys() and all((arrays[name] == MADE[name]).all() for name in MADE)


@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
@given(content=other_bytes(kept_file()))
def test_a_damaged_cache_is_made_anew(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        kept_or_made(Path(folder) / "kept.arrays", content)


def test_any_byte_of_a_cache_may_be_another(tmp_path: Path) -> None:
    """The names in a zip have no checksum, and its flags make Python raise what nobody expects."""
    valid = kept_file()
    for byte in range(len(valid)):
        kept_or_made(tmp_path / "kept.arrays", flipped(valid, 8 * byte + byte % 8))
    kept_or_made(tmp_path / "kept.arrays", old_kept_file())


def test_a_damaged_encoding_is_made_anew(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flipped bit in a frozen key would be trained towards without a word."""
    monkeypatch.setenv("CONTRASTOK_CACHE", str(tmp_path))
    model = load_model(str(tiny_model))
    encoder = FrozenEncoder(model, model.tokenizer)
    texts = ["the cheese is old", "a knife"]
    first = encoder.encode(texts).copy()
    assert encoder.folder is not None
    [file] = encoder.folder.glob("*.safetensors")
    valid = file.read_bytes()

    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
    @given(content=other_bytes(valid) | st.integers(0, 8 * len(valid) - 1).map(lambda bit: flipped(valid, bit)))
    def damaged(content: bytes) -> None:
        file.write_bytes(content)
        assert (encoder.encode(texts) == first).all()
        assert file.read_bytes() == valid

    damaged()
    file.unlink()
    np.save(file.with_suffix(".npy"), np.zeros_like(first))  # of a version before there was a hash
    assert (encoder.encode(texts) == first).all()


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_a_model_of_any_bytes_is_told(tiny_model: Path, tmp_path: Path) -> None:
    """Loaders raise what they like; three files that each of them meets first."""
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        for number, content in enumerate((b"", b"{", b"[]", b"\xff\xfe", b'{"model": {"type": 7}}')):
            folder = tmp_path / f"{name}-{number}"
            folder.mkdir()
            for file in tiny_model.iterdir():
                (folder / file.name).write_bytes(content if file.name == name else file.read_bytes())
            try:
                load_tokenizer(str(folder))
            except ContrastokError as error:
                assert folder.name in str(error)
