from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contrastok.data_gen.corpus import CORPUS_READERS, Document, describe_corpus, read_corpus
from contrastok.errors import InputError

MEDQUAD = Path(__file__).parents[3] / "shared" / "data" / "medquad"
WORDNET = Path(__file__).parent / "data" / "wordnet"


def written(folder: Path, name: str, text: str | bytes) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    content = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return str(path)


def parquet(folder: Path, **columns: Any) -> str:
    pq.write_table(pa.table(columns), folder / "a.parquet")
    return str(folder / "a.parquet")


def texts(*sources: str, **options: str) -> list[str]:
    return [document.text for document in read_corpus(sources, **options)]


def refused(*sources: str, **options: str) -> str:
    with pytest.raises(InputError) as caught:
        texts(*sources, **options)
    return str(caught.value)


@pytest.mark.parametrize("name", ["a.txt", "a.TXT.gz"])
def test_lines_of_text_are_documents_and_hard_wrapped_ones_are_joined(tmp_path: Path, name: str) -> None:
    source = written(
        tmp_path,
        name,
        "\ufeffHalloumi is a cheese\r\nthat one can\ngrill. \nit squeaks.\n\n"
        "A title\n\nbelow it.\nShe said \u201cno.\u201d\nand left\nHe stayed",
    )
    assert list(read_corpus([source])) == [
        Document("Halloumi is a cheese that one can grill.", f"{source}:1"),
        Document("it squeaks.", f"{source}:4"),
        Document("A title", f"{source}:6"),
        Document("below it.", f"{source}:8"),
        Document("She said \u201cno.\u201d", f"{source}:9"),
        Document("and left", f"{source}:10"),
        Document("He stayed", f"{source}:11"),
    ]


def test_joining_has_an_end(tmp_path: Path) -> None:
    source = written(tmp_path, "a.txt", "word\n" * 10_000)
    found = texts(source)
    assert len(found) == 5
    assert max(map(len, found)) <= 10_000
    assert " ".join(found).split() == ["word"] * 10_000


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_json_lines_without_the_empty_ones(tmp_path: Path, name: str) -> None:
    rows = ['{"text": " one\\n", "id": 1}', "", '{"text": null}', '{"text": " "}', '{"text": "two"}']
    source = written(tmp_path, name, "\n".join(rows))
    assert list(read_corpus([source])) == [Document("one", f"{source}:1"), Document("two", f"{source}:5")]


def test_csv_rows_with_line_breaks(tmp_path: Path) -> None:
    source = written(tmp_path, "a.csv", 'id,body\n1,"one, and\nmore"\n2,\n3,three\n')
    assert list(read_corpus([source], text_field="body")) == [
        Document("one, and\nmore", f"{source}:2"),
        Document("three", f"{source}:5"),
    ]


def test_parquet_rows(tmp_path: Path) -> None:
    source = parquet(tmp_path, id=range(1000), text=[None if n % 2 else f"t{n}" for n in range(1000)])
    found = list(read_corpus([source]))
    assert found[:2] == [Document("t0", f"{source}:1"), Document("t2", f"{source}:3")]
    assert len(found) == 500


def test_a_folder_is_read_in_sorted_order_without_hidden_and_unknown_files(tmp_path: Path) -> None:
    for name in ("b/z.txt", "b/a.txt.gz", "a.txt", ".hidden.txt", ".git/x.txt", "readme.md", "c/LICENSE"):
        written(tmp_path, name, f"{name}.")
    assert texts(str(tmp_path)) == ["a.txt.", "b/a.txt.gz.", "b/z.txt."]


def test_sources_are_read_in_the_order_given(tmp_path: Path) -> None:
    first, second = written(tmp_path, "b.txt", "b."), written(tmp_path, "a.jsonl", '{"text": "a"}')
    assert texts(first, second) == ["b.", "a"]


def test_a_wordnet_folder_gives_each_gloss_and_each_example() -> None:
    documents = list(read_corpus([str(WORDNET)]))
    assert Document("they sell cheese; and bread", f"{WORDNET / 'data.noun'}: byte 140") in documents
    assert Document("something to eat", f"{WORDNET / 'data.noun'}: byte 75") in documents
    assert all('"' not in document.text or "as in the phrase" in document.text for document in documents)
    assert describe_corpus([str(WORDNET)]) == (4, sum(file.stat().st_size for file in WORDNET.glob("data.*")))


def test_describe_counts_files_and_bytes_without_reading_them(tmp_path: Path) -> None:
    written(tmp_path, "a/a.txt", b"\xff" * 10)
    source = written(tmp_path, "b.jsonl", "x" * 5)
    assert describe_corpus([str(tmp_path / "a"), source, "owner/some-dataset"]) == (2, 15)
    with pytest.raises(InputError, match="no such file or folder"):
        describe_corpus([str(tmp_path / "c.txt")])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"fine.\ncaf\xe9", "2: is not UTF-8 text (byte 0xe9 at position 4 of the line)\n  -> convert it"),
        ("a.jsonl", b'{"text": "a"}\n{"text": \n', "2: unreadable JSON at column 9: Expecting value"),
        ("a.jsonl", b'{"text": "a"}\n"b"\n', "2: expected a JSON object, not text"),
        (
            "a.jsonl",
            b'{"text": "a"}\n{"txt": "b", "id": 1}\n',
            "2: no field 'text'\n  -> name one with --text-field; did",
        ),
        (
            "a.jsonl",
            b'{"answer": "b", "id": 1}\n',
            "1: no field 'text'\n  -> name one with --text-field; valid: answer",
        ),
        ("a.jsonl", b'{"text": ["b"]}\n', "1: the field 'text' is a list, not text"),
        ("a.csv", b"id,text\n1\n", "2: no field 'text'"),
        ("a.csv", b"id,text\n1,a,b\n", "2: 3 fields where the header has 2"),
        ("a.csv", b'id,text\n1,"a\n', "2: unreadable CSV: unexpected end of data"),
        ("a.txt.gz", None, " cannot be read ("),
        ("a.parquet", None, " cannot be read ("),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    source = written(tmp_path, name, content or b"")
    if content is None:
        Path(source).write_bytes(b"neither gzip nor Parquet")
    assert f"{source}:{message}" in refused(source)


def test_parquet_without_the_field_or_with_numbers_in_it(tmp_path: Path) -> None:
    source = parquet(tmp_path, texts=[1], id=[2])
    assert f"{source}: no field 'text'\n  -> name one with --text-field; did you mean 'texts'?" in refused(source)
    assert f"{source}:1: the field 'texts' is a number, not text" in refused(source, text_field="texts")


def test_sources_are_looked_up_before_the_first_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "good.txt", "a.")
    written(tmp_path, "docs/a.pdf", "a")
    (tmp_path / "empty").mkdir()
    written(tmp_path, "a.docx", "a")
    with pytest.raises(InputError) as caught:  # raised without asking for a document
        read_corpus(["good.txt", "god.txt", "docs", "empty", "a.docx", "dcs/"])
    known = "known: .txt, .jsonl, .csv, .txt.gz, .jsonl.gz, .csv.gz, .parquet"
    assert str(caught.value).splitlines() == [
        "5 problems:",
        "  - god.txt: no such file or folder (did you mean 'good.txt'?)",
        f"  - docs: the folder holds only files of other kinds: .pdf ({known})",
        f"  - empty: the folder holds no files ({known})",
        f"  - a.docx: no reader for '.docx' files ({known})",
        "  - dcs: no such file or folder (did you mean 'docs'?)",
    ]
    with pytest.raises(InputError, match="no corpus was given"):
        read_corpus([])


def loads(monkeypatch: pytest.MonkeyPatch, rows: Any) -> list[tuple[str, dict[str, Any]]]:
    calls = []

    def load_dataset(name: str, **options: Any) -> Any:
        calls.append((name, options))
        if isinstance(rows, Exception):
            raise rows
        return rows

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return calls


def test_a_dataset_is_streamed_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = datasets.Dataset.from_dict({"body": ["one", "", "three"]}).to_iterable_dataset()
    calls = loads(monkeypatch, rows)
    documents = read_corpus(["owner/name"], text_field="body", split="test")
    assert calls == [("owner/name", {"split": "test", "streaming": True})]
    assert list(documents) == [Document("one", "owner/name[test]:1"), Document("three", "owner/name[test]:3")]
    assert "owner/name[train]:1: no field 'text'\n  -> name one with --text-field; valid: body" in refused("owner/name")


def test_a_dataset_that_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    loads(monkeypatch, ConnectionError("no network\nmore"))
    message = "no file or folder, and no dataset whose split 'train' can be read: no network"
    assert refused("owner/name") == f"owner/name: {message}\n  -> check the name, the split and the network"


def test_a_dataset_that_breaks_off(monkeypatch: pytest.MonkeyPatch) -> None:
    def rows() -> Iterator[dict[str, str]]:
        yield {"text": "one"}
        raise TimeoutError

    loads(monkeypatch, rows())
    documents = read_corpus(["name"])
    assert next(documents).text == "one"
    with pytest.raises(InputError, match="can be read: TimeoutError"):
        next(documents)


def test_characters_that_are_none_are_replaced(tmp_path: Path) -> None:
    source = written(tmp_path, "a.jsonl", b'{"text": "a\\ud800b \\ud83e\\uddc0 \\u0000"}')
    assert texts(source) == ["a\ufffdb \U0001f9c0 \ufffd"]
    assert texts(written(tmp_path, "a.txt", b"a\x00b")) == ["a\ufffdb"]
    assert texts(written(tmp_path, "a.csv", b"text\na\x00b\n")) == ["a\ufffdb"]


@pytest.mark.parametrize(
    ("name", "head", "tail"),
    [
        ("a.txt", "", ""),
        ("a.jsonl", '{"text": "', '"}'),
        ("a.csv", "text\n", ""),
    ],
)
def test_lines_of_ten_megabytes(tmp_path: Path, name: str, head: str, tail: str) -> None:
    (text,) = texts(written(tmp_path, name, head + "word " * 2_000_000 + "end" + tail))
    assert len(text) == 10_000_003


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv", "a.parquet"])
def test_memory_does_not_grow_with_the_corpus(tmp_path: Path, name: str) -> None:
    line = "A sentence of some length, to fill the file. " * 20
    rows = 20_000  # 18 MB
    if name == "a.parquet":
        source = parquet(tmp_path, text=[f"{n} {line}" for n in range(rows)])
    else:
        as_row = {"a.jsonl": json.dumps({"text": line}), "a.csv": f'"{line}"'}.get(name, line)
        source = written(tmp_path, name, ("text\n" if name == "a.csv" else "") + f"{as_row}\n" * rows)
    next(read_corpus([source]))  # imports are not counted
    tracemalloc.start()
    arrow = pa.total_allocated_bytes()
    count = most = 0
    for count, _ in enumerate(read_corpus([source]), 1):
        most = max(most, pa.total_allocated_bytes() - arrow) if count % 1000 == 0 else most
    peak = tracemalloc.get_traced_memory()[1] + most
    tracemalloc.stop()
    assert count == rows
    assert peak < 8_000_000


def test_medquad_is_read_whole() -> None:
    if not MEDQUAD.is_dir():
        pytest.skip("../shared/data is missing")
    source = MEDQUAD / "medquad.jsonl.gz"
    with gzip.open(source) as handle:
        lines = sum(1 for _ in handle)
    assert len(texts(str(source), text_field="question")) == lines > 10_000


LINES = st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\n\r")), max_size=8)


@given(lines=LINES)
def test_documents_come_back_as_they_were_written(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    folder = tmp_path_factory.mktemp("corpus")
    wanted = [line.strip() for line in lines if line.strip()]
    rows = "".join(json.dumps({"text": line}) + "\n" for line in lines)
    assert texts(written(folder, "a.jsonl", rows)) == wanted
    assert texts(written(folder, "apart.txt", "\ufeff" + "\n\n".join(lines))) == wanted
    joined = texts(written(folder, "b.txt", "\ufeff" + "\n".join(lines)))
    assert " ".join(joined).split() == " ".join(wanted).split()  # joining moves no word


@pytest.mark.parametrize("kind", list(CORPUS_READERS))
@given(content=st.binary() | st.text('{}[]":,\\nul text\n\r\t\x00PAR1').map(str.encode))
def test_arbitrary_bytes_give_documents_or_an_input_error(
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
    content: bytes,
) -> None:
    source = written(tmp_path_factory.mktemp("bytes"), f"a{kind}", content)
    try:
        assert all(document.text.strip() for document in read_corpus([source]))
    except InputError as error:
        assert source in str(error)


def test_a_mistyped_folder_is_not_taken_for_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "corpus").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.load_dataset", None)
    with pytest.raises(InputError, match="corpus"):
        read_corpus(["corpsu"])
