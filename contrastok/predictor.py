"""From what gen-pairs wrote to a prior: learn from known words, predict new rows, and keep what was learned."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from contrastok.bank import FrozenEncoder
from contrastok.evidence import WordEvidence
from contrastok.features import WordInput
from contrastok.fit import MIN_WORDS, Predicted
from contrastok.map_rows import WordBank
from contrastok.prior import Prior, learn_prior
from contrastok.vocabulary import VocabularyPlan
from contrastok.words import Words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


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
        held_inputs: the texts of the held-out words, all that gen-pairs kept.
        synonyms: for each new term the places in the bank of its synonyms.
        key: hash of everything that it was learned from, the model aside.
    """

    prior: Prior
    bank: WordBank
    table: np.ndarray
    gold: np.ndarray
    held_bank: tuple[tuple[int, ...], ...]
    held_inputs: tuple[WordInput, ...]
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
    words = Words(evidence, plan, extended, encoder)
    key = words.key(seed, sentences)

    def learn() -> Prior:
        reading = words.read(sentences)
        prior = learn_prior(reading.known, reading.new, seed)
        return dataclasses.replace(prior, held_words=reading.kept[prior.held_words])

    prior = _unpack(encoder.kept(f"prior/{key}", lambda: _pack(learn())))
    held = prior.held_words.tolist()
    most = max(len(word.sentences) for word in words.known)
    return Predictor(
        prior,
        words.bank(prior),
        words.table,
        np.array([words.hidden[at].id for at in held]),
        tuple(words.same(at) for at in held),
        tuple(words.known_inputs(held, most)),
        words.synonyms(),
        key,
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
