"""Files of terms, read into `Term` records; every problem of every file in one error."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from contrastok.data_gen.matcher import is_word_character
from contrastok.data_gen.obo import read_obo
from contrastok.data_gen.terms import Term
from contrastok.data_gen.text_files import (
    Record,
    clean,
    csv_records,
    json_kind,
    json_records,
    lines,
    raise_problems,
    reader_for,
)
from contrastok.data_gen.wordnet import WordNet
from contrastok.errors import InputError, did_you_mean

TermReader = Callable[[Path], Iterator[Term | InputError]]

LIST_FIELDS = ("synonyms", "broader", "related")
FIELDS = ("token", "definition", *LIST_FIELDS, "special")
_WRITTEN = {"": None, "true": True, "false": False}
"""How a CSV file says whether a token is special."""
_LIKE_TOKEN = ("word", "name", "term", "label", "lemma", "entry", "text", "title", "tokens")


class Glossary(Protocol):
    """Anything that can say what a word means."""

    def lookup(self, word: str) -> Term | None:
        """What it knows about a word, or None."""


class TermGlossary:
    """Terms found by their token, or else by one of their synonyms, whatever the case."""

    def __init__(self, terms: Iterable[Term]) -> None:
        self._by_token: dict[str, Term] = {}
        self._by_synonym: dict[str, Term] = {}
        for term in terms:
            self._by_token.setdefault(term.token.casefold(), term)
            for synonym in term.synonyms:
                self._by_synonym.setdefault(synonym.casefold(), term)

    def lookup(self, word: str) -> Term | None:
        """The entry for a word, with its other names as the synonyms."""
        key = word.casefold()
        entry = self._by_token.get(key) or self._by_synonym.get(key)
        if entry is None:
            return None
        names = [name for name in (entry.token, *entry.synonyms) if name.casefold() != key]
        return replace(entry, token=word, synonyms=tuple(names))


def read_terms(paths: Sequence[Path], glossary: Sequence[Path] = ()) -> list[Term]:
    """Read terms, join those of the same token, and look up what they lack.

    Args:
        paths: files of terms, each by its suffix: .jsonl, .csv (lists separated by "|"), .txt (a word a line,
            # starts a comment line) or .obo, plain or .gz.
        glossary: where an empty definition or list of a term is filled from, the first that has it: files
            like the above, or WordNet database folders.

    Returns:
        Terms in the order of their first appearance, one for each token.

    Raises:
        InputError: lists everything that is wrong in all files.
    """
    return read_glossaries(paths, glossary)[0]


def read_glossaries(paths: Sequence[Path], glossary: Sequence[Path]) -> tuple[list[Term], tuple[Glossary, ...]]:
    """As `read_terms`; also returns the glossaries, to look other words up."""
    if not paths:
        raise InputError("no file of terms was given", hint=f"known kinds: {', '.join(TERM_READERS)}")
    problems: list[InputError] = []
    terms = [term for path in paths for term in _read_file(path, problems)]
    glossaries = _opened(glossary, problems)
    raise_problems(problems)
    return [fill_term(term, glossaries) for term in _merged(terms)], glossaries


def open_glossaries(paths: Sequence[Path]) -> tuple[Glossary, ...]:
    """The glossaries of term files and WordNet folders, to look words up.

    Raises:
        InputError: lists everything that is wrong in all files.
    """
    problems: list[InputError] = []
    glossaries = _opened(paths, problems)
    raise_problems(problems)
    return glossaries


def _opened(paths: Sequence[Path], problems: list[InputError]) -> tuple[Glossary, ...]:
    return tuple(known for path in paths if (known := _open_glossary(path, problems)))


def _read_file(path: Path, problems: list[InputError]) -> list[Term]:
    terms: list[Term] = []
    known = len(problems)
    try:
        for found in reader_for(path, TERM_READERS)(path):
            (problems if isinstance(found, InputError) else terms).append(found)
        if not terms and len(problems) == known:
            raise InputError("holds no terms", where=path)
    except InputError as problem:
        problems.append(problem)
    return terms


def _open_glossary(path: Path, problems: list[InputError]) -> Glossary | None:
    if not path.is_dir():
        return TermGlossary(_merged(_read_file(path, problems)))
    try:
        return WordNet(path)
    except InputError as problem:
        problems.append(problem)
        return None


def _merged(terms: Iterable[Term]) -> list[Term]:
    """One term for each token: the first definition, and all names in order."""
    by_token: dict[str, Term] = {}
    for term in terms:
        first = by_token.setdefault(term.token, term)
        if first is not term:
            by_token[term.token] = replace(
                first,
                definition=first.definition or term.definition,
                synonyms=_unique(first.synonyms + term.synonyms),
                broader=_unique(first.broader + term.broader),
                related=_unique(first.related + term.related),
                special=first.special or term.special,
            )
    return list(by_token.values())


def fill_term(term: Term, glossaries: Sequence[Glossary]) -> Term:
    """The term with what it lacks from the first glossary that has it."""
    for known in glossaries:
        if term.definition and term.synonyms and term.broader and term.related:
            break
        if entry := known.lookup(term.token):
            term = replace(
                term,
                definition=term.definition or entry.definition,
                synonyms=term.synonyms or entry.synonyms,
                broader=term.broader or entry.broader,
                related=term.related or entry.related,
            )
    return term


def _read_jsonl(path: Path) -> Iterator[Term | InputError]:
    for where, record in json_records(path):
        yield from [record] if isinstance(record, InputError) else _parsed(record, where)


def _read_csv(path: Path) -> Iterator[Term | InputError]:
    for where, record in csv_records(path):
        if isinstance(record, InputError):
            yield record
        elif "token" in record:
            if misspelled := _misspelled(record, f"{path}:1"):  # the header's fault: once is enough
                yield from misspelled
                return
            lists = {name: record[name].split("|") for name in LIST_FIELDS if name in record}
            said = record.get("special", "").strip().casefold()
            yield from _parsed({**record, **lists, "special": _WRITTEN.get(said, said)}, where)
        else:  # the header's fault: once is enough
            yield _without_token(record, f"{path}:1", "a header without the column 'token'")
            return


def _read_words(path: Path) -> Iterator[Term | InputError]:
    for number, line in lines(path):
        if line.strip() and not line.lstrip().startswith("#"):
            yield from _parsed({"token": line}, f"{path}:{number}")


def _read_ontology(path: Path) -> Iterator[Term | InputError]:
    for found in read_obo(path):
        if isinstance(found, InputError):
            yield found
        else:
            yield replace(
                found,
                synonyms=_unique(found.synonyms, but=found.token),
                broader=_unique(found.broader),
                related=_unique(found.related, but=found.token),
            )


_PLAIN_READERS: dict[str, TermReader] = {
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
    ".txt": _read_words,
    ".obo": _read_ontology,
}
TERM_READERS: dict[str, TermReader] = {
    **_PLAIN_READERS,
    **{f"{kind}.gz": reader for kind, reader in _PLAIN_READERS.items()},
}


def _parsed(record: Record, where: str) -> Iterator[Term | InputError]:
    """The term of a record, or everything that is wrong with it. Fields that are not like a term's are ignored."""
    if "token" not in record:
        yield _without_token(record, where, "a term without text")
        return
    problems = _misspelled(record, where)
    problems += [
        InputError(f"{name}: expected {wanted}, not {found}", where=where)
        for name, wanted, found in _wrong_types(record)
    ]
    if isinstance(record["token"], str):
        token = _text(record["token"])
        if not token:
            problems.append(InputError("a term without text", where=where, hint="its token is empty"))
        elif "\ufffd" in token:
            problems.append(
                InputError(
                    f"the token {token!r} holds what is no character",
                    where=where,
                    hint="it was damaged by a wrong conversion of its encoding",
                )
            )
        elif record.get("special") is True and (is_word_character(token[0]) or is_word_character(token[-1])):
            problems.append(
                InputError(
                    f"the special token {token!r} begins or ends like a word, and would be found inside others",
                    where=where,
                    hint=f'put marks around it, as in "<|{token}|>"; or leave out "special"',
                )
            )
    if problems:
        yield from problems
        return
    synonyms, broader, related = (record.get(name) or () for name in LIST_FIELDS)
    yield Term(
        token,
        _text(record.get("definition") or ""),
        _unique(synonyms, but=token),
        _unique(broader),
        _unique(related, but=token),
        where,
        bool(record.get("special")),
    )


def _wrong_types(record: Record) -> Iterator[tuple[str, str, str]]:
    """Field, what it should be, what it is. Only the token may not be null."""
    for name in ("token", "definition"):
        value = record.get(name)
        if not isinstance(value, str) and (value is not None or name == "token"):
            yield name, "a string", json_kind(value)
    if not isinstance(special := record.get("special"), bool | None):
        yield "special", "true or false", json_kind(special)
    for name in LIST_FIELDS:
        value = record.get(name)
        if value is None:
            continue
        if not isinstance(value, list):
            yield name, "a list of strings", json_kind(value)
        elif odd := [item for item in value if not isinstance(item, str)]:
            yield name, "a list of strings", f"one with {json_kind(odd[0])} in it"


def _misspelled(record: Mapping[str, object], where: str) -> list[InputError]:
    """The fields that are nearly those of a term which the record lacks."""
    return [
        InputError(f"unknown field {name!r}", where=where, hint=did_you_mean(meant, FIELDS))
        for name in record
        if name not in FIELDS and (meant := _meant(name)) and meant not in record
    ]


@lru_cache
def _meant(name: str) -> str:
    """The field that a name is a misspelling of, or ""; one longer by two letters is a word of its own (specialty)."""
    like = name.strip().casefold()
    options = [field for field in FIELDS if abs(len(field) - len(like)) < 2]
    return next(iter(get_close_matches(like, options, n=1, cutoff=0.8)), "")


def _without_token(record: Mapping[str, object], where: str, what: str) -> InputError:
    names = {name.casefold(): name for name in record}
    close = [names[like] for like in _LIKE_TOKEN if like in names]
    close = close or [names[like] for like in get_close_matches("token", names, n=1)]
    hint = f"rename the field {close[0]!r} to 'token'" if close else "each term needs the field 'token'"
    return InputError(what, where=where, hint=hint)


def _text(value: str) -> str:
    return " ".join(clean(value).split())


def _unique(names: Iterable[str], but: str = "") -> tuple[str, ...]:
    """Names without the empty ones and repetitions, in order."""
    return tuple(name for name in dict.fromkeys(map(_text, names)) if name and name != but)
