"""Text of any supported kind as a stream of documents, in memory that does not grow with the corpus."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
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


Stream = Callable[[], Iterator[Document]]
CorpusReader = Callable[[Path, str], Iterator[Document]]


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
    problems: list[InputError] = []
    streams: list[Stream] = []
    for source in _checked(sources):
        try:
            streams += _streams_of(source, text_field, split)
        except InputError as problem:
            problems.append(problem)
    raise_problems(problems)
    return (document for stream in streams for document in stream())


def _streams_of(source: str, text_field: str, split: str) -> list[Stream]:
    if os.path.isdir(source) and is_database(Path(source)):
        return [partial(_read_wordnet, Path(source))]
    if files := _files_of(source):
        return [partial(reader_for(file, CORPUS_READERS), file, text_field) for file in files]
    return [_open_dataset(source, text_field, split)]


def describe_corpus(sources: Sequence[str]) -> tuple[int, int]:
    """Count files and their bytes on disk, without reading them; datasets count as nothing.

    Raises:
        InputError: lists every source that cannot be a file, a folder or a dataset.
    """
    problems: list[InputError] = []
    files: list[Path] = []
    for source in _checked(sources):
        try:
            files += _files_of(source)
        except InputError as problem:
            problems.append(problem)
    raise_problems(problems)
    return len(files), sum(file.stat().st_size for file in files)


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


def _read_txt(path: Path, text_field: str) -> Iterator[Document]:
    parts: list[str] = []
    start = length = 0
    for number, line in lines(path):
        text = clean(line).strip()
        wrapped = parts and text[:1].islower() and not _SENTENCE_END.search(parts[-1][-20:])
        if parts and not (wrapped and length + len(text) <= _LONGEST_JOINED):
            yield Document(" ".join(parts), f"{path}:{start}")
            parts, length = [], 0
        if text:
            start = start if parts else number
            parts.append(text)
            length += len(text) + 1
    if parts:
        yield Document(" ".join(parts), f"{path}:{start}")


def _read_jsonl(path: Path, text_field: str) -> Iterator[Document]:
    yield from _documents(json_records(path), text_field)


def _read_csv(path: Path, text_field: str) -> Iterator[Document]:
    yield from _documents(csv_records(path), text_field)


def _read_parquet(path: Path, text_field: str) -> Iterator[Document]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # these two read a row group piece by piece instead of whole
        with pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False) as table:
            if text_field not in table.schema_arrow.names:
                raise _without_field(text_field, table.schema_arrow.names, str(path))
            number = 0
            for batch in table.iter_batches(batch_size=_ROWS_A_BATCH, columns=[text_field]):
                for value in batch.column(text_field):
                    number += 1
                    where = f"{path}:{number}"
                    yield from _documents([(where, {text_field: value.as_py()})], text_field)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from None


_TEXT_READERS: dict[str, CorpusReader] = {".txt": _read_txt, ".jsonl": _read_jsonl, ".csv": _read_csv}
CORPUS_READERS: dict[str, CorpusReader] = {
    **_TEXT_READERS,
    **{f"{kind}.gz": reader for kind, reader in _TEXT_READERS.items()},
    ".parquet": _read_parquet,
}


def _open_dataset(name: str, text_field: str, split: str) -> Stream:
    """Look up a dataset by its name; nothing but its description is read yet."""
    import datasets

    try:
        rows = datasets.load_dataset(name, split=split, streaming=True)
    except Exception as error:  # the library, its network and its file readers raise what they like
        raise _no_dataset(name, split, error) from None
    return partial(_read_dataset, rows, name, text_field, split)


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
