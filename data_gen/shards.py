"""Large files cut into shards, at places where the documents of the parts are those of the whole."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from contrastok.data_gen.corpus import Shard, goes_on
from contrastok.data_gen.text_files import kind_of, unreadable
from contrastok.data_gen.wordnet import data_files

SHARD = 64 * 2**20
"""Bytes of a shard, about. What is mined does not depend on the number of workers, for the shards do not."""

BLOCK = 2**20
"""Bytes read at a time while lines are counted."""

Cut = Callable[[bytes, bytes], bool]
"""Whether a file may be cut between two lines."""


def cut_shards(shards: Iterable[Shard], size: int | None = None) -> list[Shard]:
    """Cut what is large and can be cut: plain .txt and .jsonl between lines, .parquet between row groups.

    A plain file larger than a shard is read once for it, since a sentence's source names its line.

    Args:
        shards: whole sources, from `whole_shards`.
        size: bytes of a shard; `SHARD` by default.

    Raises:
        InputError: a file cannot be read.
    """
    wanted = SHARD if size is None else size
    return [part for shard in shards for part in _parts(shard, wanted)]


def fingerprint(shard: Shard) -> str | None:
    """What changes when the text does: names, sizes and times of files. None for a dataset: nobody knows."""
    path = shard.path
    if not path.exists():
        return None
    found = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in data_files(path) or [path]]
    return hashlib.sha256(repr((found, shard)).encode()).hexdigest()


def _parts(shard: Shard, size: int) -> Iterator[Shard]:
    path = shard.path
    divide = DIVIDED.get(kind_of(path)) if path.is_file() and path.stat().st_size > size else None
    if divide is None:
        yield shard
        return
    try:
        edges = [(0, 1), *divide(path, size)]
    except OSError as error:
        raise unreadable(path, error) from None
    stops = [at for at, _ in edges[1:]]
    for (start, first), stop in zip(edges, [*stops, None], strict=True):
        yield replace(shard, start=start, stop=stop, first=first)


def _between_lines(may_cut: Cut) -> Callable[[Path, int], Iterator[tuple[int, int]]]:
    def edges(path: Path, size: int) -> Iterator[tuple[int, int]]:
        """Byte and line number of each part but the first."""
        end = path.stat().st_size
        with path.open("rb") as handle:
            at, line = 0, 1
            while at + size < end:
                line += _count_lines(handle, size) + 2
                handle.readline()  # the rest of the line that the size cuts through
                before = handle.readline()
                while (after := handle.readline()) and not may_cut(before, after):
                    before, line = after, line + 1
                if not after:
                    return
                at = handle.tell() - len(after)
                handle.seek(at)
                yield at, line

    return edges


def _count_lines(handle: BinaryIO, size: int) -> int:
    """Line ends in the next bytes."""
    count = 0
    while size > 0 and (block := handle.read(min(size, BLOCK))):
        count += block.count(b"\n")
        size -= len(block)
    return count


def _text_ends(before: bytes, after: bytes) -> bool:
    line, following = (raw.decode("utf-8", "replace").strip() for raw in (before, after))
    return not (line and goes_on(line, following))


def _row_groups(path: Path, size: int) -> Iterator[tuple[int, int]]:
    """Row group and number of the first row of each part but the first."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        about = pq.read_metadata(path)
    except pa.ArrowException as error:
        raise unreadable(path, error) from None
    held, row = 0, 1
    for i in range(about.num_row_groups):
        group = about.row_group(i)
        if held and held + group.total_byte_size > size:
            yield i, row
            held = 0
        held += group.total_byte_size
        row += group.num_rows


DIVIDED: dict[str, Callable[[Path, int], Iterator[tuple[int, int]]]] = {
    ".txt": _between_lines(_text_ends),
    ".jsonl": _between_lines(lambda before, after: True),
    ".parquet": _row_groups,
}
"""How files of a kind are divided; kinds that are not here are read from their beginning."""
