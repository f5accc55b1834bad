"""Pairs and evidence on disk: Parquet files that `datasets`, and every trainer on top of it, reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from contrastok.data_gen.pair_kinds.base import Pair
from contrastok.evidence import WordEvidence

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

EVIDENCE_SCHEMA = pa.schema(
    [
        ("token", pa.string()),
        ("known", pa.bool_()),
        ("definition", pa.string()),
        ("synonyms", pa.list_(pa.string())),
        ("broader", pa.list_(pa.string())),
        ("sentences", pa.list_(pa.string())),
        ("per_million", pa.float64()),
    ]
)

BATCH = 16_384
"""Records in a row group, and in memory while writing."""


def write_pairs(path: Path, pairs: Iterable[Pair]) -> None:
    """Write pairs in the order given. The same pairs give the same bytes: the file holds no time and no path.

    Args:
        path: the file, which must not exist.
        pairs: consumed one batch at a time.
    """
    _write(path, SCHEMA, pairs)


def write_evidence(path: Path, words: Iterable[WordEvidence]) -> None:
    """Write what was found about each word, in the order given. The same evidence gives the same bytes.

    Args:
        path: the file, which must not exist.
        words: consumed one batch at a time.
    """
    _write(path, EVIDENCE_SCHEMA, words)


def _write(path: Path, schema: pa.Schema, records: Iterable[object]) -> None:
    """Write the attributes of records that the schema names, as columns."""
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in _batches(records):
            columns = [pa.array([getattr(record, field.name) for record in batch], field.type) for field in schema]
            writer.write_table(pa.table(columns, schema=schema))


def _batches(records: Iterable[object]) -> Iterator[list[object]]:
    remaining = iter(records)
    while batch := list(islice(remaining, BATCH)):
        yield batch
