"""Sentences for every word of a vocabulary at once, found by the ids of the tokenizer."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from contrastok.candidates import WordStarts
from contrastok.console import Console
from contrastok.data_gen.evidence import gist
from contrastok.data_gen.fold import Fold
from contrastok.data_gen.reservoir import keyed_hash
from contrastok.data_gen.sentences import split_sentences
from contrastok.vocabulary import encode_plain

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerFast

BATCH = 2048
"""Sentences that are tokenised together."""


class SentenceTable:
    """Different sentences by a hash that the seed decides; of near duplicates the smallest stands for all.

    Args:
        seed: decides the hashes, and so the order of the sentences.
        fold: near duplicates are alike after folding, but for digits and punctuation.
        min_words: shorter sentences are dropped.
        max_words: longer ones are cut into parts of about equal length.
    """

    def __init__(self, seed: int, fold: Fold, min_words: int, max_words: int) -> None:
        self._seed, self._fold = seed, fold
        self._min_words, self._max_words = min_words, max_words
        self.by_hash: dict[int, str] = {}

    def add(self, block: str) -> list[int]:
        """Take the sentences of a block; returns their hashes."""
        parts = [part for sentence in split_sentences(block) for part in self._parts(sentence)]
        hashes = [keyed_hash(self._seed, "sentence", gist(part, self._fold)) for part in parts]
        for key, part in zip(hashes, parts, strict=True):
            self.by_hash[key] = min(part, self.by_hash.get(key, part))
        return hashes

    def _parts(self, sentence: str) -> Iterator[str]:
        words = sentence.split(" ")
        if len(words) < self._min_words:
            return
        count = -(-len(words) // self._max_words)
        for part in range(count):
            yield " ".join(words[part * len(words) // count : (part + 1) * len(words) // count])


class WordSentences:
    """The first sentences, in the order read, that hold each word whole, as its one id.

    Args:
        tokenizer: the words are entries of its vocabulary.
        ids: one for each word.
        limit: sentences kept for each word.
        console: shows progress.

    Attributes:
        found: the sentences of each word.
        holding: how many of the sentences read hold each word, int64 `[words]`.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, ids: Sequence[int], limit: int, console: Console) -> None:
        vocabulary: Mapping[str, int] = tokenizer.get_vocab()
        starts = WordStarts(vocabulary)
        size = max(vocabulary.values(), default=-1) + 1
        self._tokenizer, self._limit, self._console = tokenizer, limit, console
        self._word_of = np.full(size, -1, np.int64)
        self._word_of[list(ids)] = np.arange(len(ids))
        self._continues = np.zeros(size, bool)
        self._continues[[i for token, i in vocabulary.items() if starts.continues(token)]] = True
        self._full = np.zeros(len(ids) + 1, bool)
        self._full[-1] = True  # where the index -1, no word, leads
        self.found: list[list[str]] = [[] for _ in ids]
        self.holding = np.zeros(len(ids), np.int64)

    @property
    def full(self) -> list[bool]:
        """For each word whether it has as many sentences as it may have."""
        return [len(found) >= self._limit for found in self.found]

    def read(self, sentences: Mapping[int, str], but: Mapping[int, Collection[int]] | None = None) -> None:
        """Read sentences by increasing hash.

        Args:
            sentences: text by hash.
            but: for a hash the indices of the words that must not take this sentence.
        """
        refused = but or {}
        keys = sorted(sentences)
        batches = [keys[start : start + BATCH] for start in range(0, len(keys), BATCH)]
        for batch in self._console.track(batches, "Sentences for known words", len(batches)):
            texts = [sentences[key] for key in batch]
            for row, word in self._holders(encode_plain(self._tokenizer, texts)):
                if len(self.found[word]) < self._limit and word not in refused.get(batch[row], ()):
                    self.found[word].append(texts[row])
                    self._full[word] = len(self.found[word]) == self._limit

    def _holders(self, encoded: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
        """Which row holds which word that still lacks sentences, once each, by row; all that hold one are counted."""
        lengths = [len(ids) for ids in encoded]
        flat: NDArray[np.int64] = np.fromiter(chain.from_iterable(encoded), np.int64, sum(lengths))
        rows = np.repeat(np.arange(len(encoded)), lengths)
        goes_on = np.zeros(len(flat), bool)
        goes_on[:-1] = self._continues[flat[1:]] & (rows[1:] == rows[:-1])
        words = self._word_of[flat]
        whole = ~goes_on & (words >= 0)
        found, holders = np.divmod(np.unique(rows[whole] * len(self.found) + words[whole]), max(len(self.found), 1))
        self.holding += np.bincount(holders, minlength=len(self.found))
        lacking = ~self._full[holders]
        return [(int(row), int(word)) for row, word in zip(found[lacking], holders[lacking], strict=True)]
