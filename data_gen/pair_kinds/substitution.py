"""Pairs whose positive is the anchor with other words in the place of the token."""

from __future__ import annotations

from collections.abc import Iterator

from contrastok.data_gen.evidence import Evidence
from contrastok.data_gen.pair_kinds.base import Pair, PairContext
from contrastok.data_gen.pair_kinds.grammar import head_phrase, substitute
from contrastok.data_gen.terms import Term


class ContextSubstitution:
    """A sentence, and the same with a synonym or the definition's head phrase for the term."""

    name = "context-substitution"

    def build(self, term: Term, evidence: Evidence, context: PairContext) -> Iterator[Pair]:
        """One pair for each sentence; the sentences take the substitutes in turn."""
        names = [*context.synonyms, *_head(term)]
        for i, sentence in enumerate(evidence.sentences if names else ()):
            positive = substitute(sentence.text, sentence.spans, names[i % len(names)])
            if positive != sentence.text:
                yield Pair(term.token, sentence.text, positive, (), self.name, sentence.source)


def _head(term: Term) -> list[str]:
    """The definition's head phrase, unless it says nothing but the term itself."""
    head = head_phrase(term.definition)
    return [head] if head and term.token.casefold() not in head.casefold() else []
