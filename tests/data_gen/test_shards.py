from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contrastok.data_gen.corpus import Document, Shard, read_shard, whole_shards
from contrastok.data_gen.shards import cut_shards, fingerprint
from contrastok.errors import InputError

LINE = st.sampled_from(
    ["A line", "goes on", "and ends.", "“no”", "", "   ", "École", "élan", "中文", "\ufeff", "x" * 40]
)


def documents(*shards: Shard) -> list[Document]:
    return [document for shard in shards for document in read_shard(shard, "text", "train")]


def parts(path: Path, size: int) -> list[Shard]:
    return cut_shards(whole_shards([str(path)], "text", "train"), size)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(LINE, max_size=30), end=st.sampled_from(["\n", "\r\n"]), last=st.booleans(), size=st.integers(1, 60)
)
def test_parts_of_a_text_give_the_documents_of_the_whole(
    tmp_path: Path, lines: list[str], end: str, last: bool, size: int
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes((end.join(lines) + end * last).encode())
    assert documents(*parts(path, size)) == documents(Shard(str(path)))


def test_text_is_cut_where_it_can_be(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("A sentence of some length stands here.\n" * 40)
    assert len(parts(path, 200)) == 6 and len(parts(path, 10**6)) == 1
    path.write_text("no line of this has an end\n" * 40)  # each goes on in the next one, up to 10,000 characters
    assert len(parts(path, 200)) == 1


def test_parts_of_json_lines_and_of_parquet_give_the_documents_of_the_whole(tmp_path: Path) -> None:
    texts = [f"text {i}" if i % 3 else "" for i in range(50)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", row_group_size=7)
    for path in tmp_path.iterdir():
        found = parts(path, 100)
        assert len(found) > 3 and documents(*found) == documents(Shard(str(path))), path
        assert documents(*found)[-1].source.endswith(":50")


def test_what_cannot_be_cut_is_one_shard(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text\n"two\nlines"\n' * 20)
    assert parts(tmp_path / "a.csv", 10) == [Shard(str(tmp_path / "a.csv"))]


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 is how it begins")
    with pytest.raises(InputError, match=r"a\.parquet"):
        parts(tmp_path / "a.parquet", 5)


def test_a_fingerprint_tells_files_times_and_parts_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("One. Two.")
    whole = Shard(str(path))
    first = fingerprint(whole)
    assert first == fingerprint(Shard(str(path))) != fingerprint(Shard(str(path), start=3))
    os.utime(path, ns=(0, 0))
    assert fingerprint(whole) != first
    assert fingerprint(Shard("name-of-a-dataset")) is None
