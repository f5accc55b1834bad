"""The words to learn from and the words to learn: who they are, and what the frozen model makes of their evidence."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from contrastok.bank import FrozenEncoder
from contrastok.errors import InputError
from contrastok.evidence import WordEvidence
from contrastok.features import EvidenceEncoder, Features, Ids, WordInput, bag_weights, word_inputs
from contrastok.fit import MIN_WORDS, Known, having
from contrastok.hiding import hidden_alone
from contrastok.map_rows import WordBank
from contrastok.models import input_embedding
from contrastok.prior import REQUIRED, Prior, TooFewWordsError, usable_sources
from contrastok.vocabulary import VocabularyPlan, pieces_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

FORMAT = 4
"""Counted up when a prior of the same evidence would come out otherwise."""

ENOUGH = 10_000
"""Known words from which terms that lack what most terms have learn as well as from more."""


@dataclass(frozen=True)
class Inputs:
    """Evidence as ids.

    Attributes:
        kept: places of the known words that are learned from, ascending, int64 `[k]`.
        ids: their rows in the table, int64 `[k]`.
        known: these words.
        new: the terms.
    """

    kept: np.ndarray
    ids: np.ndarray
    known: Sequence[WordInput]
    new: Sequence[WordInput]


@dataclass(frozen=True)
class Reading:
    """Evidence as numbers.

    Attributes:
        kept: places of the known words that are learned from, ascending, int64 `[k]`.
        known: these words.
        new: evidence of the terms.
    """

    kept: np.ndarray
    known: Known
    new: Features


class Words:
    """The known words that the evidence tells of, each as it is when it alone is hidden, and the plan's terms.

    Args:
        evidence: of terms and known words.
        plan: the new tokens.
        extended: the tokenizer that has them.
        encoder: the frozen model on the tokenizer before.

    Attributes:
        known: evidence of the known words; a place is an index into it.
        hidden: the tokens of these words.
        terms: evidence of the plan's terms, in their order.
        table: rows that have a token, float32 `[V, d]`.

    Raises:
        TooFewWordsError: too few known words.
        InputError: a term without evidence.
        ModelError: the tokenizer's words cannot be hidden.
    """

    def __init__(
        self,
        evidence: Sequence[WordEvidence],
        plan: VocabularyPlan,
        extended: PreTrainedTokenizerFast,
        encoder: FrozenEncoder,
    ) -> None:
        self.plan, self.extended, self.encoder = plan, extended, encoder
        self.tokenizer = encoder.tokenizer
        found = hidden_alone(self.tokenizer, [word.token for word in evidence if word.known])
        self.known = [word for word in evidence if word.known and word.token in found]
        if len(self.known) < MIN_WORDS:
            raise TooFewWordsError(len(self.known))
        self.hidden = [found[word.token] for word in self.known]
        self.terms = _of_terms(evidence, plan)
        self.split = pieces_of(self.tokenizer, plan.terms)
        self.table: np.ndarray = input_embedding(encoder.model).weight.detach().float().cpu().numpy()
        self.table = self.table[: len(self.tokenizer)]
        self._places: dict[str, list[int]] = {}  # of all spellings
        for at, word in enumerate(self.known):
            self._places.setdefault(word.token.casefold(), []).append(at)

    @cached_property
    def outputs(self) -> np.ndarray:
        """Outputs of the isolated known words, float32 `[K, dim]`, norm 1."""
        return self.encoder.encode_words([word.id for word in self.hidden])

    def key(self, seed: int, sentences: int) -> str:
        """Hash of everything that a prior is learned from, the model aside."""
        told = [dataclasses.astuple(word) for word in (*self.terms, *self.known)]
        parts = [FORMAT, seed, sentences, told, self.split]
        return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()

    def read(self, sentences: int) -> Reading:
        """What the frozen model makes of the known words to learn from, and of the terms.

        Args:
            sentences: looked at for each known word; four times as many for each term.
        """
        inputs = self.inputs(sentences)
        weights, reader = bag_weights(inputs.known, len(self.table)), EvidenceEncoder(self.encoder)
        features = reader.features(inputs.known, weights, "Reading about known words", inputs.ids.tolist())
        keys = [self.known[at].token.casefold() for at in inputs.kept]
        return Reading(
            inputs.kept,
            Known(features, inputs.ids, self.outputs[inputs.kept], self.table, keys),
            reader.features(inputs.new, weights, "Reading about new terms"),
        )

    def inputs(self, sentences: int) -> Inputs:
        """The known words to learn from, and the terms, as ids; nothing is encoded.

        Args:
            sentences: see `read`.
        """
        kept = teachers(self.known, self.terms)
        known = self.known_inputs(kept.tolist(), sentences)
        forms = [self.plan.ids_of(term) for term in self.plan.terms]
        new = word_inputs(self.terms, forms, self.split, self._sizes(self.split), self.extended, 4 * sentences)
        return Inputs(kept, np.array([self.hidden[at].id for at in kept]), known, new)

    def known_inputs(self, places: Sequence[int], sentences: int) -> list[WordInput]:
        """Known words as ids, each without its own token.

        Args:
            places: which of them.
            sentences: at most so many of each.
        """
        told, hidden = [self.known[at] for at in places], [self.hidden[at] for at in places]
        pieces, own = [word.pieces for word in hidden], [word.ids for word in hidden]
        return word_inputs(told, own, pieces, self._sizes(pieces), self.tokenizer, sentences)

    def bank(self, prior: Prior) -> WordBank:
        """The negatives of the word stage: all known words."""
        unit = float(self.table.std(axis=0).mean())
        return WordBank(torch.from_numpy(self.outputs), torch.from_numpy(prior.precision), unit)

    def same(self, at: int) -> tuple[int, ...]:
        """A place, and then those of the word's other spellings and synonyms, which are no negatives of it."""
        word = self.known[at]
        return (at, *(k for k in self._named((word.token, *word.synonyms)) if k != at))

    def synonyms(self) -> tuple[tuple[int, ...], ...]:
        """For each term the places of its synonyms."""
        return tuple(self._named(term.synonyms) for term in self.terms)

    def _named(self, names: Iterable[str]) -> tuple[int, ...]:
        return tuple(at for name in names for at in self._places.get(name.casefold(), ()))

    def _sizes(self, words: Sequence[Ids]) -> list[Ids]:
        """How many characters each piece of each word covers, by the tokens' own strings."""
        strings = (self.tokenizer.convert_ids_to_tokens(list(pieces)) for pieces in words)
        return [tuple(len(token.removeprefix("##").lstrip("▁Ġ")) for token in tokens) for tokens in strings]


def teachers(words: Sequence[WordEvidence], terms: Sequence[WordEvidence]) -> np.ndarray:
    """Places of the known words to learn from; the others would teach little, and are not encoded.

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
