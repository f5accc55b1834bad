"""Text, JSON lines and CSV, plain or gzip, line by line: UTF-8, or an error that says where it is not."""

from __future__ import annotations

import codecs
import csv
import gzip
import json
import os
import re
import shlex
import zlib
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from contrastok.errors import InputError

Record = dict[str, Any]
"""One JSON object or one CSV row by the names of its header."""

_NO_TEXT = re.compile("[\x00\ud800-\udfff]")
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_LONGEST_FIELD = 2**31 - 1  # characters; the csv module's own limit of 131,072 is less than a long document
_PROBLEMS_SHOWN = 20


def clean(text: str) -> str:
    """Replace what no encoder or file format takes, NUL and halves of surrogate pairs, by U+FFFD."""
    if text.isascii() and "\x00" not in text:  # nearly all text, told without a look at each character
        return text
    return _NO_TEXT.sub("\ufffd", text)


def kind_of(path: Path) -> str:
    """What decides the reader: the suffix in lower case, with the one before .gz ("a.TXT.gz": ".txt.gz")."""
    suffixes = Path(path.name.lower()).suffixes
    return "".join(suffixes[-2:] if suffixes[-1:] == [".gz"] else suffixes[-1:])


def lines(path: Path, start: int = 0, stop: int | None = None, first: int = 1) -> Iterator[tuple[int, str]]:
    """Yield each line with its number and with its line end; a byte-order mark is left out.

    Args:
        path: the file.
        start: byte at which a line starts; of a packed file only 0.
        stop: byte at which another one does; None reads to the end.
        first: number of the first line.

    Raises:
        InputError: the file is missing, unreadable, broken gzip, or not UTF-8 (names the line).
    """
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    try:
        with opener(path, "rb") as handle:
            handle.seek(start)
            at = start
            for number, raw in enumerate(handle, first):
                if at == stop:
                    return
                at += len(raw)
                yield number, _decode(raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw, path, number)
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, error) from None


def _decode(raw: bytes, path: Path, number: int) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        packed = path.name.lower().endswith(".gz")
        guess = "UTF-16" if number == 1 and raw.startswith(_UTF16_MARKS) else "WINDOWS-1252"
        name, iconv = shlex.quote(str(path)), f"iconv -f {guess} -t UTF-8"
        convert = f"gunzip -c {name} | {iconv}" if packed else f"{iconv} {name}"
        raise InputError(
            f"is not UTF-8 text (byte 0x{raw[error.start]:02x} at position {error.start + 1} of the line)",
            where=f"{path}:{number}",
            hint=f"convert it, for example: {convert} > converted{kind_of(path).removesuffix('.gz')}",
        ) from None


def json_records(
    path: Path, start: int = 0, stop: int | None = None, first: int = 1
) -> Iterator[tuple[str, Record | InputError]]:
    """Yield `file:line` and the JSON object of each line, or what is wrong with it, skipping blank lines.

    Args:
        path: the file.
        start, stop, first: which lines, see `lines`.
    """
    for number, line in lines(path, start, stop, first):
        if line.strip():
            where = f"{path}:{number}"
            yield where, _json_object(line, where)


def _json_object(line: str, where: str) -> Record | InputError:
    hint = "one JSON object a line"
    try:
        value = json.loads(line.rstrip())  # a line end would count as the start of another line
    except json.JSONDecodeError as error:
        return InputError(f"unreadable JSON at column {error.colno}: {error.msg}", where=where, hint=hint)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of brackets
        return InputError(f"unreadable JSON: {error}", where=where, hint=hint)
    if isinstance(value, dict):
        return value
    return InputError(f"expected a JSON object, not {json_kind(value)}", where=where, hint=hint)


def csv_records(path: Path) -> Iterator[tuple[str, Record | InputError]]:
    """Yield `file:line` and each row by the header's names, or what is wrong with it, skipping empty rows."""
    csv.field_size_limit(_LONGEST_FIELD)
    rows = csv.reader((line for _, line in lines(path)), strict=True)
    header: list[str] = []
    while True:
        where = f"{path}:{rows.line_num + 1}"
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:  # the reader has lost its place: what follows would be guesswork
            yield where, InputError(f"unreadable CSV: {error}", where=where, hint=_CSV_HINT)
            return
        if not any(field.strip() for field in row):
            continue
        if not header:
            header = [name.strip() for name in row]
            other = next((mark for mark in (";", "\t") if len(row) == 1 and mark in header[0]), "")
            if other:
                what = f"its fields seem to be separated by {'tabs' if other != ';' else repr(other)}, not by commas"
                yield where, InputError(what, where=where, hint="save it with the comma as separator")
                return
        elif len(row) > len(header):
            what = f"{len(row)} fields where the header has {len(header)}"
            yield where, InputError(what, where=where, hint=_CSV_HINT)
        else:
            yield where, dict(zip(header, row, strict=False))


_CSV_HINT = "a field with a comma, a quote or a line break stands in double quotes"


def json_kind(value: object) -> str:
    """How JSON names the type of a value, with its article."""
    names = {
        str: "text",
        bool: "true or false",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "an object",
        type(None): "null",
    }
    return names.get(type(value), type(value).__name__)


def missing(path: Path) -> InputError:
    """The error for a file or folder that is not there, with the closest name that is."""
    if path.is_symlink():
        hint = f"it points to {os.readlink(path)!r}: mend the link, or name another file"
        return InputError("is a link to nothing", where=path, hint=hint)
    folder = path.absolute().parent
    try:
        close = get_close_matches(path.name, [entry.name for entry in folder.iterdir()], n=1)
        near = f"did you mean {str(path.with_name(close[0]))!r}?" if close else ""
        hint = near or f"check the name; it was looked for in {str(folder)!r}"
    except OSError:
        hint = f"check the path; there is no folder {str(path.parent)!r} either"
    return InputError("no such file or folder", where=path, hint=hint)


def require(path: Path, option: str, takes: str) -> None:
    """Refuse a path that is not there, before anything is read.

    Args:
        path: what the user gave.
        option: that gave it, as it is written.
        takes: what it takes, in words.

    Raises:
        InputError: names the option.
    """
    if not path.exists():
        error = missing(path)
        hint = "; ".join(part for part in (error.hint, f"{option} takes {takes}") if part)
        raise InputError(error.what, where=f"{option} {path}", hint=hint)


def unreadable(path: Path, error: Exception) -> InputError:
    """The error for a file that cannot be opened or read to its end."""
    if isinstance(error, FileNotFoundError):
        return missing(path)
    denied = isinstance(error, PermissionError)
    hint = "ask for the right to read it" if denied else "see that it is whole, and of the kind that its name says"
    return InputError(f"cannot be read ({getattr(error, 'strerror', None) or error})", where=path, hint=hint)


def reader_for(path: Path, readers: dict[str, Callable[..., Any]]) -> Callable[..., Any]:
    """The entry of a registry of readers for this file.

    Raises:
        InputError: it is missing or a folder, or its suffix is not in the registry; lists those that are.
    """
    if not path.exists():
        raise missing(path)
    if path.is_dir():
        raise InputError("is a folder where a file is expected", where=path, hint="name a file in it")
    kind = kind_of(path)
    if kind in readers:
        return readers[kind]
    raise InputError(
        f"no reader for {kind!r} files" if kind else "no suffix that says what kind of file it is",
        where=path,
        hint=f"known: {', '.join(readers)}",
    )


def raise_problems(problems: Sequence[InputError]) -> None:
    """Raise the only problem as it is, or an error that lists the first 20; do nothing when there is none."""
    if len(problems) == 1:
        raise problems[0]
    shown = [f"{p.where}: {p.what}" + (f" ({p.hint})" if p.hint else "") for p in problems[:_PROBLEMS_SHOWN]]
    if len(problems) > len(shown):
        shown.append(f"... and {len(problems) - len(shown)} more")
    if problems:
        raise InputError("\n  - ".join([f"{len(problems)} problems:", *shown]))
