"""How large a corpus is, unpacked: told by its first bytes and by footers, without reading it."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from contrastok.data_gen.corpus import corpus_files
from contrastok.data_gen.text_files import kind_of

GLANCE = 2**18
"""Packed bytes of a .gz file that are unpacked to see how much it packs."""

MOST = 2**24
"""Bytes that these may unpack to."""


@dataclass(frozen=True)
class CorpusSize:
    """Files and bytes.

    Attributes:
        files: of the corpus; a dataset has none.
        on_disk: their bytes, packed ones as they are.
        unpacked: their bytes when unpacked, about; None when a dataset is among the sources, whose size nobody tells.
    """

    files: int
    on_disk: int
    unpacked: int | None


def corpus_size(sources: Sequence[str], text_field: str) -> CorpusSize:
    """Count files and bytes.

    Args:
        sources: see `read_corpus`.
        text_field: see `read_corpus`; of Parquet only this column is counted.

    Raises:
        InputError: lists every source that cannot be a file, a folder or a dataset.
    """
    found = corpus_files(sources)
    files = [file for those in found for file in those]
    sizes = {file: file.stat().st_size for file in files}
    gzipped = [file for file in files if kind_of(file).endswith(".gz")]
    packs = _packs(file for file in gzipped if sizes[file])
    unpacked = {file: round(packs * sizes[file]) for file in gzipped}
    unpacked |= {file: _column(file, text_field) for file in files if kind_of(file) == ".parquet"}
    return CorpusSize(
        files=len(files),
        on_disk=sum(sizes[file] for file in files),
        unpacked=sum(unpacked.get(file, sizes[file]) for file in files) if all(found) else None,
    )


def _packs(files: Iterable[Path]) -> float:
    """How many bytes one byte of a .gz file holds, by the beginning of the first: all would take an opening each."""
    for file in files:
        try:
            with file.open("rb") as handle:
                packed = handle.read(GLANCE)
            unpack = zlib.decompressobj(zlib.MAX_WBITS | 16)  # with gzip's header
            plain = unpack.decompress(packed, MOST)
        except (OSError, zlib.error):  # told by whoever reads it
            return 1.0
        return len(plain) / max(1, len(packed) - len(unpack.unused_data) - len(unpack.unconsumed_tail))
    return 1.0


def _column(file: Path, text_field: str) -> int:
    """Bytes of a column of Parquet, unpacked, as its footer tells."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        footer = pq.read_metadata(file)
    except (pa.ArrowException, OSError):  # told by whoever reads it
        return file.stat().st_size
    groups = (footer.row_group(at) for at in range(footer.num_row_groups))
    columns = (group.column(at) for group in groups for at in range(group.num_columns))
    return sum(column.total_uncompressed_size for column in columns if column.path_in_schema == text_field)
