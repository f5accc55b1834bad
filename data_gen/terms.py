"""The record that every glossary format is read into."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Term:
    """A word to teach, and what a glossary says about it.

    Attributes:
        token: the word as it stands in text, stripped; never empty.
        definition: one sentence or phrase, or "" when there is none.
        synonyms: names that can stand in its place.
        broader: names of the categories it belongs to (is_a).
        related: other associated names.
        source: where it was read, as `file:line`, for error messages.
        special: whether it is a special token, a mark of a chat template say, and no word of a language.
    """

    token: str
    definition: str = ""
    synonyms: tuple[str, ...] = ()
    broader: tuple[str, ...] = ()
    related: tuple[str, ...] = ()
    source: str = ""
    special: bool = False
