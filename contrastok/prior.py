"""The prior: a map from evidence to row, learned on the words that the model already knows.

A model's vocabulary is thousands of solved examples: for each known word there is evidence (as for a new term) and a
row. What the map predicts for a term is the mean of a Gaussian prior over its row, and how wrong it is on known words
is the covariance (empirical Bayes: Robbins 1956; Efron & Morris 1973). À la carte embeddings (Khodak et al. 2018) are
the case of one linear block, the mean of the context's rows.

The map is a ridge regression on standardised blocks plus, where held-out words say that it helps, a kernel regression
on what the texts mean. Both predict the row and the output of the isolated word at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from contrastok.errors import InputError
from contrastok.features import Features
from contrastok.fit import MIN_WORDS, Fit, Known, Predicted, having

REQUIRED = ("definition", "sentences")
"""What tells fits apart: a word has them or it has another fit."""
LEAST_HELD = 50
"""Held-out words of a fit that few terms stand on."""


@dataclass(frozen=True)
class Prior:
    """A fitted map, applied.

    Attributes:
        new: for the words asked about.
        held: for known words that no fit saw, `h` of them, each by a fit's sources; first those of the chief fit, which
            most of the new words stand on.
        held_words: their positions among the known words, int64 `[h]`; a word may stand there for several fits.
        precision: inverse of the residual covariance of the chief fit, float32 `[d, d]`; `scale` says how much wider
            it is for a word of another fit.
        mean: mean row of the table, float32 `[d]`.
        story: for each set of sources what was chosen, and the figures that chose it.
    """

    new: Predicted
    held: Predicted
    held_words: np.ndarray
    precision: np.ndarray
    mean: np.ndarray
    story: Mapping[str, Any]


def learn_prior(known: Known, new: Features, seed: int) -> Prior:
    """Learn evidence -> row on known words and apply it to new ones.

    New words that lack a source (no definition, no sentence) get a map that was fitted without it: nothing that is
    missing is taken for a zero.

    Args:
        known: the words to learn from.
        new: evidence of the words to predict.
        seed: draws the held-out words.

    Raises:
        TooFewWordsError: see `usable_sources`.
    """
    groups: dict[tuple[str, ...], list[int]] = {}
    for row in range(len(new)):
        wanted = [source for source in REQUIRED if new.present[source][row]]
        groups.setdefault(usable_sources(known.features.present, wanted), []).append(row)
    by_size = sorted(groups.items(), key=lambda group: -len(group[1]))  # the first is the chief: most words stand on it
    told: list[Predicted] = []
    held: list[Predicted] = []
    held_words, stories = [], {}
    for sources, rows in by_size:
        like = min(int(np.median(new.sentences[rows])), int(known.features.sentences.max()))
        fit = Fit(known, sources, seed, like)
        if not told:
            chief_error, precision, mean = fit.error, fit.precision, fit.mean
        wider = fit.error / chief_error
        told.append(_scaled(fit.predict(new.take(np.array(rows))), wider))
        share = max(LEAST_HELD, len(fit.held_words) * len(rows) // len(by_size[0][1]))  # as common as such terms are
        held.append(_scaled(fit.held, wider).take(slice(share)))
        held_words.append(fit.held_words[:share])
        stories["+".join(("form", *sources))] = fit.story
    order = np.argsort(np.concatenate([rows for _, rows in by_size]))
    return Prior(_join(told, order), _join(held), np.concatenate(held_words), precision, mean, stories)


def _scaled(predicted: Predicted, factor: float) -> Predicted:
    """The same with a covariance so many times as wide."""
    return replace(predicted, scale=(predicted.scale * factor).astype(np.float32))


def _join(parts: Sequence[Predicted], order: np.ndarray | slice = slice(None)) -> Predicted:
    """Parts one after another, then in another order."""
    names = [field.name for field in fields(Predicted)]
    return Predicted(*(np.concatenate([getattr(part, name) for part in parts]) for name in names)).take(order)


def usable_sources(present: Mapping[str, np.ndarray], wanted: Sequence[str]) -> tuple[str, ...]:
    """The most of the wanted sources that enough known words have together.

    Args:
        present: source -> bool `[n]`, which known words have it.
        wanted: what a new word has.

    Raises:
        TooFewWordsError: even without any.
    """
    for choice in (tuple(wanted), *((source,) for source in reversed(wanted)), ()):
        if having(present, choice).sum() >= MIN_WORDS:
            return choice
    raise TooFewWordsError(len(present[REQUIRED[0]]))


class TooFewWordsError(InputError):
    """A predictor cannot be learned: the model's known words have too little evidence."""

    def __init__(self, count: int) -> None:
        super().__init__(
            f"there is evidence of {count} words that the model knows; to learn a predictor {MIN_WORDS} are needed",
            hint="--init charlen_mean needs none; a larger --corpus for gen-pairs gives more",
        )
