"""Outputs that appear whole or not at all, and hashes of what is in them."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from contrastok.errors import InputError, OutputError


def check_json(path: Path | None, overwrite: bool, inputs: Sequence[Path] = ()) -> None:
    """`check_output` for the file of --json, where one was named; "-" is standard output.

    Raises:
        OutputError: says what is in the way.
    """
    if path is not None and str(path) != "-":
        check_output(path, overwrite, inputs=inputs, option="--json")


def check_output(
    path: Path,
    overwrite: bool,
    *,
    marker: str | None = None,
    inputs: Sequence[Path] = (),
    json: Path | None = None,
    option: str = "--out",
) -> None:
    """Refuse, before any work is done, an output that cannot be written or that would destroy something.

    Args:
        path: the output.
        overwrite: whether it may replace what exists.
        marker: a file that every folder of this kind holds; None when the output is a file. A folder without it
            is somebody else's and is never replaced.
        inputs: what the run reads; see `spare`.
        json: the summary's file.
        option: that gave the path; the hint names it.

    Raises:
        OutputError: says what is in the way.
    """
    check_json(json, overwrite, inputs)
    spare(path, inputs, option, may_be_new=marker is None)
    real = path.resolve()
    for other in (Path.cwd(), Path.home()):
        if other.resolve().is_relative_to(real):
            raise OutputError(
                f"would replace {other}, which is not an output", where=path, hint=f"choose another {option}"
            )
    if path.exists():
        if not overwrite:
            raise OutputError("exists already", where=path, hint=f"choose another {option}, or add --overwrite")
        if path.is_dir() and marker is None:
            raise OutputError("is a folder, and a file is to be written", where=path, hint="choose another name")
        if path.is_dir() and any(path.iterdir()) and not (path / str(marker)).is_file():
            raise OutputError(
                f"is a folder that contrastok did not write (it holds no {marker})",
                where=path,
                hint=f"--overwrite replaces earlier outputs only; choose another {option}",
            )
    parent = real.parent
    while not parent.exists():
        parent = parent.parent
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"cannot be written ({reason})", where=path, hint=f"look at {parent}") from error


PAGES = (".html", ".htm")
"""What a report is written to."""


def spare(path: Path, inputs: Sequence[Path], option: str, *, may_be_new: bool = True) -> None:
    """Refuse an output that would replace what the run reads, whatever --overwrite says.

    Args:
        path: the output.
        inputs: files and folders; the output must not be or hold one of them, nor replace what lies inside one.
        option: that gave the path; the hint names it.
        may_be_new: whether something that does not exist yet, or a page, which no run reads, may lie inside an input.

    Raises:
        OutputError: names the input.
    """
    places = (path.resolve(), path.absolute().parent.resolve() / path.name)  # a link itself would be replaced too
    unread = may_be_new and (not os.path.lexists(path) or all(place.suffix.lower() in PAGES for place in places))
    for other in inputs:
        kept = other.resolve()
        if any(kept.is_relative_to(place) for place in places):
            raise OutputError(
                f"would replace {other}, which this run reads", where=path, hint=f"choose another {option}"
            )
        if not unread and kept.is_dir() and any(place.is_relative_to(kept) for place in places):
            raise OutputError(
                f"lies inside {other}, which this run reads", where=path, hint=f"choose another {option} outside it"
            )


@contextlib.contextmanager
def translated_os_errors(path: Path) -> Iterator[None]:
    """Turn a full disk, a read-only folder and the like into an OutputError about `path`."""
    try:
        yield
    except Exception as error:
        # safetensors reports a failed write as an error of its own, without the OSError behind it
        if not isinstance(error, OSError) and "I/O error" not in str(error):
            raise
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or "os error" in str(error)
        raise OutputError(
            f"could not be written ({getattr(error, 'strerror', None) or error})",
            where=path,
            hint=("free some space or " if full else "") + "choose another place; nothing half-written was left",
        ) from error


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is renamed to `path`, on failure removed."""
    with translated_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _clean_up_after_the_dead(path)
        partial = _beside(path, "partial")
        try:
            yield partial
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """Yield a new empty folder beside `path`; on success it takes the place of `path`, on failure it goes.

    Raises:
        OutputError: it cannot be written; or, without `overwrite`, another run wrote `path` meanwhile.
    """
    with translated_os_errors(path):
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        _clean_up_after_the_dead(path)
        partial = _beside(path.absolute(), "partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir()
            yield partial
            if path.exists() and not overwrite:
                raise OutputError("was written by another run meanwhile", where=path, hint="look at it, or --overwrite")
            _open_to_all(partial)
            replace_folder(partial, path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def replace_folder(new: Path, path: Path) -> None:
    """Move folder `new` to `path`; what stood at `path` is removed only after it was moved aside."""
    if not path.exists():
        os.rename(new, path)
        return
    old = _beside(path.absolute(), "old")
    os.rename(path, old)
    os.rename(new, path)
    _remove(old)


def _beside(path: Path, kind: str) -> Path:
    """Where this process keeps something beside `path`; the name says whose it is."""
    return path.with_name(f".{path.name}.{_host()}.{os.getpid()}.{kind}")


def _host() -> str:
    """The name of this machine. On a shared disk, a process id alone says nothing of who is alive."""
    return re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:32] or "-"


def _clean_up_after_the_dead(path: Path) -> None:
    """Remove what runs that were killed left beside `path`, and put back what one of them had moved aside.

    Of runs of other machines nobody here knows whether they live: what is theirs is never removed. An output that one
    of them moved aside comes back if nothing stands in its place; a living run leaves that gap for a moment only.
    """
    for left in path.absolute().parent.glob(f".{glob.escape(path.name)}.*.*.*"):
        host, _, rest = left.name.removeprefix(f".{path.name}.").partition(".")
        pid, _, kind = rest.partition(".")
        if kind not in ("partial", "old") or not pid.isdigit() or (host == _host() and _is_alive(int(pid))):
            continue
        if kind == "old" and not path.exists():
            os.rename(left, path)
        elif host == _host():
            _remove(left)


def _open_to_all(folder: Path) -> None:
    """Give files the permissions that the user's umask asks for; some libraries write for the owner alone."""
    umask = os.umask(0)
    os.umask(umask)
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(0o666 & ~umask)


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


def sha256_path(path: Path) -> str:
    """SHA-256 of a file's bytes, or of the names and bytes of all files in a folder, hexadecimal.

    Raises:
        InputError: it cannot be read.
    """
    try:
        if not path.is_dir():
            return sha256_file(path)
        files = sorted(file for file in path.rglob("*") if file.is_file())
        told = [f"{file.relative_to(path).as_posix()}={sha256_file(file)}" for file in files]
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", where=path) from None
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
