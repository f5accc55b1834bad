"""From what gen-pairs wrote to a prior: read the evidence, encode it, learn from known words, predict new rows."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from contrastok.bank import FrozenEncoder
from contrastok.errors import InputError
from contrastok.evidence import WordEvidence
from contrastok.features import EvidenceEncoder, Features, Ids, WordInput, bag_weights, word_inputs
from contrastok.fit import MIN_WORDS, Known, Predicted, having
from contrastok.hiding import hidden_alone, pieces_of
from contrastok.map_rows import WordBank
from contrastok.models import input_embedding
from contrastok.prior import REQUIRED, Prior, TooFewWordsError, learn_prior, usable_sources
from contrastok.vocabulary import VocabularyPlan

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

FORMAT = 4
"""Counted up when a prior of the same evidence would come out otherwise."""

ENOUGH = 10_000
"""Known words from which terms that lack what most terms have learn as well as from more."""


@dataclass(frozen=True)
class Predictor:
    """A prior over the new rows, and what training needs beside it.

    Attributes:
        prior: learned on known words.
        bank: outputs of the isolated known words, and the prior's precision.
        table: rows that have a token, float32 `[V, d]`.
        gold: for each held-out word its row in the table, int64 `[h]`.
        held_bank: for each held-out word places in the bank, first its own and then those of its other spellings and
            synonyms, which are no negatives of it.
        synonyms: for each new term the places in the bank of its synonyms.
        key: hash of everything that it was learned from, the model aside.
    """

    prior: Prior
    bank: WordBank
    table: np.ndarray
    gold: np.ndarray
    held_bank: tuple[tuple[int, ...], ...]
    synonyms: tuple[tuple[int, ...], ...]
    key: str


def enough_known(evidence: Sequence[WordEvidence] | None) -> bool:
    """Whether a predictor can be learned: there is evidence, and it tells of enough known words."""
    return evidence is not None and sum(word.known for word in evidence) >= MIN_WORDS


def make_predictor(
    evidence: Sequence[WordEvidence],
    plan: VocabularyPlan,
    extended: PreTrainedTokenizerFast,
    encoder: FrozenEncoder,
    sentences: int,
    seed: int,
) -> Predictor:
    """Learn a prior from the known words and apply it to the plan's terms.

    Args:
        evidence: of terms and known words.
        plan: the new tokens.
        extended: the tokenizer that has them.
        encoder: the frozen model on the tokenizer before.
        sentences: looked at for each known word; four times as many for each term.
        seed: draws the held-out words.

    Raises:
        TooFewWordsError: too few known words.
        InputError: a term without evidence.
        ModelError: the tokenizer's words cannot be hidden.
    """
    tokenizer = encoder.tokenizer
    found = hidden_alone(tokenizer, [word.token for word in evidence if word.known])
    words = [word for word in evidence if word.known and word.token in found]
    if len(words) < MIN_WORDS:
        raise TooFewWordsError(len(words))
    hidden = [found[word.token] for word in words]
    own = [word.id for word in hidden]
    terms, split = _of_terms(evidence, plan), pieces_of(tokenizer, plan.terms)
    outputs = encoder.encode_words(own)
    table = input_embedding(encoder.model).weight.detach().float().cpu().numpy()[: len(tokenizer)]
    held_key = [FORMAT, seed, sentences, [dataclasses.astuple(w) for w in (*terms, *words)], split]

    def learn() -> Prior:
        kept, forms = teachers(words, terms), [plan.ids_of(term) for term in plan.terms]
        told, their = [words[k] for k in kept], [hidden[k] for k in kept]
        parts = [word.pieces for word in their]
        sizes = [_piece_sizes(tokenizer, pieces) for pieces in (parts, split)]
        known = word_inputs(told, [word.ids for word in their], parts, sizes[0], tokenizer, sentences)
        new = word_inputs(terms, forms, split, sizes[1], extended, 4 * sentences)
        ids = [word.id for word in their]
        features = _features(encoder, known, ids, new, len(table))
        prior = learn_prior(
            Known(features[0], np.array(ids), outputs[kept], table, [word.token.casefold() for word in told]),
            features[1],
            seed,
        )
        return dataclasses.replace(prior, held_words=kept[prior.held_words])

    key = hashlib.sha256(json.dumps(held_key, default=str).encode()).hexdigest()
    prior = _unpack(encoder.kept(f"prior/{key}", lambda: _pack(learn())))
    places: dict[str, list[int]] = {}  # of all spellings
    for at, word in enumerate(words):
        places.setdefault(word.token.casefold(), []).append(at)

    def named(names: Iterable[str]) -> tuple[int, ...]:
        return tuple(at for name in names for at in places.get(name.casefold(), ()))

    unit = float(table.std(axis=0).mean())
    return Predictor(
        prior,
        WordBank(torch.from_numpy(outputs), torch.from_numpy(prior.precision), unit),
        table,
        np.array(own)[prior.held_words],
        tuple(
            (at, *(k for k in named((words[at].token, *words[at].synonyms)) if k != at))
            for at in prior.held_words.tolist()
        ),
        tuple(named(term.synonyms) for term in terms),
        key,
    )


def teachers(words: Sequence[WordEvidence], terms: Sequence[WordEvidence]) -> np.ndarray:
    """Positions of the known words to learn from; the others would teach little, and are not encoded.

    Those that have what most terms have teach them; where these are enough to teach the other terms too, by what they
    have in common with them, no more are read.
    """
    present = {source: np.array([bool(getattr(word, source)) for word in words]) for source in REQUIRED}
    patterns = Counter(tuple(source for source in REQUIRED if getattr(term, source)) for term in terms)
    taken = np.zeros(len(words), bool)
    for wanted, _ in patterns.most_common():
        able = having(present, usable_sources(present, wanted))
        if (taken & able).sum() < ENOUGH:
            taken |= able
    return np.flatnonzero(taken)


def _of_terms(evidence: Sequence[WordEvidence], plan: VocabularyPlan) -> list[WordEvidence]:
    told = {word.token: word for word in evidence if not word.known}
    missing = [term for term in plan.terms if term not in told]
    if missing:
        raise InputError(
            f"the pairs know nothing of {missing[0]!r}" + (f" and {len(missing) - 1} more" if missing[1:] else ""),
            hint="give train the --terms, --model and --token-mode of gen-pairs",
        )
    return [told[term] for term in plan.terms]


def _piece_sizes(tokenizer: PreTrainedTokenizerFast, words: Sequence[Ids]) -> list[Ids]:
    """How many characters each piece of each word covers, by the tokens' own strings."""
    strings = (tokenizer.convert_ids_to_tokens(list(pieces)) for pieces in words)
    return [tuple(len(token.removeprefix("##").lstrip("▁Ġ")) for token in tokens) for tokens in strings]


def _features(
    encoder: FrozenEncoder, known: Sequence[WordInput], ids: Sequence[int], new: Sequence[WordInput], vocabulary: int
) -> tuple[Features, Features]:
    weights = bag_weights(known, vocabulary)
    evidence = EvidenceEncoder(encoder)
    return (
        evidence.features(known, weights, "Reading about known words", ids),
        evidence.features(new, weights, "Reading about new terms"),
    )


def _pack(prior: Prior) -> dict[str, np.ndarray]:
    arrays = {f"{part}.{name}": getattr(getattr(prior, part), name)
              for part in ("new", "held") for name in Predicted.__dataclass_fields__}  # fmt: skip
    arrays |= {name: getattr(prior, name) for name in ("held_words", "precision", "mean")}
    return arrays | {"story": np.array(json.dumps(prior.story))}


def _unpack(arrays: Mapping[str, np.ndarray]) -> Prior:
    new, held = (
        Predicted(*(arrays[f"{part}.{name}"] for name in Predicted.__dataclass_fields__)) for part in ("new", "held")
    )
    held_words, precision, mean = (arrays[name] for name in ("held_words", "precision", "mean"))
    return Prior(new, held, held_words, precision, mean, json.loads(str(arrays["story"])))
