"""Sentences that hold the terms, from a stream of documents of any length."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from contrastok.data_gen.fold import Fold
from contrastok.data_gen.matcher import Match, TermMatcher
from contrastok.data_gen.reservoir import BottomK, keyed_hash
from contrastok.data_gen.sentences import Span, blocks, split_sentences, window

TOO_SHORT, NOT_ENCODED, DUPLICATE = "too short", "not encoded as the token", "duplicate"

Confirm = Callable[[Sequence[str], int], list[bool]]
"""Given texts and the index of a term: whether the extended tokenizer gives each text that term's id."""


class SourcedText(Protocol):
    """What is mined: a text and where it comes from."""

    @property
    def text(self) -> str:
        """The text of the document."""

    @property
    def source(self) -> str:
        """Where it stands, for people to look it up."""


@dataclass(frozen=True, order=True, slots=True)
class Sentence:
    """A sentence, or a window of a long one, that holds a term.

    Attributes:
        text: single spaces between words.
        spans: character spans of the term's occurrences, from left to right; at least one.
        source: the document it comes from.
    """

    text: str
    spans: tuple[Span, ...]
    source: str


@dataclass(frozen=True)
class Evidence:
    """What a corpus says about one term.

    Attributes:
        found: different sentences with the term, before the cap; those are not counted that the tokenizer refused.
        sentences: those kept, in an order that the seed decides.
    """

    found: int = 0
    sentences: tuple[Sentence, ...] = ()


@dataclass(frozen=True)
class Mined:
    """The outcome of a pass over a corpus.

    Attributes:
        evidence: one entry for each term, in the order of the terms.
        documents: documents read.
        characters: their length in all.
        sentences: sentences in which a term was matched.
        dropped: occurrences (a sentence and a term) left out, by reason.
    """

    evidence: Mapping[str, Evidence]
    documents: int
    characters: int
    sentences: int
    dropped: Mapping[str, int]


@dataclass(frozen=True)
class MiningOptions:
    """How many and which sentences to keep; the fields are those of `GenPairsConfig`."""

    seed: int = 0
    max_sentences: int = 32
    min_words: int = 4
    max_words: int = 80


def mine(
    documents: Iterable[SourcedText],
    terms: Sequence[str],
    matcher: TermMatcher,
    confirm: Confirm,
    options: MiningOptions,
    also: Callable[[str], None] | None = None,
) -> Mined:
    """Read every document once and keep a sample of sentences for each term.

    The result does not depend on the order of the documents: the sample is the bottom-k by hash, and of
    near duplicates (equal but for case, digits and punctuation) the smallest text stands for all.

    Args:
        documents: the corpus, streamed; memory grows with the number of different sentences found (a 64-bit hash
            for each) and with the sentences kept.
        terms: the terms of `matcher`, in its order.
        matcher: finds them.
        confirm: asks the tokenizer whether a match really becomes the token.
        options: limits and seed.
        also: is told every block of the corpus, whether a term is in it or not.
    """
    miner = _Miner(terms, matcher, confirm, options)
    for document in documents:
        miner.read(document, also)
    return miner.finish()


def gist(text: str, fold: Fold) -> str:
    """What near duplicates share: the folded text without digits and punctuation."""
    return re.sub(r"[\W\d_]+", " ", fold.key(text))


class _Miner:
    """The counters and samples of one pass."""

    def __init__(self, terms: Sequence[str], matcher: TermMatcher, confirm: Confirm, options: MiningOptions) -> None:
        self.terms, self.matcher, self.confirm, self.options = terms, matcher, confirm, options
        self.samples: list[BottomK[Sentence]] = [BottomK(options.max_sentences) for _ in terms]
        self.seen: list[set[int]] = [set() for _ in terms]
        self.documents = self.characters = self.sentences = 0
        self.dropped = Counter({TOO_SHORT: 0, NOT_ENCODED: 0, DUPLICATE: 0})

    def read(self, document: SourcedText, also: Callable[[str], None] | None) -> None:
        self.documents += 1
        self.characters += len(document.text)
        # The tokenizer's normaliser composes characters across positions, the fold of the matcher does not.
        for block in blocks(unicodedata.normalize("NFC", document.text)):
            if also is not None:
                also(block)
            if self.matcher.holds(block):  # splitting every block into sentences would take most of the time
                for sentence in split_sentences(block):
                    self._look_at(sentence, document.source)

    def _look_at(self, sentence: str, source: str) -> None:
        by_term: dict[int, list[Match]] = {}
        for match in self.matcher.find(sentence):
            by_term.setdefault(match.term_index, []).append(match)
        self.sentences += bool(by_term)
        if by_term and sentence.count(" ") + 1 < self.options.min_words:
            self.dropped[TOO_SHORT] += len(by_term)
            return
        for term, matches in by_term.items():
            text, spans = window(sentence, [(m.start, m.end) for m in matches], self.options.max_words)
            self._keep(term, Sentence(text, spans, source))

    def _keep(self, term: int, sentence: Sentence) -> None:
        priority = keyed_hash(self.options.seed, self.terms[term], gist(sentence.text, self.matcher.fold))
        self.dropped[DUPLICATE] += priority in self.seen[term]
        self.seen[term].add(priority)
        self.samples[term].offer(priority, sentence)

    def finish(self) -> Mined:
        evidence = {
            term: self._confirmed(index, sample.items())
            for index, (term, sample) in enumerate(zip(self.terms, self.samples, strict=True))
        }
        return Mined(evidence, self.documents, self.characters, self.sentences, dict(self.dropped))

    def _confirmed(self, term: int, sample: Sequence[Sentence]) -> Evidence:
        """What remains of a sample. Matcher and tokenizer agree but for rare overlaps, so that asking about the
        sample alone loses little, and the tokenizer, the slowest part, sees a number of sentences that is bounded."""
        answers = self.confirm([sentence.text for sentence in sample], term)
        kept = tuple(sentence for sentence, encoded in zip(sample, answers, strict=True) if encoded)
        lost = len(sample) - len(kept)
        self.dropped[NOT_ENCODED] += lost
        return Evidence(len(self.seen[term]) - lost, kept)
