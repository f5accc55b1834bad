"""Vectors for old tokens and new terms in one space that is not the model's: what similarities and maps start from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from contrastok.candidates import WordStarts, candidates
from contrastok.errors import InputError
from contrastok.models import tokenizer_fingerprint
from contrastok.vocabulary import encode_plain, pieces_of
from contrastok.word_vectors import file_digest, read_word_vectors, require_trainer, train_word_vectors

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from contrastok.initializers.context import InitContext

FORMAT = 1
"""Counted up when vectors of the same text or file would come out otherwise."""
BLOCK = 4096
"""Words that are tokenised at once."""

Unit = Literal["tokens", "words"]
Weight = Callable[[int, int, float], float]
"""What a word weighs in the vector of a token that it is written with: of the word's rank by frequency (from 1), the
number of its tokens, and what words before it weigh together."""
MIXES: Mapping[str, Weight] = {
    "own": lambda rank, tokens, before: float(tokens == 1 and not before),
    "rank": lambda rank, tokens, before: 1 / rank,
    "uniform": lambda rank, tokens, before: 1.0,
}
"""How the vectors of words become those of tokens: the word that the token is, alone (its most frequent spelling); all
words that are written with it, by 1/rank (RAMEN); the same, each counting once (OFA)."""


@dataclass(frozen=True)
class Auxiliary:
    """Vectors in one space.

    Attributes:
        anchors: ids of old tokens that have a vector: whole words, with a row that is not zero; int64 `[a]`.
        known: their vectors, float64 `[a, k]`.
        new: those of the terms, float64 `[n, k]`; NaN where a term has none.
    """

    anchors: torch.Tensor
    known: torch.Tensor
    new: torch.Tensor


def check_space(context: InitContext) -> None:
    """Refuse a file that does not begin with a word vector or, without a file, to train some where gensim is missing.

    Raises:
        InputError: the file is missing, or its first line is no vector.
        ConfigError: gensim is missing.
    """
    if context.options.vectors is None:
        require_trainer()
    else:
        next(read_word_vectors(context.options.vectors))


def auxiliary(context: InitContext, unit: Unit, mix: str = "own") -> Auxiliary:
    """Vectors from the user's file, or else trained on the text.

    Args:
        context: with `tokenizer`, `plan`, `extended`, and `texts` or a file of vectors.
        unit: what is trained on: the tokens of the extended tokenizer, or the words that these are written to.
        mix: how words give vectors to tokens, a key of `MIXES`; tokens that were trained on have their own.

    Raises:
        InputError: the file is unusable, or no word of the model has a vector.
        ConfigError: vectors are to be trained and gensim is missing.
    """
    file, tokenizer = context.options.vectors, context.tokenizer
    assert tokenizer is not None and context.extended is not None and context.plan is not None  # needs of the methods
    place = {i: at for at, i in enumerate(candidates(tokenizer).ids)}
    old = len(place)
    place |= {token.id: old + token.row for token in context.plan.tokens}
    source = file_digest(file) if file else [context.seed, unit, context.texts]
    key = [FORMAT, source, tokenizer_fingerprint(context.extended), [*place.items()]]

    def make() -> Mapping[str, np.ndarray]:
        size = old + len(context.terms)
        if file:
            return _of_words(read_word_vectors(file), context.extended, place, size)
        if unit == "tokens":
            return {"own": _of_tokens(context, place, size)}
        return _of_words(train_word_vectors(text_words(context), context.seed), context.extended, place, size)

    name = f"auxiliary/{hashlib.sha256(json.dumps(key).encode()).hexdigest()}"
    vectors = torch.from_numpy((context.encoder.kept(name, make) if context.encoder else make())[mix]).double()
    return usable(context, torch.tensor(list(place)[:old]), vectors[:old], vectors[old:], file or "the text")


def usable(
    context: InitContext, ids: torch.Tensor, known: torch.Tensor, new: torch.Tensor, source: object
) -> Auxiliary:
    """Vectors that are not zero and belong to a row that is not zero.

    Args:
        context: for the table.
        ids: of old tokens, `[v]`.
        known: their vectors, `[v, k]`; zero or NaN where there is none.
        new: of the terms, `[n, k]`; likewise.
        source: where they come from, for the error.

    Raises:
        InputError: no old token is left.
    """
    alive = context.table[ids.to(context.table.device)].detach().float().norm(dim=-1).cpu() > 0
    kept = alive & (known.norm(dim=-1) > 0)  # NaN is not above 0
    if not kept.any():
        raise InputError(
            "has no vector for any whole word of the model's vocabulary",
            where=source,
            hint="it may be of another language or spelling, or the text too short: give --init-vectors or more text",
        )
    none = ~(new.norm(dim=-1) > 0)
    return Auxiliary(ids[kept], known[kept].double(), new.double().masked_fill(none[:, None], torch.nan))


def _of_tokens(context: InitContext, place: Mapping[int, int], size: int) -> np.ndarray:
    """Vectors trained on the extended tokenizer's tokens, float32 `[size, k]`; zero where there is none."""
    names, trained = token_vectors(context)
    vectors = np.zeros((size, len(next(iter(trained.values()))) if trained else 1), np.float32)
    for i, at in place.items():
        vectors[at] = trained.get(names[i], 0)
    return vectors


def token_vectors(context: InitContext) -> tuple[dict[int, str], dict[str, np.ndarray]]:
    """Train vectors on the text in the tokens of the extended tokenizer, as FOCUS does.

    A term's forms (capitalised, with space mark) are one word here. Whole words go by their text, so that character
    n-grams tie a term to them in every family of tokenizers.

    Returns:
        What each id is called: whole words, terms, and whatever else stands in the text; and by name the vectors,
        float32 `[k]`, of those that stand there often enough.

    Raises:
        ConfigError: gensim is missing.
    """
    assert context.tokenizer is not None and context.extended is not None and context.plan is not None
    words = candidates(context.tokenizer)
    names = {i: f"▁{word}" for i, word in zip(words.ids, words.words, strict=True)}
    names |= {token.id: f"▁{token.term}" for token in context.plan.tokens}
    found = encode_plain(context.extended, context.texts)
    for i in {i for ids in found for i in ids} - names.keys():
        names[i] = str(context.extended.convert_ids_to_tokens(i))
    return names, dict(train_word_vectors([[names[i] for i in ids] for ids in found], context.seed))


def text_words(context: InitContext) -> list[list[str]]:
    """The text as words, normalised as the tokenizer does; a term is one word."""
    assert context.tokenizer is not None and context.extended is not None
    continues = WordStarts(context.tokenizer.get_vocab()).continues
    found = encode_plain(context.extended, context.texts)
    used = list({i for ids in found for i in ids})
    strings = context.extended.convert_ids_to_tokens(used)
    new = set(context.plan.ids) if context.plan else set()
    inside = {i for i, token in zip(used, strings, strict=True) if continues(token) and i not in new}
    texts = [_grouped(ids, inside, new) for ids in found]
    different = list({word for text in texts for word in text})
    decoded = context.extended.batch_decode([list(word) for word in different], clean_up_tokenization_spaces=False)
    written = {word: text.strip() for word, text in zip(different, decoded, strict=True)}
    return [[written[word] for word in text if written[word]] for text in texts]


def _grouped(ids: Sequence[int], inside: set[int], new: set[int]) -> list[tuple[int, ...]]:
    """Ids by the word that they write; a new token is a word of its own."""
    words: list[list[int]] = []
    for i in ids:
        if words and i in inside and words[-1][-1] not in new:
            words[-1].append(i)
        else:
            words.append([i])
    return [tuple(word) for word in words]


def _of_words(
    words: Iterator[tuple[str, np.ndarray]],
    tokenizer: PreTrainedTokenizerFast | None,
    place: Mapping[int, int],
    size: int,
) -> dict[str, np.ndarray]:
    """Means of words' vectors by the tokens that they are written with, for each of `MIXES`.

    Args:
        words: by falling frequency, any number of them. An underscore is a space, as in word2vec's phrases.
        tokenizer: the extended one.
        place: where the vector of a token stands.
        size: number of places.

    Returns:
        by mix, float32 `[size, k]`; zero where there is none.
    """
    assert tokenizer is not None
    sums, total, rank = np.zeros((len(MIXES), size, 0)), np.zeros((len(MIXES), size)), 0
    while block := list(islice(words, BLOCK)):
        sums = sums if sums.shape[2] else np.zeros((len(MIXES), size, len(block[0][1])))
        texts = [word.replace("_", " ") for word, _ in block]
        for ids, (_, vector) in zip(pieces_of(tokenizer, texts), block, strict=True):
            rank += 1
            for at in {place[i] for i in ids if i in place}:
                weights = [weigh(rank, len(ids), total[m, at]) for m, weigh in enumerate(MIXES.values())]
                sums[:, at] += np.outer(weights, vector)
                total[:, at] += weights
    means = (sums / np.maximum(total, 1e-30)[..., None]).astype(np.float32)
    return dict(zip(MIXES, means if means.shape[2] else np.zeros((len(MIXES), size, 1), np.float32), strict=True))
