"""One run at a time writes an output."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from contrastok.errors import OutputError


@contextlib.contextmanager
def only_run(path: Path) -> Iterator[None]:
    """Hold an output for as long as the context lasts, by a lock on `.NAME.lock` beside it.

    The lock is the operating system's: it ends with the process, however that ends, and a lock file that a killed run
    left is in nobody's way. Where no lock can be had, in a read-only folder or on a file system without locks, the run
    goes on without: `check_output` says what is wrong with the place, and outputs still appear whole or not at all.

    Args:
        path: the output; folders above it that are missing are made, and go again if they stay empty.

    Raises:
        OutputError: another run holds it.
    """
    from filelock import FileLock, Timeout

    real = path.resolve()
    file = real.with_name(f".{real.name}.lock") if real.name else real
    made = [folder for folder in real.parents if not folder.exists()]
    lock = FileLock(file, blocking=False)
    try:
        try:
            real.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            if file.exists():  # a place that takes no files at all ends here too
                hint = "wait until that has ended, or choose another --out"
                raise OutputError("another run is writing it", where=path, hint=hint) from None
        except (OSError, NotImplementedError):
            pass
        yield
    finally:
        if lock.is_locked:
            file.unlink(missing_ok=True)  # while it is held: whoever opened it before sees that it is gone
            lock.release()
        for folder in made:
            with contextlib.suppress(OSError):  # it is not empty: the output is in it
                folder.rmdir()
