"""What people see: rich tables and progress bars on standard error, JSON for scripts on request."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import rich.console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from contrastok.files import atomic_file, to_json
from contrastok.visible import LAYOUT, visible

T = TypeVar("T")


class Console:
    """All human output of a command. It goes to standard error, so that standard output stays for data.

    Args:
        quiet: say nothing. Errors are printed by the command line itself, not here.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.rich = _Terminal(stderr=True, quiet=quiet, highlight=False)
        if not self.rich.is_terminal and "COLUMNS" not in os.environ:
            self.rich.width = 120  # a log file has no width of its own, and 80 columns cut the tables

    def print(self, *renderables: Any) -> None:
        """Print rich renderables or markup."""
        self.rich.print(*renderables)

    def progress(self) -> Progress:
        """A progress display with the house columns; `task.fields["note"]` is free text at its end."""
        return Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.rich,
            disable=self.quiet or not self.rich.is_terminal,
            transient=True,
        )

    def track(self, items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        """Yield `items` behind a progress bar."""
        with self.progress() as progress:
            task = progress.add_task(description, total=total, note="")
            for item in items:
                yield item
                progress.advance(task)


class _Terminal(rich.console.Console):
    """A console on which terms and text of others steer nothing, in whatever they are shown."""

    def render_str(self, text: str, **options: Any) -> Text:
        """A string with markup as text to show; every cell and line that is a string comes through here."""
        return super().render_str(visible(text, keep=LAYOUT), **options)


def shown(text: str, style: str = "") -> Text:
    """Text of others as it stands, without markup, for a cell or a line."""
    return Text(visible(text, keep=LAYOUT), style)


def nothing_written(json: Path | None) -> str:
    """The last sentence of a dry run, which writes its summary where --json asks for a file."""
    return "Nothing was written." if json is None or str(json) == "-" else "Nothing but the summary was written."


def emit_json(summary: dict[str, Any], path: Path | None) -> None:
    """Write a command's summary as JSON: to a file (atomically), or to standard output for "-"."""
    if path is None:
        return
    if str(path) == "-":
        sys.stdout.write(to_json(summary))
        return
    with atomic_file(path) as partial:
        partial.write_text(to_json(summary), encoding="utf-8")


def hush_libraries() -> None:
    """Keep the loaders' own bars and advice off the terminal, in this process; their errors still come through."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if os.environ.get("WANDB_MODE") == "offline":  # this module says so on standard output, which is for data
        with redirect_stdout(None):
            import_module("transformers.integrations.integration_utils")
