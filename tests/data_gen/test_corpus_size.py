from __future__ import annotations

import gzip
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contrastok.data_gen.corpus_size import CorpusSize, corpus_size
from contrastok.errors import InputError

WORDS = ["cheese", "bread", "water", "salt", "milk", "a", "the", "of", "in", "with"]


def text(characters: int, seed: int = 0) -> str:
    draw = random.Random(seed)
    return " ".join(draw.choice(WORDS) for _ in range(characters // 4))[:characters]


def test_plain_files_are_as_large_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x" * 10)
    (tmp_path / "b.jsonl").write_text("y" * 5)
    assert corpus_size([str(tmp_path)], "text") == CorpusSize(2, 15, 15)
    with pytest.raises(InputError, match="no such file or folder"):
        corpus_size([str(tmp_path / "c.txt")], "text")


def test_gzip_is_judged_by_its_beginning(tmp_path: Path) -> None:
    for seed, characters in enumerate((2_000_000, 500_000)):
        (tmp_path / f"{seed}.txt.gz").write_bytes(gzip.compress(text(characters, seed).encode()))
    size = corpus_size([str(tmp_path)], "text")
    assert size.on_disk < 1_000_000 and size.unpacked == pytest.approx(2_500_000, rel=0.05)


def test_gzip_in_many_members(tmp_path: Path) -> None:
    members = [gzip.compress(text(10_000, seed).encode()) for seed in range(20)]
    (tmp_path / "a.txt.gz").write_bytes(b"".join(members))
    assert corpus_size([str(tmp_path)], "text").unpacked == pytest.approx(200_000, rel=0.05)


def test_of_parquet_the_column_counts(tmp_path: Path) -> None:
    rows = [text(1000, seed) for seed in range(200)]
    other = [text(3000, seed) for seed in range(200)]
    table = pa.table({"text": rows, "other": other})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd", row_group_size=50)
    size = corpus_size([str(tmp_path)], "text")
    assert size.on_disk < 400_000 and size.unpacked == pytest.approx(200_000, rel=0.05)
    assert corpus_size([str(tmp_path)], "other").unpacked == pytest.approx(600_000, rel=0.05)


def test_what_is_broken_counts_as_it_is(tmp_path: Path) -> None:
    for name in ("a.parquet", "a.txt.gz", "b.txt.gz"):
        (tmp_path / name).write_bytes(b"nonsense" if name != "a.txt.gz" else b"")
    assert corpus_size([str(tmp_path)], "text") == CorpusSize(3, 16, 16)


def test_nobody_tells_how_large_a_dataset_is(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x" * 10)
    assert corpus_size([str(tmp_path / "a.txt"), "owner/some-dataset"], "text") == CorpusSize(1, 10, None)
