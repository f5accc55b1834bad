"""One map from evidence to row: a ridge and a kernel regression, mixed as words left out of them say is best."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from contrastok.features import Features
from contrastok.regression import Design, Kernel, Ridge, ledoit_wolf

MIN_WORDS = 500
"""Known words with the same sources that a fit needs; with fewer, a source is left out."""
HELD_OUT = 400
"""Known words that no fit sees: they show how good it is, and choose what comes after it."""
JUDGES = 1_500
"""Known words that choose the settings of a fit, each by what the fit says of it when it is left out."""
FEW_JUDGES = 200
"""With fewer words that have as many sentences as the new ones, all may judge."""
RIDGES = (10.0, 30.0, 100.0, 300.0)
"""Ridge penalties to choose from, for blocks of mean square 1."""
KERNEL_WORDS = 6_000
"""Known words in the kernel regression: its matrix grows with the square."""
KERNEL_WIDTH, KERNEL_PENALTY = 0.5, 0.8
MIXES = (0.0, 0.25, 0.5, 1.0)
"""Weights of the kernel beside the ridge."""
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
        table: rows that a word could be mistaken for, float32 `[V, d]`: those of all tokens.
        keys: their spellings without case: words that share one are held out together, or "Cat" would teach "cat".
    """

    features: Features
    ids: np.ndarray
    outputs: np.ndarray
    table: np.ndarray
    keys: Sequence[str]


@dataclass(frozen=True)
class Predicted:
    """What a map says about `n` words.

    Attributes:
        rows: means, float32 `[n, d]`.
        outputs: expected unit outputs of the isolated words, float32 `[n, dim]`.
        scale: factor on the shared covariance for each word, by the number of its sentences, float32 `[n]`.
        agreement: cosine between what ridge and kernel say, float32 `[n]`.
    """

    rows: np.ndarray
    outputs: np.ndarray
    scale: np.ndarray
    agreement: np.ndarray

    def take(self, words: np.ndarray | slice) -> Predicted:
        """Some of the words, or all in another order."""
        return Predicted(self.rows[words], self.outputs[words], self.scale[words], self.agreement[words])


def having(present: Mapping[str, np.ndarray], sources: Iterable[str]) -> np.ndarray:
    """Which words have all of the sources, bool `[n]`."""
    flags = np.ones(len(next(iter(present.values()))), bool)
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


class Fit:
    """One map, for words that have the same sources.

    Three kinds of words: those that are fitted on; some of these that choose the settings, each by what a fit without
    it says of it (leave-one-out, in closed form); and those held out of everything, which show the errors.

    Args:
        known: the words.
        sources: what every word of this fit has, beside its form.
        seed: draws the words that are held out, and those that choose.
        like: sentences that a word must have to choose: as many as the new words have, for what is little known needs
            a stiffer map.

    Attributes:
        held_words, fitted: positions of the words held out and of those fitted on, int64 `[h]`, `[n]`.
        held: what the map says of them.
        precision: inverse of the residual covariance, float32 `[d, d]`.
        error: mean squared distance of a prediction from the gold row.
        story: what was chosen, and the figures that chose it.
    """

    def __init__(self, known: Known, sources: Sequence[str], seed: int, like: int = 0) -> None:
        self.known = known
        pool = np.flatnonzero(having(known.features.present, sources))
        self.mean, self.width = known.table.mean(0), known.table.shape[1]
        generator = np.random.default_rng([seed, len(pool)])
        self.held_words, self.fitted = _hold_out(generator.permutation(pool), known.keys)
        fitted = self.fitted
        self.spread = float(np.linalg.norm(known.table[known.ids[fitted]] - self.mean, axis=1).mean())
        self.center = known.outputs[fitted].mean(0)
        features, targets = known.features.take(fitted), self._targets(fitted)
        optional = [s for s in OPTIONAL if features.present[s].sum() >= MIN_WORDS // 5]
        self.design = Design(features, ("form", *sources), optional)
        near = np.linspace(0, len(fitted) - 1, min(len(fitted), KERNEL_WORDS)).astype(int)  # whom the kernel knows
        alike = np.flatnonzero(features.sentences[near] >= like)
        chosen = np.sort(generator.permutation(alike if len(alike) >= FEW_JUDGES else len(near))[:JUDGES])
        gold = known.ids[fitted[near[chosen]]]
        best = self._choose_ridge(features, targets, near[chosen], gold)
        linear = self.ridge.left_out(torch.from_numpy(near[chosen]))
        self.kernel = Kernel(self._weighted(features.take(near)), targets[near], KERNEL_WIDTH, KERNEL_PENALTY)
        other = self.kernel.left_out(torch.from_numpy(chosen))
        self.lengths = [float(linear[:, c].norm(dim=1).mean() / other[:, c].norm(dim=1).mean().clamp_min(1e-9))
                        for c in self._halves()]  # fmt: skip
        mixes = [self._recovery(self._mixed(linear, other, mix), gold) for mix in MIXES]
        self.mix = MIXES[int(np.argmax(mixes))]
        self.scales = np.ones(len(BUCKETS), np.float32)
        self._measure_errors(features, targets)
        self.held = self.predict(known.features.take(self.held_words))
        self.story = {
            "mrr": self._recovery(torch.from_numpy(self.held.rows - self.mean), known.ids[self.held_words]),
            "left_out_mrr": max(mixes),
            "left_out_ridge_mrr": best,
            "known_words": len(pool),
            "held_out": len(self.held_words),
            "ridge": self.penalty,
            "mix": self.mix,
        }

    def _choose_ridge(self, features: Features, targets: torch.Tensor, judges: np.ndarray, gold: np.ndarray) -> float:
        """Fit the ridge whose penalty brings back most of the judges; how much it brings back."""
        x, at = self.design.linear(features), torch.from_numpy(judges)
        gram, best = x.T @ x, -1.0
        for penalty in RIDGES:
            ridge = Ridge(x, targets, penalty, gram)
            score = self._recovery(ridge.left_out(at), gold)
            if score > best:  # the others are not kept: each holds a matrix as large as the features
                best, self.ridge, self.penalty = score, ridge, penalty
        return best

    def _recovery(self, predicted: torch.Tensor, gold: np.ndarray) -> float:
        """Mean reciprocal rank of gold rows."""
        ranks = gold_ranks(predicted[:, : self.width].numpy() + self.mean, gold, self.known.table, self.mean)
        return float(np.mean(1 / ranks))

    def _measure_errors(self, features: Features, targets: torch.Tensor) -> None:
        """Covariance and its factors from leave-one-out errors, brought to the size of the held-out ones."""
        errors = (targets - self.ridge.left_out(torch.arange(len(targets))))[:, : self.width]
        told = self.predict(self.known.features.take(self.held_words)).rows
        held = told - self.known.table[self.known.ids[self.held_words]]
        self.error = float(np.square(held).sum(1).mean())
        ratio = self.error / float(errors.square().sum(1).mean())
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
        linear = self.ridge.predict(self.design.linear(features))
        other = self.kernel.predict(self._weighted(features))
        mixed = self._mixed(linear, other, self.mix)
        rows = F.normalize(mixed[:, : self.width], dim=1) * self.spread
        outputs = F.normalize(mixed[:, self.width :] + torch.from_numpy(self.center), dim=1)
        agreement = F.cosine_similarity(linear[:, : self.width], other[:, : self.width])
        scale = self.scales[_bucket(features.sentences)]
        return Predicted(rows.numpy() + self.mean, outputs.numpy(), scale, agreement.numpy())

    def _mixed(self, linear: torch.Tensor, other: torch.Tensor, mix: float) -> torch.Tensor:
        """Ridge and kernel, whose halves are brought to the lengths that the ridge's have for words left out."""
        halves = zip(self._halves(), self.lengths, strict=True)
        return torch.cat([linear[:, c] + mix * length * other[:, c] for c, length in halves], dim=1) / (1 + mix)

    def _halves(self) -> tuple[slice, slice]:
        """The columns of rows and those of outputs."""
        return slice(None, self.width), slice(self.width, None)

    def _weighted(self, features: Features) -> torch.Tensor:
        return self.design.weighted(features, KERNEL_BLOCKS)

    def _targets(self, words: np.ndarray) -> torch.Tensor:
        """Centred rows and outputs of known words side by side, `[n, d + dim]`."""
        rows = self.known.table[self.known.ids[words]] - self.mean
        outputs = self.known.outputs[words] - self.center
        return torch.from_numpy(np.concatenate([rows, outputs], axis=1))


def fit_cost(words: int, width: int, dim: int) -> tuple[float, float]:
    """What a fit costs: floating-point operations, and bytes at its peak.

    Args:
        words: known words.
        width: of a row.
        dim: of an output.
    """
    columns, near = 11 * width + 5 * dim, min(words, KERNEL_WORDS)  # blocks of rows and states, blocks of outputs
    operations = 4 * words * columns**2 + len(RIDGES) * columns**3 / 3 + 3 * near**3
    return operations, 4.0 * (3 * words * columns + 3 * columns**2 + 2 * near**2)


def _hold_out(drawn: np.ndarray, keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The first words of `drawn`, and in ascending order those of the rest that are no other spelling of them."""
    count = min(HELD_OUT, len(drawn) // 5)
    out = {keys[at] for at in drawn[:count]}
    return drawn[:count], np.sort([at for at in drawn[count:] if keys[at] not in out])


def _bucket(sentences: np.ndarray) -> np.ndarray:
    return np.searchsorted(BUCKETS, sentences, side="right") - 1  # type: ignore[no-any-return]
