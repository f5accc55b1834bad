"""How long evidence for known words takes to collect, from a slice of the work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from contrastok.console import Console
from contrastok.data_gen.fold import Fold
from contrastok.data_gen.known import KnownOptions, KnownPlan, find_sentences
from contrastok.data_gen.term_readers import fill_term
from contrastok.data_gen.terms import Term
from contrastok.data_gen.wordnet import Synset, WordNet, data_files
from contrastok.own_time import timed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SYNSETS, WORDS = 8_000, 300
"""Of WordNet and of the words, what is looked at."""


def known_seconds(
    plan: KnownPlan, texts: Sequence[str], factor: float, tokenizer: PreTrainedTokenizerFast, options: KnownOptions
) -> float:
    """Seconds that `known_evidence` takes.

    Args:
        plan: the words, and where they are looked up.
        texts: a part of what it reads of the corpus.
        factor: how many times as much it reads in all.
        tokenizer: the base model's.
        options: limits and seed.
    """
    if not plan.words:
        return 0.0
    fold, quiet = Fold(tokenizer), Console(quiet=True)

    def reading(texts: Sequence[str], synsets: int) -> float:
        beginning: Any = plan.wordnet and _Beginning(plan.wordnet, synsets)
        part = replace(plan, wordnet=beginning)
        return timed(lambda: find_sentences(part, texts, tokenizer, fold, options, quiet))[1]

    def describing() -> None:
        for word in list(plan.words)[:: max(1, len(plan.words) // WORDS)]:
            fill_term(Term(word), plan.glossaries)

    nothing = reading((), 0)
    seconds = nothing + factor * max(0.0, reading(texts, 0) - nothing)
    if plan.wordnet:
        every = sum(file.read_bytes().count(b"\n") for file in data_files(plan.wordnet.folder))  # one a line
        seconds += every / min(SYNSETS, every) * max(0.0, reading((), SYNSETS) - nothing)
    return seconds + timed(describing)[1] * max(1, len(plan.words) // WORDS)


class _Beginning:
    """The first synsets of a WordNet."""

    def __init__(self, whole: WordNet, count: int) -> None:
        self._whole, self._count = whole, count

    def synsets(self) -> Iterator[Synset]:
        return islice(self._whole.synsets(), self._count)
