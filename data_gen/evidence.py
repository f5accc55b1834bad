"""Sentences that hold the terms, from a stream of documents of any length."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Protocol

from contrastok.data_gen.findings import Findings, Sentence
from contrastok.data_gen.fold import Fold
from contrastok.data_gen.matcher import Match, TermMatcher
from contrastok.data_gen.reservoir import keyed_hash
from contrastok.data_gen.sentences import blocks, split_sentences, window
from contrastok.data_gen.text_sample import TextSample

TOO_SHORT, NOT_ENCODED, DUPLICATE = "too short", "not encoded as the token", "duplicate"

TOGETHER = 2**16
"""Characters, about, in which terms are looked for at once."""

MARK = re.compile(r"[^\w\s'’/,+&-]")
"""A character that may end a sentence in some language; those that words are often made of do not."""

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


@dataclass(frozen=True)
class Evidence:
    """What a corpus says about one term.

    Attributes:
        found: different sentences with the term, before the cap; those are not counted that the tokenizer refused.
            Above 512 it is an estimate, see `Distinct`.
        sentences: those kept, in an order that the seed decides.
        generated: how many of these, the last ones, a language model wrote.
        defined: whether it wrote the term's definition too.
        repeated: sentences with the term that say the same as another, and are not counted as found.
    """

    found: int = 0
    sentences: tuple[Sentence, ...] = ()
    generated: int = 0
    defined: bool = False
    repeated: int = 0


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
    sample: TextSample | None = None,
) -> Mined:
    """Read every document once and keep a sample of sentences for each term.

    The result does not depend on the order of the documents: the sample is the bottom-k by hash, and of
    near duplicates (equal but for case, digits and punctuation) the smallest text stands for all.

    Args:
        documents: the corpus, streamed; memory does not grow with it.
        terms: the terms of `matcher`, in its order.
        matcher: finds them.
        confirm: asks the tokenizer whether a match really becomes the token.
        options: limits and seed.
        sample: is offered every block of the corpus, whether a term is in it or not.
    """
    findings = Findings(len(terms), options.max_sentences, sample or TextSample(options.seed, 0))
    Miner(terms, matcher, options, findings).read(documents)
    return conclude(findings, terms, confirm)


def conclude(findings: Findings, terms: Sequence[str], confirm: Confirm) -> Mined:
    """What was found, as far as the tokenizer confirms it.

    Matcher and tokenizer agree but for rare overlaps, so that asking about the samples alone loses little, and the
    tokenizer, the slowest part, sees a number of sentences that is bounded.
    """
    evidence, refused, repeated = {}, 0, 0
    for index, term in enumerate(terms):
        sample, different = findings.kept[index].items(), len(findings.different[index])
        answers = confirm([sentence.text for sentence in sample], index)
        confirmed = tuple(sentence for sentence, encoded in zip(sample, answers, strict=True) if encoded)
        lost = len(sample) - len(confirmed)
        alike = max(findings.occurrences[index] - different, 0)
        evidence[term] = Evidence(max(different - lost, len(confirmed)), confirmed, repeated=alike)
        refused += lost
        repeated += alike
    dropped = {TOO_SHORT: findings.too_short, NOT_ENCODED: refused, DUPLICATE: repeated}
    return Mined(evidence, findings.documents, findings.characters, findings.sentences, dropped)


def gist(text: str, fold: Fold) -> str:
    """What near duplicates share: the folded text without digits and punctuation."""
    return re.sub(r"[\W\d_]+", " ", fold.key(text))


class Miner:
    """Reads documents and takes down what they say about the terms.

    Args:
        terms: the terms of `matcher`, in its order.
        matcher: finds them.
        options: limits and seed.
        findings: where it is taken down.
    """

    def __init__(self, terms: Sequence[str], matcher: TermMatcher, options: MiningOptions, findings: Findings) -> None:
        self.terms, self.matcher, self.options, self.findings = terms, matcher, options, findings
        self.marks = any(MARK.search(term) for term in terms)

    def read(self, documents: Iterable[SourcedText]) -> None:
        """Read every document once."""
        waiting: list[tuple[str, str]] = []
        length = 0
        for block, source in self._blocks(documents):
            self.findings.sample.offer(block)
            waiting.append((block, source))
            length += len(block)
            if length >= TOGETHER:
                self._search(waiting)
                waiting, length = [], 0
        self._search(waiting)

    def _blocks(self, documents: Iterable[SourcedText]) -> Iterator[tuple[str, str]]:
        """The blocks of every document, counted, and where they come from."""
        found = self.findings
        for document in documents:
            text, source = document.text, document.source
            found.documents += 1
            found.characters += len(text)
            # The tokenizer's normaliser composes characters across positions, the fold of the matcher does not.
            for block in blocks(unicodedata.normalize("NFC", text)):
                yield block, source

    def _search(self, waiting: Sequence[tuple[str, str]]) -> None:
        """Split only what holds a term into sentences: splitting everything would take most of the time."""
        sentences = [
            (sentence, source)
            for block, source in self._holding(waiting)
            for sentence in split_sentences(block, whole=self._marked(block))
        ]
        for sentence, source in self._holding(sentences):
            self._look_at(sentence, source)

    def _marked(self, block: str) -> list[tuple[int, int]]:
        """Where terms stand in a block, if any of them may hold the end of a sentence, as ".NET" does."""
        return [(match.start, match.end) for match in self.matcher.find(block)] if self.marks else []

    def _holding(self, texts: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        return compress(texts, self.matcher.holding([text for text, _ in texts]))

    def _look_at(self, sentence: str, source: str) -> None:
        by_term: dict[int, list[Match]] = {}
        for match in self.matcher.find(sentence):
            by_term.setdefault(match.term_index, []).append(match)
        self.findings.sentences += bool(by_term)
        if by_term and sentence.count(" ") + 1 < self.options.min_words:
            self.findings.too_short += len(by_term)
            return
        for term, matches in by_term.items():
            text, spans = window(sentence, [(m.start, m.end) for m in matches], self.options.max_words)
            priority = keyed_hash(self.options.seed, self.terms[term], gist(text, self.matcher.fold))
            self.findings.keep(term, priority, Sentence(text, spans, source))
