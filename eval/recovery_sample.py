"""Words to hide: drawn from those of the vocabulary that the corpus says enough about."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np

from contrastok.console import Console
from contrastok.data_gen.corpus import read_corpus
from contrastok.data_gen.fold import Fold
from contrastok.data_gen.known import known_words
from contrastok.data_gen.sentences import blocks
from contrastok.data_gen.text_sample import TextSample
from contrastok.data_gen.word_sentences import SentenceTable, WordSentences
from contrastok.data_gen.wordnet import WordNet
from contrastok.errors import InputError
from contrastok.eval.recovery_corpus import own_sentences
from contrastok.eval_config import RecoveryConfig
from contrastok.hiding import hidden_alone

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MIN_LETTERS = 4
"""Shorter words are left to chance: most are parts of other words, and many are names of a letter or two."""
MIN_WORDS, MAX_WORDS = 5, 80
"""Length of a sentence that counts, in words; longer ones are cut."""
MOST_SENSES = 4
"""Synsets of a word that WordNet's first sense still speaks for."""


def draw_sample(config: RecoveryConfig, tokenizer: PreTrainedTokenizerFast, console: Console) -> list[str]:
    """Draw words that the corpus has `min_evidence` sentences for, in alphabetical order.

    What a WordNet folder in the corpus says of a word itself is no sentence of it.

    Raises:
        InputError: the corpus has enough sentences for fewer words than are wanted.
    """
    nets = [WordNet(path) for path in config.glossary if path.is_dir()]
    words = eligible_words(tokenizer, nets[0] if nets else None)
    table = sentence_table(tokenizer, config.seed)
    sample = TextSample(config.seed)
    documents = read_corpus(config.corpus, config.text_field, config.split)
    for document in console.track(documents, "Reading the corpus"):
        for block in blocks(document.text):
            sample.offer(block)
    for block in sample.blocks():
        table.add(block)
    own = own_sentences(config.corpus, list(words), sentence_table(tokenizer, config.seed))
    told = attested(words, table, tokenizer, config.min_evidence, console, own)
    return draw(told, config.sample, config.seed, config.min_evidence, ", ".join(config.corpus))


def eligible_words(tokenizer: PreTrainedTokenizerFast, wordnet: WordNet | None) -> dict[str, int]:
    """Lower-case words of the vocabulary, letters only, with their ids; by WordNet: nouns first, of few senses."""
    words = {w: i for w, i in known_words(tokenizer).items() if w.isalpha() and w.islower() and len(w) >= MIN_LETTERS}
    if wordnet is None:
        return words
    senses = {word: wordnet.senses(word) for word in words}
    return {w: i for w, i in words.items() if senses[w].startswith("n") and len(senses[w]) <= MOST_SENSES}


def sentence_table(tokenizer: PreTrainedTokenizerFast, seed: int) -> SentenceTable:
    """An empty table of the sentences that count."""
    return SentenceTable(seed, Fold(tokenizer), MIN_WORDS, MAX_WORDS)


def attested(
    words: Mapping[str, int],
    table: SentenceTable,
    tokenizer: PreTrainedTokenizerFast,
    least: int,
    console: Console,
    but: Mapping[int, Collection[int]] | None = None,
) -> list[str]:
    """The words, in alphabetical order, of which a table holds at least `least` sentences and which can be hidden.

    Args:
        words: with their ids.
        table: sentences by hash.
        tokenizer: finds the words.
        least: sentences wanted.
        console: shows progress.
        but: for a hash the positions (in `words`) of the words that the sentence does not count for.
    """
    found = WordSentences(tokenizer, tuple(words.values()), least, console)
    found.read(table.by_hash, but)
    told = [word for word, sentences in zip(words, found.found, strict=True) if len(sentences) >= least]
    return sorted(hidden_alone(tokenizer, told))


def draw(words: list[str], count: int, seed: int, least: int, where: str) -> list[str]:
    """Draw `count` of the words, sorted.

    Raises:
        InputError: there are not so many.
    """
    if len(words) < count:
        raise InputError(
            f"only {len(words)} words of the vocabulary have {least} sentences of {MIN_WORDS} words and more, "
            f"and {count} are wanted",
            where=where,
            hint="lower --sample or --min-evidence, or give more text",
        )
    return sorted(np.random.default_rng(seed).choice(words, count, replace=False).tolist())
