"""Arrays that are kept between runs: made once, read again, made anew when the file is damaged."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from contrastok.errors import OutputError
from contrastok.files import atomic_file

DIGEST = hashlib.sha256().digest_size


def kept_arrays(path: Path, make: Callable[[], Mapping[str, np.ndarray]]) -> Mapping[str, np.ndarray]:
    """Arrays by name from a file, or what `make` gives, which is then put there.

    The file is an .npz behind its own SHA-256. An .npz has checksums of its arrays, but none of their names and sizes:
    damage there loses an array, or raises errors of many kinds. A cache that cannot be written costs time, not the run.
    """
    if path.is_file():
        with contextlib.suppress(OSError):
            content = path.read_bytes()
            if hashlib.sha256(content[DIGEST:]).digest() == content[:DIGEST]:
                with np.load(io.BytesIO(content[DIGEST:])) as kept:
                    return dict(kept)
            path.unlink()  # cut short by a crash of the machine, or changed
    arrays = make()
    with contextlib.suppress(OutputError), atomic_file(path) as partial:
        sink = io.BytesIO()
        np.savez(sink, **arrays)  # type: ignore[arg-type]
        partial.write_bytes(hashlib.sha256(sink.getvalue()).digest() + sink.getvalue())
    return arrays
