"""Outputs that appear whole or not at all, and hashes of what is in them."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from contrastok.errors import OutputError


def check_output(path: Path, overwrite: bool) -> None:
    """Refuse to replace what exists unless told so, before any work is done.

    Raises:
        OutputError: when `path` exists and `overwrite` is false, or its parent cannot be written.
    """
    if path.exists() and not overwrite:
        raise OutputError("exists already", where=path, hint="choose another --out, or add --overwrite")
    parent = path.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise OutputError("cannot be written: its parent is no writable folder", where=path, hint=f"look at {parent}")


@contextlib.contextmanager
def translated_os_errors(path: Path) -> Iterator[None]:
    """Turn a full disk, a read-only folder and the like into an OutputError about `path`."""
    try:
        yield
    except Exception as error:
        # safetensors reports a failed write as an error of its own, without the OSError behind it
        if not isinstance(error, OSError) and "I/O error" not in str(error):
            raise
        raise OutputError(
            f"could not be written ({getattr(error, 'strerror', None) or error})",
            where=path,
            hint="free some space or choose another --out; nothing was left behind",
        ) from error


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is renamed to `path`, on failure removed."""
    with translated_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _clean_up_after_the_dead(path)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            yield partial
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new empty folder beside `path`; on success it takes the place of `path`, on failure it goes."""
    with translated_os_errors(path):
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        _clean_up_after_the_dead(path)
        partial = path.absolute().with_name(f".{path.name}.{os.getpid()}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir()
            yield partial
            replace_folder(partial, path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def replace_folder(new: Path, path: Path) -> None:
    """Move folder `new` to `path`; what stood at `path` is removed only after it was moved aside."""
    if not path.exists():
        os.rename(new, path)
        return
    old = path.absolute().with_name(f".{path.name}.{os.getpid()}.old")
    os.rename(path, old)
    os.rename(new, path)
    _remove(old)


def _clean_up_after_the_dead(path: Path) -> None:
    """Remove what runs that were killed left beside `path`, and put back what one of them had moved aside."""
    for left in path.absolute().parent.glob(f".{glob.escape(path.name)}.*.*"):
        pid, _, kind = left.name.removeprefix(f".{path.name}.").partition(".")
        if kind not in ("partial", "old") or not pid.isdigit() or _is_alive(int(pid)):
            continue
        if kind == "old" and not path.exists():
            os.rename(left, path)
        else:
            _remove(left)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def to_json(value: Any) -> str:
    """Indented JSON with a final newline; NaN is refused rather than written as what no parser reads."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
