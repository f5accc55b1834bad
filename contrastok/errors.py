"""Errors that say what is wrong, where, and what to do. The commands print them and exit with 2."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class ContrastokError(ValueError):
    """A problem the user can mend.

    Args:
        what: the problem in one sentence.
        where: the file, line or option it concerns.
        hint: what to do about it.
    """

    def __init__(self, what: str, *, where: object = None, hint: str = "") -> None:
        self.what, self.where, self.hint = what, where, hint
        super().__init__(what)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where is not None else ""
        return f"{place}{self.what}" + (f"\n  -> {self.hint}" if self.hint else "")


class ConfigError(ContrastokError):
    """Options that are missing, unknown or contradict each other."""


class InputError(ContrastokError):
    """A file of terms, text or pairs that cannot be used."""


class ModelError(ContrastokError):
    """A model or tokenizer that cannot be handled."""


class OutputError(ContrastokError):
    """A place that cannot be written."""


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """A hint with the closest valid name, or the list of valid names when nothing is close."""
    names = sorted(options)
    close = get_close_matches(name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else "valid: " + ", ".join(names)


def raise_all(kind: type[ContrastokError], problems: Sequence[str], hint: str = "") -> None:
    """Raise one error that lists every problem; do nothing when there is none."""
    if problems:
        text = (
            problems[0]
            if len(problems) == 1
            else "\n".join([f"{len(problems)} problems:", *(f"  - {problem}" for problem in problems)])
        )
        raise kind(text, hint=hint)
