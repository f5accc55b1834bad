"""The steps of train's predictor one by one, on words whose true rows are known: read, learn, place, rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from benchmarks.hidden_words import Lesson
from contrastok.bank import FrozenEncoder
from contrastok.console import Console
from contrastok.eval.recovery import train_config
from contrastok.eval.recovery_figures import Space, Standing, centred, stand
from contrastok.evidence import read_evidence
from contrastok.features import EvidenceEncoder, Features, Ids, WordInput, bag_weights, word_inputs
from contrastok.fit import Known
from contrastok.hiding import HiddenWord, hide_words, independent_groups
from contrastok.map_rows import MapSettings, WordBank, WordObjective, map_rows
from contrastok.models import input_embedding, load_model
from contrastok.predictor import teachers
from contrastok.prior import Prior, learn_prior
from contrastok.vocabulary import extend_tokenizer, normalise, piece_lengths, plan_vocabulary

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class Reading:
    """Evidence as numbers.

    Attributes:
        known: the words to learn from.
        new: evidence of the words that were hidden.
    """

    known: Known
    new: Features


class Learner:
    """What train would learn the rows of the hidden words from.

    Args:
        lesson: the model without the words, and the pairs; its cache must be in use as long as this is.
        console: shows progress.
    """

    def __init__(self, lesson: Lesson, console: Console) -> None:
        self.console = console
        prepared, options = lesson.prepared, train_config(lesson.config, lesson.work)
        self.sentences, self.seed = options.evidence_sentences, options.seed
        self.model = load_model(str(prepared.base))
        self.tokenizer = self.model.tokenizer
        self.encoder = FrozenEncoder(self.model, self.tokenizer, console=console)
        self.table = _rows(self.model)
        self.plan = plan_vocabulary(self.tokenizer, [word.word for word in prepared.hidden.words], options.token_mode)
        evidence = read_evidence(prepared.pairs) or ()
        told = {word.token: word for word in evidence if not word.known}
        self.terms = [told[term] for term in self.plan.terms]
        found = _apart(self.tokenizer, [word.token for word in evidence if word.known])
        self.words = [word for word in evidence if word.known and word.token in found]
        self.hidden, self.lengths = zip(*(found[word.token] for word in self.words), strict=True)
        self.outputs = self.encoder.encode_words([word.id for word in self.hidden])
        gold = {word.word: word for word in prepared.hidden.words}
        self.space, self.mean = _gold_space(prepared.model, [gold[term] for term in self.plan.terms])

    def read(self, sentences: int) -> Reading:
        """The features of the known words that train learns from, and of the new ones.

        Args:
            sentences: looked at for each known word; four times as many for each new one.
        """
        kept = teachers(self.words, self.terms)
        known, new = self._known_inputs(kept, sentences), self._new_inputs(4 * sentences)
        ids, weights = [self.hidden[k].id for k in kept], bag_weights(known, len(self.table))
        reader = EvidenceEncoder(self.encoder)
        features = reader.features(known, weights, "Reading about known words", ids)
        keys = [self.words[k].token.casefold() for k in kept]
        return Reading(
            Known(features, np.array(ids), self.outputs[kept], self.table, keys),
            reader.features(new, weights, "Reading about new words"),
        )

    def _known_inputs(self, kept: np.ndarray, sentences: int) -> list[WordInput]:
        hidden = [self.hidden[k] for k in kept]
        return word_inputs(
            [self.words[k] for k in kept],
            [word.ids for word in hidden],
            [word.pieces for word in hidden],
            [self.lengths[k] for k in kept],
            self.tokenizer,
            sentences,
        )

    def _new_inputs(self, sentences: int) -> list[WordInput]:
        split = [piece_lengths(self.tokenizer, term) for term in self.plan.terms]
        return word_inputs(
            self.terms,
            [self.plan.ids_of(term) for term in self.plan.terms],
            [tuple(i for i, _ in parts) for parts in split],
            [tuple(length for _, length in parts) for parts in split],
            extend_tokenizer(self.tokenizer, self.plan),
            sentences,
        )

    def learn(self, reading: Reading, rows: np.ndarray | None = None) -> Prior:
        """The prior of the new words.

        Args:
            reading: evidence of all words.
            rows: positions of the known words to learn from, ascending; all by default.
        """
        known = reading.known
        if rows is not None:
            keys = [known.keys[row] for row in rows]
            known = Known(known.features.take(rows), known.ids[rows], known.outputs[rows], known.table, keys)
        return learn_prior(known, reading.new, self.seed)

    def place(self, prior: Prior, settings: MapSettings) -> np.ndarray:
        """The rows after the word stage, float32 `[n, d]`."""
        unit = float(self.table.std(axis=0).mean())
        bank = WordBank(torch.from_numpy(self.outputs), torch.from_numpy(prior.precision), unit)
        objective = WordObjective(prior.new, bank, settings, self.synonyms, self.model.device)
        return map_rows(self.model, self.tokenizer, objective, self.console).numpy()  # type: ignore[no-any-return]

    def stand(self, rows: np.ndarray) -> Standing:
        """Where the gold rows stand, seen from learned rows `[n, d]`."""
        return stand(self.space, centred(rows, self.mean), [set() for _ in self.terms])

    @cached_property
    def synonyms(self) -> tuple[tuple[int, ...], ...]:
        """For each new word the places of its synonyms among the known words, which are no negatives of it."""
        places: dict[str, list[int]] = {}
        for at, word in enumerate(self.words):
            places.setdefault(word.token.casefold(), []).append(at)
        return tuple(
            tuple(at for name in term.synonyms for at in places.get(name.casefold(), ())) for term in self.terms
        )


def _rows(model: SentenceTransformer) -> np.ndarray:
    """The rows that a token has, float32 `[V, d]`."""
    rows: np.ndarray = input_embedding(model).weight.detach().float().cpu().numpy()[: len(model.tokenizer)]
    return rows


def _apart(tokenizer: PreTrainedTokenizerFast, words: Sequence[str]) -> dict[str, tuple[HiddenWord, Ids]]:
    """Each word as it is when it alone is hidden, and the characters that each of its pieces covers."""
    found = {}
    for group in independent_groups(words, lambda word: normalise(tokenizer.backend_tokenizer, word)):
        without, hidden = hide_words(tokenizer, group)
        for word in hidden.words:
            found[word.word] = word, tuple(length for _, length in piece_lengths(without, word.word))
    return found


def _gold_space(model: str, words: Sequence[HiddenWord]) -> tuple[Space, np.ndarray]:
    """All rows of the model that knows the words, centred, and their mean, `[d]`."""
    table = _rows(load_model(model))
    mean = table.mean(axis=0)
    return Space(centred(table, mean), [word.id for word in words], [word.ids for word in words]), mean
