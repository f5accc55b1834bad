"""What a check says, and the registry of checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from contrastok.doctor.case import Case

State = Literal["ok", "warning", "problem"]

SHOWN = 5
"""Examples named in a finding."""
LONGEST = 120
"""Characters of an example; a term or a text may be as long as a page."""


@dataclass(frozen=True)
class Finding:
    """One line of the checklist.

    Attributes:
        check: what was looked at.
        state: ok; warning, where training would go on but lose something; problem, where it would stop or be in vain.
        detail: what was found, in plain words.
        advice: what to do about it; "" where nothing needs to be done.
    """

    check: str
    state: State
    detail: str
    advice: str = ""


Check = Callable[["Case"], Iterator[Finding]]

CHECKS: dict[str, Check] = {}
"""Every check by its name, in the order in which they run."""


def check(name: str) -> Callable[[Check], Check]:
    """Register a check. A ContrastokError that it raises counts as a problem that it found."""

    def register(function: Check) -> Check:
        CHECKS[name] = function
        return function

    return register


def named(examples: Sequence[str]) -> str:
    """The first few of some things, for the end of a sentence; "" for none."""
    if not examples:
        return ""
    more = f" and {len(examples) - SHOWN:,} more" if len(examples) > SHOWN else ""
    return ": " + "; ".join(text[:LONGEST] for text in examples[:SHOWN]) + more
