"""What a hypernetwork learns from: the tokens of the model's own vocabulary, and the pieces that each falls into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from contrastok.candidates import candidates
from contrastok.errors import ModelError
from contrastok.evidence import WordEvidence
from contrastok.features import word_inputs
from contrastok.hiding import HiddenWord, hidden_alone, hide_words
from contrastok.hypernet.sampling import PieceSampler
from contrastok.token_text import TokenText, token_texts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

HELD_OUT = 0.1
"""Share of the known words that nothing is learned from."""
MIN_WORDS = 500
"""Known words below which there is nothing to learn."""
NATURAL = 0.5
"""Share of splits by the model's own tokenizer without the word, which is how new words are split."""
GROUPS = 8
"""Tokenizers that are sampled for each epoch."""

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Lesson:
    """Tokens to learn from, and words held out.

    Neither a row of a held-out word nor that of another spelling of it is a target, a piece or a negative, and no
    definition is read with its token.

    Attributes:
        ids: of the tokens to learn from, ascending.
        texts: what they stand for.
        natural: the pieces of each in the model's own tokenizer without it; empty where that is not known.
        sampler: of the other splits.
        sizes: characters that each possible piece covers, by its id.
        choose, report: held-out words: those that choose the epoch, and those that are reported.
        definitions: by the id of a word, also of a held-out one: tokens of its definition, without its own.
    """

    ids: tuple[int, ...]
    texts: tuple[TokenText, ...]
    natural: tuple[Ids, ...]
    sampler: PieceSampler
    sizes: Mapping[int, int]
    choose: tuple[HiddenWord, ...]
    report: tuple[HiddenWord, ...]
    definitions: Mapping[int, Ids]

    def splits(self, generator: np.random.Generator) -> list[tuple[int, Ids]]:
        """One epoch: every token with pieces newly drawn; tokens that cannot be split are left out."""
        sampled = self.sampler.split(self.texts, GROUPS, generator)
        own = generator.random(len(self.ids)) < NATURAL
        found = []
        for i, natural, drawn, flag in zip(self.ids, self.natural, sampled, own.tolist(), strict=True):
            pieces = (natural or drawn) if flag else (drawn or natural)
            if pieces:
                found.append((i, pieces))
        return found

    def lengths(self, pieces: Ids) -> Ids:
        """Characters that each of some pieces covers; 1 for one that is no text."""
        return tuple(self.sizes.get(i, 1) for i in pieces)


def make_lesson(
    tokenizer: PreTrainedTokenizerFast, frequencies: Mapping[str, int], seed: int, definitions: Mapping[str, str]
) -> Lesson:
    """Draw the held-out words, hide them, and split all others.

    Args:
        tokenizer: of the model.
        frequencies: of words in the user's text; without any, every known word counts once.
        seed: draws the held-out words.
        definitions: of known words; those of others are not looked at.

    Raises:
        ModelError: too few words, or words cannot be hidden from this tokenizer.
    """
    words = candidates(tokenizer).words
    drawn, rest = _hold_out(words, seed)
    hidden, held = hide_words(tokenizer, drawn)
    if len(held.words) + len(rest) < MIN_WORDS or len(held.words) < 2:
        raise ModelError(
            f"knows {len(held.words) + len(rest):,} whole words, and a hypernetwork needs {MIN_WORDS:,} to learn from",
            hint="use --init charlen_mean, or a model with more whole words",
        )
    out = {_key(word.word) for word in held.words}
    gone = set(held.ids)
    every = {i: text for i, text in token_texts(tokenizer).items() if " " not in text.text}
    texts = {i: text for i, text in every.items() if i not in gone and _key(text.text) not in out}
    alone = tuple(hidden_alone(hidden, rest).values())
    own = {word.id: word.pieces for word in alone}
    targets = {i: text for i, text in texts.items() if len(text.text) > 1}
    half = len(held.words) // 2
    return Lesson(
        tuple(targets),
        tuple(targets.values()),
        tuple(own.get(i, ()) for i in targets),
        PieceSampler(texts, frequencies or dict.fromkeys((t.text for t in texts.values() if t.starts), 1)),
        {i: len(text.text) for i, text in every.items()},
        held.words[:half],
        held.words[half:],
        _defined((*held.words, *alone), definitions, hidden),
    )


def _defined(
    words: tuple[HiddenWord, ...], definitions: Mapping[str, str], hidden: PreTrainedTokenizerFast
) -> dict[int, Ids]:
    """Definitions as the tokens of a tokenizer without the held-out words, each without its own word's token."""
    told = [word for word in words if definitions.get(word.word)]
    texts = [WordEvidence(word.word, True, definitions[word.word], (), (), ()) for word in told]
    pieces = [word.pieces for word in told]
    inputs = word_inputs(texts, [word.ids for word in told], pieces, pieces, hidden, 0)
    return {word.id: found.definition[0] for word, found in zip(told, inputs, strict=True) if found.definition}


def _hold_out(words: tuple[str, ...], seed: int) -> tuple[list[str], list[str]]:
    """A share of the words with all their spellings, in drawn order, and the others."""
    keys = list(dict.fromkeys(map(_key, words)))
    order = np.random.default_rng(seed).permutation(len(keys))[: round(HELD_OUT * len(keys))]
    place = {keys[at]: n for n, at in enumerate(order.tolist())}
    drawn = sorted((word for word in words if _key(word) in place), key=lambda word: place[_key(word)])
    return drawn, [word for word in words if _key(word) not in place]


def _key(word: str) -> str:
    return word.casefold()
