"""What a run would cost, from a sample of the corpus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from contrastok.data_gen.corpus import Document
from contrastok.data_gen.corpus_size import CorpusSize
from contrastok.data_gen.evidence import Mined
from contrastok.own_time import timed

SAMPLE = 4_000_000
"""Characters that are read for an estimate."""

HASHES, HASH_BYTES, SENTENCE_BYTES = 1024, 8, 1000
"""Hashes of different sentences that are held for a term at most; memory that one takes, and that a sentence takes."""

PAIRS_BYTES = 500
"""Memory of the pairs that a sentence makes: `benchmarks.plan` measures 16 kB for a term with 32 sentences."""


@dataclass(frozen=True)
class Estimate:
    """The expected size of a run.

    Attributes:
        corpus_files: files of the corpus.
        corpus_bytes: their size on disk, compressed ones as they are.
        sample_characters: what the estimate rests on.
        complete: whether the sample was the whole corpus.
        characters: of the whole corpus, about.
        size_known: whether it can be told how much more there is. Else sentences, seconds and memory are those of the
            sample alone: a lower bound.
        sentences: different (sentence, term) occurrences expected.
        terms_without_sentence: terms that the sample does not hold.
        seconds: time for reading and matching, without loading the model.
        memory_mb: memory for sentences, pairs and the sample of all text, without the model.
    """

    corpus_files: int
    corpus_bytes: int
    sample_characters: int
    complete: bool
    characters: int
    size_known: bool
    sentences: int
    terms_without_sentence: int
    seconds: float
    memory_mb: float


def estimate_run(
    documents: Iterable[Document],
    mine: Callable[[Iterable[Document]], Mined],
    size: CorpusSize,
    max_sentences: int,
    sampled: int,
) -> Estimate:
    """Mine the first few megabytes and scale up by size.

    Args:
        documents: the corpus; only its beginning is read.
        mine: the mining stage.
        size: of the corpus.
        max_sentences: cap of a term.
        sampled: characters of all text that a run keeps at most.
    """
    remaining = iter(documents)
    mined, seconds = timed(lambda: mine(head(remaining)))
    complete = next(remaining, None) is None
    factor = 1.0 if complete else max(1.0, (size.unpacked or 0) / max(1, mined.characters))
    found = [evidence.found * factor for evidence in mined.evidence.values()]
    kept, hashes = (sum(min(most, count) for count in found) for most in (max_sentences, HASHES))
    memory = hashes * HASH_BYTES + kept * (SENTENCE_BYTES + PAIRS_BYTES) + min(sampled, mined.characters * factor)
    return Estimate(
        corpus_files=size.files,
        corpus_bytes=size.on_disk,
        sample_characters=mined.characters,
        complete=complete,
        characters=round(mined.characters * factor),
        size_known=complete or size.unpacked is not None,
        sentences=round(sum(found)),
        terms_without_sentence=sum(count == 0 for count in found),
        seconds=round(seconds * factor, 1),
        memory_mb=round(memory / 1e6, 1),
    )


def head(documents: Iterator[Document]) -> Iterator[Document]:
    """Documents until the sample is large enough; no document of the iterator is lost."""
    length = 0
    while length < SAMPLE and (document := next(documents, None)) is not None:
        length += len(document.text)
        yield document
