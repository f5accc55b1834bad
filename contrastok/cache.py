"""Arrays that are kept between runs: made once, read again, made anew when the file is broken."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from contrastok.errors import OutputError
from contrastok.files import atomic_file


def kept_arrays(path: Path, make: Callable[[], Mapping[str, np.ndarray]]) -> Mapping[str, np.ndarray]:
    """Arrays by name from an .npz file, or what `make` gives, which is then put there.

    A cache that cannot be written costs time, not the run.
    """
    if path.is_file():
        try:
            with np.load(path) as kept:
                return dict(kept)
        except (ValueError, OSError, EOFError, zipfile.BadZipFile):
            with contextlib.suppress(OSError):  # cut short by a crash of the machine
                path.unlink()
    arrays = make()
    with contextlib.suppress(OutputError), atomic_file(path) as partial, partial.open("wb") as handle:
        np.savez(handle, **arrays)  # type: ignore[arg-type]
    return arrays
