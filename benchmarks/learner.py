"""The steps of train's predictor one by one, on words whose true rows are known: read, learn, place, rank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.hidden_words import Lesson
from contrastok.bank import FrozenEncoder
from contrastok.console import Console
from contrastok.eval.recovery import train_config
from contrastok.eval.recovery_figures import Space, Standing, centred, stand
from contrastok.evidence import read_evidence
from contrastok.fit import Known
from contrastok.hiding import HiddenWord
from contrastok.map_rows import MapSettings, WordObjective, map_rows
from contrastok.models import input_embedding, load_model
from contrastok.prior import Prior, learn_prior
from contrastok.vocabulary import extend_tokenizer, plan_vocabulary
from contrastok.words import Reading, Words

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


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
        tokenizer = self.model.tokenizer
        plan = plan_vocabulary(tokenizer, [word.word for word in prepared.hidden.words], options.token_mode)
        encoder = FrozenEncoder(self.model, tokenizer, console=console)
        evidence = read_evidence(prepared.pairs) or ()
        self.words = Words(evidence, plan, extend_tokenizer(tokenizer, plan), encoder)
        gold = {word.word: word for word in prepared.hidden.words}
        self.space, self.mean = _gold_space(load_model(prepared.model), [gold[term] for term in plan.terms])

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
        words = self.words
        objective = WordObjective(prior.new, words.bank(prior), settings, words.synonyms(), self.model.device)
        return map_rows(self.model, words.tokenizer, objective, self.console).numpy()  # type: ignore[no-any-return]

    def stand(self, rows: np.ndarray) -> Standing:
        """Where the gold rows stand, seen from learned rows `[n, d]`."""
        return stand(self.space, centred(rows, self.mean), [set() for _ in rows])


def _gold_space(model: SentenceTransformer, words: Sequence[HiddenWord]) -> tuple[Space, np.ndarray]:
    """All rows of the model that knows the words, centred, and their mean, `[d]`."""
    table = input_embedding(model).weight.detach().float().cpu().numpy()[: len(model.tokenizer)]
    mean = table.mean(axis=0)
    return Space(centred(table, mean), [word.id for word in words], [word.ids for word in words]), mean
