"""The prior: a map from evidence to row, learned on the words that the model already knows.

A model's vocabulary is thousands of solved examples: for each known word there is evidence (as for a new term) and a
row. What the map predicts for a term is the mean of a Gaussian prior over its row, and how wrong it is on known words
is the covariance (empirical Bayes: Robbins 1956; Efron & Morris 1973). À la carte embeddings (Khodak et al. 2018) are
the case of one linear block, the mean of the context's rows.

The map is a ridge regression on standardised blocks plus, where held-out words say that it helps, a kernel regression
on what the texts mean. Both predict the row and the output of the isolated word at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from contrastok.errors import InputError
from contrastok.features import Features
from contrastok.regression import Design, Kernel, Ridge, ledoit_wolf

MIN_WORDS = 500
"""Known words with the same sources that a fit needs; with fewer, a source is left out."""
HELD_OUT = 400
"""Known words that choose the settings and the confidence."""
RIDGES = (10.0, 30.0, 100.0)
"""Ridge penalties to choose from, for blocks of mean square 1."""
MEMORIES = (0.5,)
"""How much of a known word's residual the ridge may remember, to choose from beside all of it."""
KERNEL_WORDS = 8_000
"""Known words in the kernel regression: its matrix grows with the square."""
KERNEL_WIDTH, KERNEL_PENALTY, KERNEL_MEMORY = 0.5, 0.4, 0.5
MIXES = (0.5, 1.0)
"""Weights of the kernel beside the ridge to choose from, beside none."""
REQUIRED = ("definition", "sentences")
OPTIONAL = ("synonyms", "broader")
KERNEL_BLOCKS = {
    "definition/output": 0.9,
    "definition/rows": 0.2,
    "sentences/output": 0.75,
    "sentences/state middle": 0.5,
    "sentences/rows": 0.35,
    "form/character length mean": 0.1,
    "synonyms/rows": 0.1,
}
"""What the kernel compares, with the weight of each squared distance."""
BUCKETS = (0, 1, 2, 4, 8)
"""Numbers of sentences from which on a word counts as better known."""


@dataclass(frozen=True)
class Known:
    """The words to learn from, `n` of them.

    Attributes:
        features: their evidence.
        ids: their rows in the table, int64 `[n]`.
        outputs: unit outputs of the isolated words, float32 `[n, dim]`.
        table: rows that a word could be mistaken for, float32 `[V, d]`: those that a token stands for.
    """

    features: Features
    ids: np.ndarray
    outputs: np.ndarray
    table: np.ndarray


@dataclass(frozen=True)
class Predicted:
    """What the prior says about `n` words.

    Attributes:
        rows: means, float32 `[n, d]`.
        outputs: expected unit outputs of the isolated words, float32 `[n, dim]`.
        scale: factor on the shared covariance for each word, by the number of its sentences, float32 `[n]`.
        agreement: cosine between what ridge and kernel say, float32 `[n]`; 1 without a kernel.
    """

    rows: np.ndarray
    outputs: np.ndarray
    scale: np.ndarray
    agreement: np.ndarray


@dataclass(frozen=True)
class Prior:
    """A fitted map, applied.

    Attributes:
        new: for the words asked about.
        held: for known words that the fit behind it did not see, `h` of them.
        held_words: their positions among the known words, int64 `[h]`.
        precision: inverse of the shared residual covariance, float32 `[d, d]`.
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
        InputError: the model knows too few words.
    """
    groups: dict[tuple[str, ...], list[int]] = {}
    for row in range(len(new)):
        wanted = [source for source in REQUIRED if new.present[source][row]]
        groups.setdefault(usable_sources(known.features.present, wanted), []).append(row)
    parts = []
    for sources, rows in groups.items():
        fit = _Fit(known, sources, seed)
        parts.append((np.array(rows), fit.predict(new.take(np.array(rows))), fit))
    order = np.argsort(np.concatenate([rows for rows, _, _ in parts]))
    columns = zip(*(_columns(predicted) for _, predicted, _ in parts), strict=True)
    whole = Predicted(*(np.concatenate(column)[order] for column in columns))
    chief = max(parts, key=lambda part: len(part[0]))[2]  # most of the words stand on it
    stories = {"+".join(("form", *sources)): part[2].story for sources, part in zip(groups, parts, strict=True)}
    return Prior(whole, chief.held, chief.held_words, chief.precision, chief.mean, stories)


def _columns(predicted: Predicted) -> tuple[np.ndarray, ...]:
    return predicted.rows, predicted.outputs, predicted.scale, predicted.agreement


def usable_sources(present: Mapping[str, np.ndarray], wanted: Sequence[str]) -> tuple[str, ...]:
    """The most of the wanted sources that enough known words have together.

    Args:
        present: source -> bool `[n]`, which known words have it.
        wanted: what a new word has.

    Raises:
        InputError: there are too few known words even without any.
    """
    for choice in (tuple(wanted), *((source,) for source in reversed(wanted)), ()):
        if having(present, choice).sum() >= MIN_WORDS:
            return choice
    raise too_few_words(len(present[REQUIRED[0]]))


def too_few_words(count: int) -> InputError:
    """What is raised where a predictor cannot be learned."""
    return InputError(
        f"there is evidence of {count} words that the model knows; to learn a predictor {MIN_WORDS} are needed",
        hint="--init charlen_mean needs none; a larger --corpus for gen-pairs gives more",
    )


def having(present: Mapping[str, np.ndarray], sources: Iterable[str]) -> np.ndarray:
    """Which words have all of the sources, bool `[n]`."""
    flags = np.ones(len(present[REQUIRED[0]]), bool)
    for source in sources:
        flags &= present[source]
    return flags


def gold_ranks(rows: np.ndarray, gold: np.ndarray, table: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Rank of each word's own row among all rows, by centred cosine with what was learned; int64 `[n]`.

    A row that is not finite ranks last.

    Args:
        rows: learned, `[n, d]`.
        gold: positions of the words' own rows in the table, `[n]`.
        table: `[V, d]`.
        mean: what centres both, `[d]`.
    """
    target = F.normalize(torch.from_numpy(table - mean), dim=1)
    scores = F.normalize(torch.from_numpy(rows - mean), dim=1) @ target.T
    own = scores[torch.arange(len(rows)), torch.from_numpy(gold)]
    return (scores.shape[1] + 1 - (scores <= own[:, None]).sum(1)).numpy()  # type: ignore[no-any-return]


@dataclass(frozen=True)
class _Settings:
    """What held-out words choose."""

    ridge: float
    memory: float
    mix: float


class _Fit:
    """One map, for words that have the same sources.

    Held-out words choose the settings and show the errors. They stay out of the fit: a twentieth of the words more
    would change little, and what is said of errors would no longer be true of it.

    Args:
        known: the words.
        sources: what every word of this fit has, beside its form.
        seed: draws the held-out words.
    """

    def __init__(self, known: Known, sources: tuple[str, ...], seed: int) -> None:
        self.known, self.sources = known, sources
        self.pool = np.flatnonzero(having(known.features.present, sources))
        self.mean = known.table.mean(0)
        self.width = known.table.shape[1]
        drawn = np.random.default_rng([seed, len(self.pool)]).permutation(self.pool)
        count = min(HELD_OUT, len(drawn) // 5)
        self.held_words, rest = drawn[:count], np.sort(drawn[count:])  # in an order that says nothing
        self.spread = float(np.linalg.norm(known.table[known.ids[rest]] - self.mean, axis=1).mean())
        self.center = known.outputs[rest].mean(0)
        self.optional = [s for s in OPTIONAL if known.features.present[s][rest].sum() >= MIN_WORDS // 5]
        self.scales = np.ones(len(BUCKETS), np.float32)
        self._choose(rest)

    def _choose(self, rest: np.ndarray) -> None:
        """Fit on `rest`, choose by the held-out words' recovery, measure the errors."""
        features, targets = self.known.features.take(rest), self._targets(rest)
        held = self.known.features.take(self.held_words)
        self.design = Design(features, ("form", *self.sources), self.optional)
        x, asked = self.design.linear(features), self.design.linear(held)
        self.settings = _Settings(RIDGES[0], 1.0, 0.0)
        self.kernel: Kernel | None = None
        best, gram = -1.0, x.T @ x
        for penalty in RIDGES:
            ridge = Ridge(x, targets, penalty, gram)
            score = self._recovery(ridge.predict(asked))
            if score > best:
                best, self.ridge = score, ridge
                self.settings = replace(self.settings, ridge=penalty)
        for memory in MEMORIES:
            score = self._recovery(self.ridge.predict(asked, memory))
            if score > best:
                best, self.settings = score, replace(self.settings, memory=memory)
        linear, figures = self.ridge.predict(asked, self.settings.memory), {"ridge_mrr": best}
        kernel = self._kernel(features, targets)
        other = self._ask(kernel, held)
        self.lengths = [
            float(linear[:, columns].norm(dim=1).mean() / other[:, columns].norm(dim=1).mean().clamp_min(1e-9))
            for columns in self._halves()
        ]
        for mix in MIXES:
            score = self._recovery(self._mixed(linear, other, mix))
            if score > best:
                best, self.kernel, self.settings = score, kernel, replace(self.settings, mix=mix)
        self._measure_errors(features)
        self.held = self.predict(held)
        figures |= {"mrr": best, "known_words": len(self.pool), "held_out": len(self.held_words)}
        self.story = {**figures, **vars(self.settings)}

    def _measure_errors(self, features: Features) -> None:
        """Covariance and its factors from leave-one-out errors, brought to the size of the held-out ones."""
        errors = self.ridge.residuals[:, : self.width]
        held = self.predict(self.known.features.take(self.held_words)).rows - self.known.table[self._gold()]
        ratio = float(np.square(held).sum(1).mean()) / float(errors.square().sum(1).mean())
        self.precision = torch.linalg.inv(ledoit_wolf(errors) * ratio).float().numpy()
        squares, buckets = errors.square().sum(1).numpy(), _bucket(features.sentences)
        counts = np.bincount(buckets, minlength=len(BUCKETS))
        means = np.bincount(buckets, weights=squares, minlength=len(BUCKETS)) / np.maximum(counts, 1)
        for bucket, count in enumerate(counts):
            if count < MIN_WORDS // 10:  # too few to tell: as the words with fewer sentences
                means[bucket] = means[bucket - 1] if bucket else squares.mean()
        self.scales = (means / squares.mean()).astype(np.float32)

    def predict(self, features: Features) -> Predicted:
        """What the map says. Predicted directions get the length that rows of known words have: a regression
        shrinks what it is unsure of, and a short row is another input to the model."""
        linear = self.ridge.predict(self.design.linear(features), self.settings.memory)
        mixed, agreement = linear, torch.ones(len(features))
        if self.kernel is not None:
            other = self._ask(self.kernel, features)
            agreement = F.cosine_similarity(linear[:, : self.width], other[:, : self.width])
            mixed = self._mixed(linear, other, self.settings.mix)
        rows = F.normalize(mixed[:, : self.width], dim=1) * self.spread
        outputs = F.normalize(mixed[:, self.width :] + torch.from_numpy(self.center), dim=1)
        scale = self.scales[_bucket(features.sentences)]
        return Predicted(rows.numpy() + self.mean, outputs.numpy(), scale, agreement.numpy())

    def _mixed(self, linear: torch.Tensor, other: torch.Tensor, mix: float) -> torch.Tensor:
        """Ridge and kernel, whose halves are brought to the lengths that the ridge's have on held-out words."""
        halves = zip(self._halves(), self.lengths, strict=True)
        return torch.cat([linear[:, c] + mix * length * other[:, c] for c, length in halves], dim=1) / (1 + mix)

    def _halves(self) -> tuple[slice, slice]:
        """The columns of rows and those of outputs."""
        return slice(None, self.width), slice(self.width, None)

    def _kernel(self, features: Features, targets: torch.Tensor) -> Kernel:
        step = max(1, -(-len(features) // KERNEL_WORDS))
        rows = np.arange(0, len(features), step)
        z = self.design.weighted(features.take(rows), KERNEL_BLOCKS)
        return Kernel(z, targets[rows], KERNEL_WIDTH, KERNEL_PENALTY)

    def _ask(self, kernel: Kernel, features: Features) -> torch.Tensor:
        return kernel.predict(self.design.weighted(features, KERNEL_BLOCKS), KERNEL_MEMORY)

    def _targets(self, words: np.ndarray) -> torch.Tensor:
        """Centred rows and outputs of known words side by side, `[n, d + dim]`."""
        rows = self.known.table[self.known.ids[words]] - self.mean
        outputs = self.known.outputs[words] - self.center
        return torch.from_numpy(np.concatenate([rows, outputs], axis=1))

    def _gold(self) -> np.ndarray:
        return self.known.ids[self.held_words]  # type: ignore[no-any-return]

    def _recovery(self, predicted: torch.Tensor) -> float:
        """Mean reciprocal rank of the held-out words' gold rows."""
        rows = predicted[:, : self.width].numpy() + self.mean
        return float(np.mean(1 / gold_ranks(rows, self._gold(), self.known.table, self.mean)))


def _bucket(sentences: np.ndarray) -> np.ndarray:
    return np.searchsorted(BUCKETS, sentences, side="right") - 1  # type: ignore[no-any-return]
