"""Pairs whose anchor is a sentence of the corpus, and whose positive is ready-made."""

from __future__ import annotations

from collections.abc import Iterator

from contrastok.data_gen.evidence import Evidence
from contrastok.data_gen.pair_kinds.base import Pair, PairContext
from contrastok.data_gen.terms import Term


class ContextDefinition:
    """A sentence and the definition: the token in use means what the glossary says."""

    name = "context-definition"

    def build(self, term: Term, evidence: Evidence, context: PairContext) -> Iterator[Pair]:
        """One pair for each sentence, none without a definition."""
        for sentence in evidence.sentences if term.definition else ():
            yield Pair(term.token, sentence.text, term.definition, (), self.name, sentence.source)


class ContextContext:
    """Two sentences of the same term: what they share is the token."""

    name = "context-context"

    def build(self, term: Term, evidence: Evidence, context: PairContext) -> Iterator[Pair]:
        """Each sentence with the next one; the seed decided their order."""
        sentences = evidence.sentences
        for sentence, other in zip(sentences, sentences[1:] + sentences[:1], strict=True):
            if sentence.text != other.text:
                yield Pair(term.token, sentence.text, other.text, (), self.name, sentence.source)


class CrossTokenisation:
    """A sentence and itself in the model's original tokens: the new token does not change what is understood."""

    name = "cross-tokenisation"

    def build(self, term: Term, evidence: Evidence, context: PairContext) -> Iterator[Pair]:
        """One pair for each sentence."""
        for sentence in evidence.sentences:
            yield Pair(term.token, sentence.text, sentence.text, (), self.name, sentence.source)
