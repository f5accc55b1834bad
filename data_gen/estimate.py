"""What a run would cost, from a sample of the corpus."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from contrastok.data_gen.corpus import Document
from contrastok.data_gen.evidence import Mined

SAMPLE = 4_000_000
"""Characters that are read for an estimate."""

HASHES, HASH_BYTES, SENTENCE_BYTES = 1024, 8, 1000
"""Hashes of different sentences that are held for a term at most; memory that one takes, and that a sentence takes."""


@dataclass(frozen=True)
class Estimate:
    """The expected size of a run.

    Attributes:
        corpus_files: files of the corpus.
        corpus_bytes: their size on disk, compressed ones as they are.
        sample_characters: what the estimate rests on.
        complete: whether the sample was the whole corpus.
        sentences: different (sentence, term) occurrences expected.
        terms_without_sentence: terms that the sample does not hold.
        seconds: time for reading and matching, without loading the model.
        memory_mb: memory for sentences, without the model.
    """

    corpus_files: int
    corpus_bytes: int
    sample_characters: int
    complete: bool
    sentences: int
    terms_without_sentence: int
    seconds: float
    memory_mb: float


def estimate_run(
    documents: Iterable[Document],
    mine: Callable[[Iterable[Document]], Mined],
    files: int,
    size: int,
    max_sentences: int,
) -> Estimate:
    """Mine the first few megabytes and scale up by size.

    Args:
        documents: the corpus; only its beginning is read.
        mine: the mining stage.
        files: number of files of the corpus.
        size: their bytes; 0 when unknown.
        max_sentences: cap of a term.
    """
    started = time.perf_counter()
    remaining = iter(documents)
    mined = mine(head(remaining))
    seconds = time.perf_counter() - started
    complete = next(remaining, None) is None
    factor = 1.0 if complete else max(1.0, size / max(1, mined.characters))
    found = [evidence.found * factor for evidence in mined.evidence.values()]
    kept, hashes = (sum(min(most, count) for count in found) for most in (max_sentences, HASHES))
    return Estimate(
        corpus_files=files,
        corpus_bytes=size,
        sample_characters=mined.characters,
        complete=complete,
        sentences=round(sum(found)),
        terms_without_sentence=sum(count == 0 for count in found),
        seconds=round(seconds * factor, 1),
        memory_mb=round((hashes * HASH_BYTES + kept * SENTENCE_BYTES) / 1e6, 1),
    )


def head(documents: Iterator[Document]) -> Iterator[Document]:
    """Documents until the sample is large enough; no document of the iterator is lost."""
    length = 0
    while length < SAMPLE and (document := next(documents, None)) is not None:
        length += len(document.text)
        yield document
