"""Pairs on disk: one Parquet file that `datasets`, and every trainer on top of it, reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from contrastok.data_gen.pair_kinds.base import Pair

SCHEMA = pa.schema(
    [
        ("token", pa.string()),
        ("anchor", pa.string()),
        ("positive", pa.string()),
        ("negatives", pa.list_(pa.string())),
        ("kind", pa.string()),
        ("source", pa.string()),
    ]
)

BATCH = 16_384
"""Pairs in a row group, and in memory while writing."""


def write_pairs(path: Path, pairs: Iterable[Pair]) -> None:
    """Write pairs in the order given. The same pairs give the same bytes: the file holds no time and no path.

    Args:
        path: the file, which must not exist.
        pairs: consumed one batch at a time.
    """
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        for batch in _batches(pairs):
            columns = [pa.array([getattr(pair, field.name) for pair in batch], field.type) for field in SCHEMA]
            writer.write_table(pa.table(columns, schema=SCHEMA))


def _batches(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    remaining = iter(pairs)
    while batch := list(islice(remaining, BATCH)):
        yield batch
