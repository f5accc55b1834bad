"""Ontologies in the OBO format (owlcollab.github.io/oboformat/doc/GO.format.obo-1_4.html), clause by clause.

obonet reads the same files; this reader is here because obonet cuts quoted text at " !", gives up a whole
file for one bad clause, and cannot say on which line a problem stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from contrastok.data_gen.terms import Term
from contrastok.data_gen.text_files import clean, lines
from contrastok.errors import InputError

_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(\w*)')
_TRAILING = re.compile(r"(?: \{[^{}]*\})?(?: !.*)?$")  # {modifiers} and ! comment
_ESCAPE = re.compile(r"\\(.)")
_WHITESPACE = {"n": " ", "t": " ", "W": " "}


@dataclass
class _Stanza:
    """What is kept of one [Term] while its clauses are read."""

    line: int
    identifier: str = ""
    name: str = ""
    definition: str = ""
    exact: list[str] = field(default_factory=list)
    related: list[str] = field(default_factory=list)
    parents: list[str] = field(default_factory=list)
    obsolete: bool = False


def read_obo(path: Path) -> Iterator[Term | InputError]:
    """Yield each term that is not obsolete, or what is wrong with it.

    name becomes the token, def the definition, EXACT synonyms the synonyms, RELATED ones the related names,
    and the names of the is_a parents the broader ones. Terms that only stand in for another ontology's (an id
    and no name, definition or synonym) are left out. The stanzas are held in memory: a parent may come last.
    """
    stanzas: list[_Stanza] = []
    for found in _stanzas(path):
        if isinstance(found, InputError):
            yield found
        else:
            stanzas.append(found)
    names = {stanza.identifier: stanza.name for stanza in stanzas}
    for stanza in stanzas:
        where = f"{path}:{stanza.line}"
        if not stanza.identifier:
            yield InputError("a [Term] without an id", where=where)
        elif stanza.obsolete:
            continue
        elif stanza.name:
            broader = [names[parent] for parent in stanza.parents if names.get(parent)]
            yield Term(
                stanza.name,
                stanza.definition,
                synonyms=tuple(stanza.exact),
                broader=tuple(broader),
                related=tuple(stanza.related),
                source=where,
            )
        elif stanza.definition or stanza.exact or stanza.related:
            yield InputError(f"the term {stanza.identifier} has no name", where=where)


def _stanzas(path: Path) -> Iterator[_Stanza | InputError]:
    stanza: _Stanza | None = None
    for number, line in lines(path):
        text = " ".join(clean(line).split())
        if text.startswith("["):
            if stanza:
                yield stanza
            stanza = _Stanza(number) if text.startswith("[Term]") else None
        elif stanza and text and not text.startswith("!"):
            tag, _, value = text.partition(":")
            try:
                if tag in _CLAUSES:
                    _CLAUSES[tag](stanza, value.strip())
            except ValueError as error:
                what = f"{tag} of {stanza.identifier or 'a term'}: {error}"
                yield InputError(what, where=f"{path}:{number}")
    if stanza:
        yield stanza


def _identifier(stanza: _Stanza, value: str) -> None:
    stanza.identifier = _plain(value)


def _name(stanza: _Stanza, value: str) -> None:
    stanza.name = _plain(value)


def _definition(stanza: _Stanza, value: str) -> None:
    stanza.definition = _quoted(value)[0]


def _synonym(stanza: _Stanza, value: str) -> None:
    text, scope = _quoted(value)
    by_scope = {"EXACT": stanza.exact, "RELATED": stanza.related}
    names = by_scope.get(scope or "RELATED")  # the format's default
    if names is not None:
        names.append(text)


def _parent(stanza: _Stanza, value: str) -> None:
    stanza.parents.append(_plain(value))


def _obsolete(stanza: _Stanza, value: str) -> None:
    stanza.obsolete = _plain(value) == "true"


_CLAUSES: dict[str, Callable[[_Stanza, str], None]] = {
    "id": _identifier,
    "name": _name,
    "def": _definition,
    "synonym": _synonym,
    "is_a": _parent,
    "is_obsolete": _obsolete,
}


def _plain(value: str) -> str:
    return _unescaped(_TRAILING.sub("", value, count=1))


def _quoted(value: str) -> tuple[str, str]:
    """The text between the quotes, and the word after it (a synonym's scope)."""
    match = _QUOTED.match(value)
    if not match:
        raise ValueError(f"expected text in double quotes, not {value[:60]!r}")
    return _unescaped(match[1]), match[2]


def _unescaped(text: str) -> str:
    return " ".join(_ESCAPE.sub(lambda match: _WHITESPACE.get(match[1], match[1]), text).split())
