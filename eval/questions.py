"""What is asked of each new token: the names that a glossary relates to it, and which of them may count.

Neighbours can be had by cheating: a row copied from a synonym has that synonym beside it. So a related word counts
only if it stands, as a whole word, in none of the token's training texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from contrastok.checkpoint import Checkpoint
from contrastok.data_gen.fold import Fold
from contrastok.data_gen.relations import Relation, without_leaks
from contrastok.data_gen.term_readers import Glossary, TermGlossary, fill_term, read_terms
from contrastok.data_gen.terms import Term
from contrastok.data_gen.wordnet import WordNet

PREFIX = 6
"""A synonym one of whose words starts with as many letters of the token is found by its spelling: it is not hard."""
SIBLING = "sibling"
"""Kind of a name that shares a category with the token."""


@dataclass(frozen=True)
class Answer:
    """A name that a glossary relates to a token.

    Attributes:
        name: as the glossary writes it.
        kind: synonym, broader, related or sibling.
        hard: whether no word of it begins like the token.
        counts: whether the token's training texts do not hold it.
    """

    name: str
    kind: str
    hard: bool
    counts: bool


@dataclass(frozen=True)
class Question:
    """A token and what it should lie near."""

    token: str
    answers: tuple[Answer, ...]


KINDS: dict[str, Callable[[Answer], bool]] = {
    "all": lambda answer: answer.kind != SIBLING,
    "synonym": lambda answer: answer.kind == "synonym",
    "hard synonym": lambda answer: answer.kind == "synonym" and answer.hard,
    "broader": lambda answer: answer.kind == "broader",
    "broader or sibling": lambda answer: answer.kind in ("broader", SIBLING),
    "related": lambda answer: answer.kind == "related",
}
"""Which answers a figure is about."""


@dataclass(frozen=True)
class Names:
    """The names of a glossary, each once under its folded form.

    Attributes:
        names: folded form -> the name.
        heads: folded forms of the names under which a glossary's entries stand; none when relations came from the
            manifest or from a glossary that is only looked up.
    """

    names: Mapping[str, str]
    heads: frozenset[str]


def ask(
    checkpoint: Checkpoint, glossary: Sequence[Path], shown: Mapping[str, Sequence[str]], fold: Fold
) -> tuple[list[Question], Names]:
    """The questions, one a token in the order of their rows, and the names that may be answers.

    Args:
        checkpoint: the trained model.
        glossary: term files or WordNet folders; without any the held-out relations of the manifest are asked for.
        shown: the training texts of each token.
        fold: of the base tokenizer.
    """
    tokens = sorted(checkpoint.manifest["tokens"], key=lambda token: token["row"])
    entries: list[Term] = []
    if glossary:
        files = [path for path in glossary if not path.is_dir()]
        entries = read_terms(files) if files else []
        sources: list[Glossary] = [TermGlossary(entries), *(WordNet(path) for path in glossary if path.is_dir())]
        members = _members(entries, fold)
        related = [_of_glossary(fill_term(Term(t["token"]), sources), members, fold) for t in tokens]
    else:
        related = [[Relation(r["name"], r["kind"], bool(r["held_out"])) for r in t["relations"]] for t in tokens]
    questions = [
        Question(
            token["token"],
            tuple(
                Answer(r.name, r.kind, is_hard(token["token"], r.name, fold), r.held_out)
                for r in without_leaks(relations, shown.get(token["token"], ()), fold)
            ),
        )
        for token, relations in zip(tokens, related, strict=True)
    ]
    return questions, _names(questions, entries, fold)


def is_hard(token: str, name: str, fold: Fold) -> bool:
    """Whether no word of a name begins with the token's first letters."""
    start_of = fold.key(token)[:PREFIX]
    return not any(word.startswith(start_of) for word in fold.key(name).replace("-", " ").split())


def _members(entries: Iterable[Term], fold: Fold) -> dict[str, list[str]]:
    """The names of each category."""
    members: dict[str, list[str]] = {}
    for entry in entries:
        for category in entry.broader:
            members.setdefault(fold.key(category), []).append(entry.token)
    return members


def _of_glossary(term: Term, members: Mapping[str, Sequence[str]], fold: Fold) -> list[Relation]:
    """All names that a glossary relates to a term, to be held against its training texts; each once."""
    siblings = [name for category in term.broader for name in members.get(fold.key(category), ())]
    known = {fold.key(term.token)}
    relations = []
    kinds = (("synonym", term.synonyms), ("broader", term.broader), ("related", term.related), (SIBLING, siblings))
    for kind, names in kinds:
        for name in names:
            if fold.key(name) not in known:
                known.add(fold.key(name))
                relations.append(Relation(name, kind, True))
    return relations


def _names(questions: Sequence[Question], entries: Sequence[Term], fold: Fold) -> Names:
    own = [name for question in questions for name in (question.token, *(answer.name for answer in question.answers))]
    heads = [entry.token for entry in entries]
    others = [name for entry in entries for name in (*entry.synonyms, *entry.broader, *entry.related)]
    names = {fold.key(name): name for name in reversed([*heads, *others, *own])}
    return Names(names, frozenset(map(fold.key, heads)))
