"""Pairs whose anchor is the term alone: what the token means where no sentence helps."""

from __future__ import annotations

from collections.abc import Iterator

from contrastok.data_gen.evidence import Evidence
from contrastok.data_gen.pair_kinds.base import Pair, PairContext
from contrastok.data_gen.terms import Term


class Isolated:
    """The term alone against its definition, its synonyms and its categories.

    A search query is often a single word, and the report reads a token's neighbours from the token alone.
    """

    name = "isolated"

    def build(self, term: Term, evidence: Evidence, context: PairContext) -> Iterator[Pair]:
        """One pair for each thing that the glossary says, as far as it is not held out."""
        said = (term.definition, *context.synonyms, *context.broader)
        for positive in dict.fromkeys(text for text in said if text):
            if positive != term.token and context.holds_token(term.token):
                yield Pair(term.token, term.token, positive, (), self.name, term.source or "glossary")
