"""Pairs made of the glossary alone, for terms that the corpus hardly knows."""

from __future__ import annotations

from collections.abc import Iterator

from contrastok.data_gen.evidence import Evidence
from contrastok.data_gen.pair_kinds.base import Pair, PairContext
from contrastok.data_gen.terms import Term

ABOUT = ("What is {}?", "This text is about {}.", "The word is {}.", "{}")
"""Frames that name a thing and say nothing about it, so that its meaning can come from the token only."""


class Template:
    """Frames around the term against its definition, its synonyms in the same frames, and its categories."""

    name = "template"

    def build(self, term: Term, evidence: Evidence, context: PairContext) -> Iterator[Pair]:
        """Pairs for a term with too few sentences, none for others."""
        if len(evidence.sentences) >= context.min_sentences:
            return
        for anchor, positive in dict.fromkeys(_frames(term, context)):
            if context.holds_token(anchor):
                yield Pair(term.token, anchor, positive, (), self.name, term.source or "glossary")


def _frames(term: Term, context: PairContext) -> Iterator[tuple[str, str]]:
    """Anchor and positive, both texts."""
    token = term.token
    if term.definition:
        yield f"{token} is {_inside(term.definition)}.", term.definition
        yield from ((frame.format(token), term.definition) for frame in ABOUT)
    for synonym in context.synonyms:
        yield from ((frame.format(token), frame.format(synonym)) for frame in ABOUT)
    for broader in context.broader:
        is_a = "{} is a kind of " + broader + "."
        yield from ((is_a.format(token), is_a.format(synonym)) for synonym in context.synonyms)
        yield is_a.format(token), term.definition or f"a kind of {broader}"


def _inside(definition: str) -> str:
    """A definition as it stands inside a sentence: no full stop, its leading article in lower case."""
    text = definition.rstrip(" .")
    first, space, rest = text.partition(" ")
    return first.lower() + space + rest if first in ("A", "An", "The") else text
