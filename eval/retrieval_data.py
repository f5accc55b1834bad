"""What is searched: queries, passages, and which passages answer which query."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ahocorasick_rs
import numpy as np

from contrastok.data_gen.text_files import (
    Record,
    clean,
    csv_records,
    json_kind,
    json_records,
    raise_problems,
    reader_for,
)
from contrastok.errors import InputError, did_you_mean

Records = Iterator[tuple[str, Record | InputError]]

LEAST_WORDS = 4
"""A training text of fewer words is a name; that a passage holds it says nothing about where it comes from."""
DEFINING = ("context-definition", "isolated", "template")
"""Kinds of pairs whose positive is, or may be, the definition."""


@dataclass(frozen=True)
class Search:
    """Queries and the passages that answer them.

    Attributes:
        what: in words.
        queries: different texts, `[Q]`.
        passages: different texts, `[P]`.
        relevant: for each query the positions of its passages, at least one.
        note: what a reader of the figures should know; "" when there is nothing.
    """

    what: str
    queries: tuple[str, ...]
    passages: tuple[str, ...]
    relevant: tuple[tuple[int, ...], ...]
    note: str = ""

    def only(self, queries: Sequence[int]) -> Search:
        """The search with these queries alone, among all its passages."""
        return replace(
            self,
            queries=tuple(self.queries[q] for q in queries),
            relevant=tuple(self.relevant[q] for q in queries),
        )

    def and_queries(self, other: Search) -> Search:
        """The search with the queries of another one among the same passages behind its own."""
        return replace(self, queries=self.queries + other.queries, relevant=self.relevant + other.relevant)


def definitions(tokens: Sequence[Mapping[str, Any]]) -> Search:
    """Each token as a query for its definition among all definitions.

    Raises:
        InputError: no token has a definition.
    """
    pairs = [(token["token"], token["definition"]) for token in tokens if token["definition"]]
    if not pairs:
        raise InputError("no token has a definition to look for", hint="give --queries and --passages, or --pairs-file")
    seen = sum(any(map(token["evidence"]["pairs"].get, DEFINING)) for token in tokens if token["definition"])
    note = (
        f"{seen:,} of these {len(pairs):,} definitions stand in training pairs, so this shows what was learned by heart"
    )
    return replace(_search("the term alone -> its definition", pairs), note=note if seen else "")


def read_pairs_file(path: Path, query_field: str, passage_field: str) -> Search:
    """Queries with their passage from the records of one file; equal texts are one, blank ones are left out.

    Raises:
        InputError: lists everything that is wrong with the file.
    """
    problems: list[InputError] = []
    pairs = []
    for where, record in _records(path, PAIR_READERS, problems):
        query, passage = (_text(record, field, where, problems) for field in (query_field, passage_field))
        if query and passage:
            pairs.append((query, passage))
    raise_problems(problems)
    if not pairs:
        raise InputError(f"holds no record with both a {query_field} and a {passage_field}", where=path)
    return _search(f"{path.name}: {query_field} -> {passage_field}", pairs)


def read_search(queries: Path, passages: Path) -> Search:
    """Queries that name the ids of their passages, and the passages.

    Raises:
        InputError: lists everything that is wrong with the files.
    """
    problems: list[InputError] = []
    texts: dict[str, str] = {}
    for where, record in _records(passages, QUERY_READERS, problems):
        if name := _id(record, where, problems):
            if name in texts:
                problems.append(InputError(f"the id {name!r} stands there twice", where=where))
            texts[name] = _text(record, "text", where, problems)
    pairs = []
    for where, record in _records(queries, QUERY_READERS, problems):
        query = _text(record, "text", where, problems)
        for name in _relevant(record, where, problems):
            if name not in texts:
                problems.append(InputError(f"no passage has the id {name!r}", where=where))
            elif query and texts[name]:
                pairs.append((query, texts[name]))
    raise_problems(problems)
    if not pairs:
        raise InputError("holds no query with a relevant passage", where=queries)
    return _search(f"{queries.name} -> {passages.name}", pairs, tuple(text for text in texts.values() if text))


QUERY_READERS: dict[str, Callable[[Path], Records]] = {".jsonl": json_records, ".jsonl.gz": json_records}
PAIR_READERS: dict[str, Callable[[Path], Records]] = {**QUERY_READERS, ".csv": csv_records, ".csv.gz": csv_records}


def _search(what: str, pairs: Sequence[tuple[str, str]], passages: Sequence[str] = ()) -> Search:
    places = {text: at for at, text in enumerate(dict.fromkeys([*passages, *(passage for _, passage in pairs)]))}
    relevant: dict[str, dict[int, None]] = {}
    for query, passage in pairs:
        relevant.setdefault(query, {})[places[passage]] = None
    return Search(what, tuple(relevant), tuple(places), tuple(tuple(found) for found in relevant.values()))


def _records(
    path: Path, readers: dict[str, Callable[[Path], Records]], problems: list[InputError]
) -> Iterator[tuple[str, Record]]:
    for where, record in reader_for(path, readers)(path):
        if isinstance(record, InputError):
            problems.append(record)
        else:
            yield where, record


def _text(record: Record, field: str, where: str, problems: list[InputError]) -> str:
    """The text in a field, "" when it is blank or, which is a problem, no text."""
    if field not in record:
        problems.append(InputError(f"has no field {field!r}: {did_you_mean(field, record)}", where=where))
        return ""
    value = record[field]
    if value is not None and not isinstance(value, str):
        problems.append(InputError(f"{field}: expected text, not {json_kind(value)}", where=where))
        return ""
    return clean(value or "").strip()


def _id(record: Record, where: str, problems: list[InputError]) -> str:
    value = record.get("id")
    if isinstance(value, str | int) and not isinstance(value, bool) and str(value):
        return str(value)
    problems.append(InputError("needs an id, a text or a number", where=where))
    return ""


def _relevant(record: Record, where: str, problems: list[InputError]) -> list[str]:
    value = record.get("relevant")
    if isinstance(value, list) and all(isinstance(item, str | int) for item in value):
        return [str(item) for item in value]
    problems.append(InputError("needs a list 'relevant' with the ids of its passages", where=where))
    return []


def holding(texts: Sequence[str], training: Sequence[str]) -> list[bool]:
    """Whether each text holds one of the training texts of at least LEAST_WORDS words, by `_plain`."""
    patterns = {_plain(text) for text in training if len(text.split()) >= LEAST_WORDS}
    if not patterns:
        return [False] * len(texts)
    automaton = ahocorasick_rs.AhoCorasick(sorted(patterns))
    return [bool(automaton.find_matches_as_indexes(_plain(text))) for text in texts]


def _plain(text: str) -> str:
    """A form that is the same for texts that differ by case, white space and how accents are encoded."""
    folded = unicodedata.normalize("NFD", text).casefold()
    return " ".join(unicodedata.normalize("NFC", folded).split())


def sample(search: Search, limit: int, seed: int) -> Search:
    """At most `limit` queries, all their passages and at most `limit` others, drawn by seed; all when `limit` is 0."""
    if not limit:
        return search
    generator = np.random.default_rng(seed)
    queries = sorted(generator.permutation(len(search.queries))[:limit].tolist())
    right = {p for q in queries for p in search.relevant[q]}
    others = [p for p in generator.permutation(len(search.passages)).tolist() if p not in right][:limit]
    kept = sorted([*right, *others])
    places = {old: new for new, old in enumerate(kept)}
    return replace(
        search,
        queries=tuple(search.queries[q] for q in queries),
        passages=tuple(search.passages[p] for p in kept),
        relevant=tuple(tuple(places[p] for p in search.relevant[q]) for q in queries),
    )


def bystanders(search: Search, passages: Sequence[str], concerned: Collection[int], limit: int, seed: int) -> Search:
    """Queries that new tokens do not concern, among passages that are encoded anyway.

    Args:
        search: all queries.
        passages: those that compete. Queries with a relevant passage that is none of them are left out.
        concerned: positions of the queries that are no bystanders.
        limit: at most so many queries, drawn by seed; all when it is 0.
        seed: draws them.
    """
    places = {text: at for at, text in enumerate(passages)}
    found = [
        q
        for q, relevant in enumerate(search.relevant)
        if q not in concerned and all(search.passages[p] in places for p in relevant)
    ]
    drawn = sorted(np.random.default_rng(seed).permutation(found)[: limit or None].tolist())
    return replace(
        search,
        queries=tuple(search.queries[q] for q in drawn),
        passages=tuple(passages),
        relevant=tuple(tuple(places[search.passages[p]] for p in search.relevant[q]) for q in drawn),
    )
