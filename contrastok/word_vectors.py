"""Static word vectors: read from a file, or trained on the user's own text."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path

import numpy as np

from contrastok.data_gen.text_files import lines, unreadable
from contrastok.errors import ConfigError, InputError
from contrastok.files import sha256_file

DIMENSION, WINDOW, NEGATIVES, EPOCHS = 100, 5, 10, 3
"""As FOCUS trains its vectors."""
MIN_COUNT = 3
"""Rarer words get no vector. FOCUS wants 10 occurrences, of a corpus far larger than sentences chosen for terms are."""
ENOUGH, MOST_EPOCHS = 3_000_000, 30
"""A small text is read more often, until this many words have gone by."""
BUCKETS = 2**17
"""Rows for character n-grams; the usual two million would cost 800 MB for a text of some thousand words."""


def file_digest(path: Path) -> str:
    """SHA-256 of a file of vectors.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return sha256_file(path)
    except OSError as error:
        raise unreadable(path, error) from None


def read_word_vectors(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """The words of a file in word2vec's text format and their vectors, in the file's order; `.gz` too.

    A line is a word and its numbers, with spaces between. The first line may give the number of words and of dimensions
    (word2vec, fastText) or be missing (GloVe). A word may itself hold spaces where the first line tells the dimensions.

    Yields:
        word, float32 `[k]`.

    Raises:
        InputError: names the line that has too few numbers, too many, or one that is not finite; or the file holds no
            vector, or fewer or more than it says.
    """
    expected, size, found = None, 0, 0
    for number, line in lines(path):
        fields = [field for field in line.strip("\r\n").replace("\t", " ").split(" ") if field]
        if number == 1 and len(fields) == 2 and fields[0].isdecimal() and fields[1].isdecimal():
            expected, size = int(fields[0]), int(fields[1])
            continue
        if not fields:
            continue
        size = size or len(fields) - 1
        yield _entry(fields, size, f"{path}:{number}")
        found += 1
    if not found:
        raise InputError("holds no word vectors", where=path, hint=_FORMAT)
    if expected is not None and found != expected:
        raise InputError(
            f"holds {found:,} word vectors, and its first line says {expected:,}",
            where=path,
            hint="it may have been cut short: copy it again, or correct its first line",
        )


_FORMAT = "each line is a word and its numbers, with spaces between (the text format of word2vec, fastText, GloVe)"


def _entry(fields: Sequence[str], size: int, where: str) -> tuple[str, np.ndarray]:
    """The word and vector of a line; what stands before its last `size` fields is the word."""
    numbers = len(list(takewhile(_is_number, reversed(fields[1:]))))
    if not size or numbers != size:
        expected = f"{size} numbers" if size else "numbers"
        raise InputError(f"{expected} were expected after the word, not {numbers}", where=where, hint=_FORMAT)
    with np.errstate(over="ignore"):
        vector = np.array([float(value) for value in fields[-size:]]).astype(np.float32)
    if not np.isfinite(vector).all():
        raise InputError("a number is not finite, or too large for 32 bits", where=where, hint=_FORMAT)
    return " ".join(fields[:-size]), vector


def _is_number(text: str) -> bool:
    try:
        float(text)
        return True
    except ValueError:
        return False


def require_trainer() -> None:
    """Refuse to train where the library for it is missing.

    Raises:
        ConfigError: gensim is not installed.
    """
    if find_spec("gensim") is None:
        raise ConfigError(
            "word vectors are trained with gensim, which is not installed",
            hint="pip install 'contrastok[vectors]', or give --init-vectors FILE",
        )


def train_word_vectors(sentences: Sequence[Sequence[str]], seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Vectors of the words of a text: fastText, continuous bag of words (Bojanowski et al. 2017, arXiv:1607.04606).

    One worker, numbers drawn from the seed alone and a hash that no process changes: the same text and seed give the
    same vectors.

    Args:
        sentences: of words; nothing else about them matters, so tokens do too.
        seed: for initial vectors and sampled negatives.

    Yields:
        word, float32 `[DIMENSION]`, by falling frequency; words with fewer than `MIN_COUNT` occurrences are left out.

    Raises:
        ConfigError: gensim is not installed.
    """
    require_trainer()
    from gensim.models import FastText

    model = FastText(
        vector_size=DIMENSION,
        window=WINDOW,
        negative=NEGATIVES,
        min_count=MIN_COUNT,
        bucket=BUCKETS,
        sg=0,
        workers=1,
        seed=seed,
        hashfxn=lambda word: zlib.crc32(word.encode()),
    )
    model.build_vocab(sentences)
    if not len(model.wv):
        return
    words = sum(map(len, sentences))
    epochs = min(MOST_EPOCHS, max(EPOCHS, math.ceil(ENOUGH / words)))
    model.train(sentences, total_examples=len(sentences), epochs=epochs)
    for word in model.wv.index_to_key:
        yield word, np.asarray(model.wv[word], np.float32)
