"""Text of any supported kind as a stream of documents, in memory that does not grow with the corpus."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from contrastok.data_gen.text_files import (
    Record,
    clean,
    csv_records,
    json_kind,
    json_records,
    kind_of,
    lines,
    missing,
    raise_problems,
    reader_for,
    unreadable,
)
from contrastok.data_gen.wordnet import WordNet, data_files, is_database
from contrastok.errors import InputError, did_you_mean

_DATASET_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_SENTENCE_END = re.compile(r"""[.!?…。！？]["'”’»)\]]*$""")
_LONGEST_JOINED = 10_000  # characters; a word list without punctuation must not become one endless document
_ROWS_A_BATCH = 256
_BUFFER = 2**20  # bytes


@dataclass(frozen=True)
class Document:
    """A piece of text, never blank.

    Attributes:
        text: without NUL characters and lone surrogates.
        source: where it starts: `file:line`, or `file:row` (Parquet) and `name[split]:row` (datasets) from 1,
            or `file: byte n` (WordNet).
    """

    text: str
    source: str


@dataclass(frozen=True)
class Shard:
    """A piece of a corpus that is read on its own; the pieces of a file give the documents of the whole.

    Attributes:
        source: a file, a WordNet folder, or the name of a dataset.
        start: first byte of .txt and .jsonl, first row group of .parquet; all other kinds are read whole.
        stop: one past the last; None is the end.
        first: number of the first line or row.
    """

    source: str
    start: int = 0
    stop: int | None = None
    first: int = 1

    @property
    def path(self) -> Path:
        """The source as a path."""
        return Path(self.source)


CorpusReader = Callable[[Shard, str], Iterator[Document]]


def read_corpus(sources: Sequence[str], text_field: str = "text", split: str = "train") -> Iterator[Document]:
    """Stream the documents of files, folders and datasets, in the order given.

    Args:
        sources: .txt (a line is a document; hard-wrapped lines are joined), .jsonl and .csv, each also .gz,
            .parquet, a folder of those (sorted, hidden files left out), a WordNet folder (each gloss and each
            example is a document), or the name of a dataset of the Hugging Face `datasets` library.
        text_field: the field that holds the text in all kinds but .txt. Rows where it is empty are skipped.
        split: of a dataset.

    Returns:
        An iterator. All sources are looked up before this function returns, their content while iterating.

    Raises:
        InputError: lists every source that is no file, folder or dataset; or, while iterating, names the file
            and line that cannot be read.
    """
    shards = whole_shards(sources, text_field, split)
    return (document for shard in shards for document in read_shard(shard, text_field, split))


def whole_shards(sources: Sequence[str], text_field: str, split: str) -> list[Shard]:
    """Look all sources up: every file, WordNet folder and dataset as one piece. Nothing of their content is read.

    Raises:
        InputError: lists every source that is no file, folder or dataset.
    """
    problems: list[InputError] = []
    shards: list[Shard] = []
    for source in _checked(sources):
        try:
            shards += _whole(source, text_field, split)
        except InputError as problem:
            problems.append(problem)
    raise_problems(problems)
    return shards


def _whole(source: str, text_field: str, split: str) -> list[Shard]:
    if os.path.isdir(source) and is_database(Path(source)):
        return [Shard(source)]
    files = _files_of(source)
    if not files:
        _open_dataset(source, split)
    return [Shard(str(file)) for file in files] or [Shard(source)]


def read_shard(shard: Shard, text_field: str, split: str) -> Iterator[Document]:
    """Stream the documents of a piece of a corpus.

    Args:
        shard: from `whole_shards`, or a part of such a one.
        text_field: see `read_corpus`.
        split: see `read_corpus`.

    Raises:
        InputError: while iterating; names the file and line that cannot be read.
    """
    if os.path.isdir(shard.source):
        return _read_wordnet(shard.path)
    if os.path.exists(shard.source):
        return reader_for(shard.path, CORPUS_READERS)(shard, text_field)  # type: ignore[no-any-return]
    return _read_dataset(_open_dataset(shard.source, split), shard.source, text_field, split)


def describe_corpus(sources: Sequence[str]) -> tuple[int, int]:
    """Count files and their bytes on disk, without reading them; datasets count as nothing.

    Raises:
        InputError: lists every source that cannot be a file, a folder or a dataset.
    """
    files = [file for found in corpus_files(sources) for file in found]
    return len(files), sum(file.stat().st_size for file in files)


def corpus_files(sources: Sequence[str]) -> list[list[Path]]:
    """The files of each source; none of what can only be the name of a dataset.

    Raises:
        InputError: lists every source that cannot be a file, a folder or a dataset.
    """
    problems: list[InputError] = []
    files: list[list[Path]] = []
    for source in _checked(sources):
        try:
            files.append(_files_of(source))
        except InputError as problem:
            problems.append(problem)
    raise_problems(problems)
    return files


def empty_hint(sources: Sequence[str]) -> str:
    """What to do about a corpus without text: not all kinds have fields."""
    fielded = any(not files or any(kind_of(file) in _FIELDED for file in files) for files in corpus_files(sources))
    return "look at --corpus" + (" and --text-field" if fielded else ": what it names is empty")


def _checked(sources: Sequence[str]) -> Sequence[str]:
    if not sources:
        raise InputError("no corpus was given", hint="name a file, a folder or a dataset")
    return sources


def _files_of(source: str) -> list[Path]:
    """The files of a source that is on disk; none when it can only be the name of a dataset."""
    path = Path(source)
    if os.path.isdir(source):
        return data_files(path) or _files_in(path)
    if os.path.exists(source):
        reader_for(path, CORPUS_READERS)
        return [path]
    in_folder = "/" in source and path.parent.is_dir()
    mistyped = get_close_matches(source, os.listdir(), n=1, cutoff=0.8)  # before a hub is asked, which takes long
    if in_folder or mistyped or kind_of(path) in CORPUS_READERS or not _DATASET_NAME.fullmatch(source):
        raise missing(path)
    return []


def _files_in(folder: Path) -> list[Path]:
    found: list[Path] = []
    others: set[str] = set()
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in (Path(place, name) for name in names if not name.startswith(".")):
            if kind_of(file) in CORPUS_READERS and file.is_file():
                found.append(file)
            else:
                others.add(kind_of(file) or file.name)
    if found:
        return sorted(found)
    what = f"only files of other kinds: {', '.join(sorted(others)[:10])}" if others else "no files"
    raise InputError(f"the folder holds {what}", where=folder, hint=f"known: {', '.join(CORPUS_READERS)}")


def _read_txt(shard: Shard, text_field: str) -> Iterator[Document]:
    name, parts = str(shard.path), list[str]()
    start = length = 0
    for number, line in lines(shard.path, shard.start, shard.stop, shard.first):
        text = clean(line).strip()
        wrapped = parts and goes_on(parts[-1], text)
        if parts and not (wrapped and length + len(text) <= _LONGEST_JOINED):
            yield Document(" ".join(parts), f"{name}:{start}")
            parts, length = [], 0
        if text:
            start = start if parts else number
            parts.append(text)
            length += len(text) + 1
    if parts:
        yield Document(" ".join(parts), f"{name}:{start}")


def goes_on(line: str, following: str) -> bool:
    """Whether a line of text goes on in the next one, both stripped: that starts small, and nothing has ended."""
    return following[:1].islower() and not _SENTENCE_END.search(line[-20:])


def _read_jsonl(shard: Shard, text_field: str) -> Iterator[Document]:
    yield from _documents(json_records(shard.path, shard.start, shard.stop, shard.first), text_field)


def _read_csv(shard: Shard, text_field: str) -> Iterator[Document]:
    yield from _documents(csv_records(shard.path), text_field)


def _read_parquet(shard: Shard, text_field: str) -> Iterator[Document]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = shard.path
    try:
        # these two read a row group piece by piece instead of whole
        with pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False) as table:
            if text_field not in table.schema_arrow.names:
                raise _without_field(text_field, table.schema_arrow.names, str(path))
            groups = range(table.num_row_groups)[shard.start : shard.stop]
            number = shard.first
            for batch in table.iter_batches(batch_size=_ROWS_A_BATCH, columns=[text_field], row_groups=groups):
                values = batch.column(text_field).to_pylist()
                records = ((f"{path}:{row}", {text_field: value}) for row, value in enumerate(values, number))
                yield from _documents(records, text_field)
                number += len(values)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from None


_TEXT_READERS: dict[str, CorpusReader] = {".txt": _read_txt, ".jsonl": _read_jsonl, ".csv": _read_csv}
CORPUS_READERS: dict[str, CorpusReader] = {
    **_TEXT_READERS,
    **{f"{kind}.gz": reader for kind, reader in _TEXT_READERS.items()},
    ".parquet": _read_parquet,
}


_FIELDED = CORPUS_READERS.keys() - {".txt", ".txt.gz"}


def _open_dataset(name: str, split: str) -> Any:
    """Look up a dataset by its name; nothing but its description is read yet."""
    import datasets

    try:
        return datasets.load_dataset(name, split=split, streaming=True)
    except Exception as error:  # the library, its network and its file readers raise what they like
        raise _no_dataset(name, split, error) from None


def _read_dataset(rows: Any, name: str, text_field: str, split: str) -> Iterator[Document]:
    iterator = iter(rows)
    number = 0
    while True:
        number += 1
        try:
            row = next(iterator)
        except StopIteration:
            return
        except Exception as error:
            raise _no_dataset(name, split, error) from None
        yield from _documents([(f"{name}[{split}]:{number}", row)], text_field)


def _read_wordnet(folder: Path) -> Iterator[Document]:
    for place, synset in WordNet(folder).placed_synsets():
        yield from (Document(text, place) for text in map(clean, synset.texts) if text.strip())


def _documents(records: Iterable[tuple[str, Record | InputError]], text_field: str) -> Iterator[Document]:
    for where, record in records:
        if isinstance(record, InputError):
            raise record
        if text_field not in record:
            raise _without_field(text_field, record, where)
        value = record[text_field]
        if value is not None and not isinstance(value, str):
            raise InputError(
                f"the field {text_field!r} is {json_kind(value)}, not text",
                where=where,
                hint="name the field that holds the text with --text-field",
            )
        if value and (text := clean(value).strip()):
            yield Document(text, where)


def _without_field(text_field: str, names: Iterable[str], where: str) -> InputError:
    return InputError(
        f"no field {text_field!r}", where=where, hint=f"name one with --text-field; {did_you_mean(text_field, names)}"
    )


def _no_dataset(name: str, split: str, error: Exception) -> InputError:
    reason = next(iter(str(error).splitlines()), "") or type(error).__name__
    close = get_close_matches(name, [entry.name for entry in Path().iterdir()], n=1)
    hint = f"did you mean {close[0]!r}?" if close else "check the name, the split and the network"
    return InputError(
        f"no file or folder, and no dataset whose split {split!r} can be read: {reason}", where=name, hint=hint
    )
