from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import datasets
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastok.data_gen import writer
from contrastok.data_gen.pair_kinds import Pair
from contrastok.data_gen.writer import SCHEMA, write_pairs

PAIRS = st.lists(
    st.builds(
        Pair,
        token=st.text(),
        anchor=st.text(),
        positive=st.text(),
        negatives=st.lists(st.text(), max_size=3).map(tuple),
        kind=st.text(),
        source=st.text(),
    ),
    max_size=8,
)
PAIR = Pair("brie", "we eat brie", "a cheese", ("a bread", "a wine"), "context-definition", "c.txt:1")


def read(path: Path) -> list[Pair]:
    return [Pair(**{**row, "negatives": tuple(row["negatives"])}) for row in pq.read_table(path).to_pylist()]


@given(pairs=PAIRS)
@settings(max_examples=40)
def test_what_is_written_is_read_again_and_the_bytes_are_the_same(pairs: list[Pair]) -> None:
    with TemporaryDirectory() as folder:
        one, two = Path(folder, "one.parquet"), Path(folder, "two.parquet")
        write_pairs(one, pairs)
        write_pairs(two, iter(pairs))
        assert read(one) == pairs
        assert one.read_bytes() == two.read_bytes()


def test_batches_keep_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "BATCH", 3)
    pairs = [Pair(f"t{i}", "a", "p", (), "k", "s") for i in range(8)]
    write_pairs(tmp_path / "p.parquet", pairs)
    assert pq.ParquetFile(tmp_path / "p.parquet").num_row_groups == 3
    assert read(tmp_path / "p.parquet") == pairs


def test_the_schema_is_there_even_without_pairs(tmp_path: Path) -> None:
    write_pairs(tmp_path / "p.parquet", [])
    assert pq.read_schema(tmp_path / "p.parquet").equals(SCHEMA)


def test_datasets_reads_the_file(tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.parquet", [PAIR, PAIR])
    table = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "pairs.parquet"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert table.column_names == ["token", "anchor", "positive", "negatives", "kind", "source"]
    assert table[1] == {
        "token": "brie", "anchor": "we eat brie", "positive": "a cheese", "negatives": ["a bread", "a wine"],
        "kind": "context-definition", "source": "c.txt:1",
    }  # fmt: skip
