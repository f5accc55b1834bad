"""The word stage: place each row by its isolated token, against the whole vocabulary, held by the prior.

For each word the maximum a posteriori row of

    InfoNCE(output of the isolated token; key = the output that the prior expects; negatives = the vocabulary's outputs)
    + weight / 2 * (e - f)' S^-1 (e - f)

with f and S the prior's mean and covariance. The key is mapped: a definition's output is not its word's output, so what
known words taught stands in its place. Without the second term the first walks off the vocabulary's manifold.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from contrastok.bank import collate, special_frame
from contrastok.console import Console
from contrastok.embedding import RowOverlay
from contrastok.fit import Predicted
from contrastok.kernels.info_nce import info_nce
from contrastok.models import input_embedding, transformer

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedTokenizerFast

CHUNK = 256
"""Words placed at once. Each row's loss is its own, so this changes speed and memory only."""
SAME = 0.9
"""Outputs of known words this close (cosine) to a key mean the same and are no negatives."""
EPSILON = 1e-12
"""Adam's epsilon: gradients on rows are tiny."""


@dataclass(frozen=True)
class MapSettings:
    """What calibration chooses.

    Attributes:
        temperature: of InfoNCE.
        prior_weight: of the Mahalanobis distance to the prior's mean.
        steps: of Adam, with a rate that falls linearly to zero; with 0 there is no contrast, only the prior.
        rate: Adam's step, in mean per-coordinate standard deviations of the table.
        noise: standard deviation, in the same unit, of what is added to a row before each look at it: a place that is
            good for its neighbourhood too.
    """

    temperature: float = 0.05
    prior_weight: float = 0.01
    steps: int = 20
    rate: float = 0.1
    noise: float = 0.0


@dataclass(frozen=True)
class WordBank:
    """The frozen outputs that words are told apart from.

    Attributes:
        outputs: of the isolated known words, unit vectors, float32 `[K, dim]`.
        precision: of the prior, float32 `[d, d]`.
        unit: mean per-coordinate standard deviation of the table's rows.
    """

    outputs: torch.Tensor
    precision: torch.Tensor
    unit: float


def mahalanobis(rows: torch.Tensor, mean: torch.Tensor, scale: torch.Tensor, precision: torch.Tensor) -> torch.Tensor:
    """Half the squared Mahalanobis distance of each row to its prior, `[n]`.

    Args:
        rows, mean: `[n, d]`.
        scale: factor on each row's covariance, `[n]`.
        precision: inverse of the shared covariance, `[d, d]`.
    """
    away = rows - mean
    return 0.5 * ((away @ precision) * away).sum(-1) / scale


class WordObjective:
    """The loss of rows by their isolated tokens: InfoNCE against the vocabulary, and the prior.

    Args:
        predicted: what the prior says of each word.
        bank: negatives, and the prior's covariance.
        settings: temperature and weight.
        masked: for each word, positions in the bank that are no negatives of it: itself and its synonyms.
        device: of the model.
    """

    def __init__(
        self,
        predicted: Predicted,
        bank: WordBank,
        settings: MapSettings,
        masked: Sequence[Sequence[int]],
        device: torch.device,
    ) -> None:
        self.settings, self.masked, self.unit = settings, masked, bank.unit
        self.mean = torch.from_numpy(predicted.rows).to(device)
        self.scale = torch.from_numpy(predicted.scale).to(device)
        self.precision = bank.precision.to(device)
        self.keys = torch.cat([torch.from_numpy(predicted.outputs), bank.outputs]).to(device)

    def noise(self, step: int, index: torch.Tensor) -> torch.Tensor:
        """What is added to some words' rows at a step, `[m, d]`: the same whichever words are asked for together."""
        drawn = torch.randn(self.mean.shape, generator=torch.Generator().manual_seed(step))
        return self.settings.noise * self.unit * drawn.to(self.mean.device)[index]

    def mask(self, index: torch.Tensor) -> torch.Tensor:
        """Which keys are no negatives of some words, bool `[m, n + K]`."""
        mask: torch.Tensor = self.keys[index] @ self.keys.T > SAME
        for place, word in enumerate(index.tolist()):
            mask[place, [len(self.mean) + position for position in self.masked[word]]] = True
        return mask

    def __call__(
        self, queries: torch.Tensor, rows: torch.Tensor, index: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """The mean loss of some words; a scalar.

        Args:
            queries: unit outputs of their isolated tokens, `[m, dim]`.
            rows: their rows, `[m, d]`.
            index: which words they are, int64 `[m]`.
            mask: `mask(index)`.
        """
        held = mahalanobis(rows, self.mean[index], self.scale[index], self.precision)
        if not self.settings.steps:  # calibration found that the contrast does harm here
            return self.settings.prior_weight * held.mean()
        contrast, _ = info_nce(queries, self.keys, index, mask, self.settings.temperature)
        return (contrast + self.settings.prior_weight * held).mean()


def map_rows(
    model: SentenceTransformer, tokenizer: PreTrainedTokenizerFast, objective: WordObjective, console: Console
) -> torch.Tensor:
    """The rows that maximise the posterior, from the prior's mean.

    Args:
        model: the frozen model, without an overlay; it is as before afterwards.
        tokenizer: before extension.
        objective: the words and the settings.
        console: shows progress.

    Returns:
        float32 `[n, d]` on the CPU.
    """
    settings, words = objective.settings, torch.arange(len(objective.mean), device=objective.mean.device)
    done = []
    for index in console.track(torch.split(words, CHUNK), "Placing words", total=-(-len(words) // CHUNK)):
        mask = objective.mask(index)
        with isolated(model, tokenizer, objective.mean[index]) as (overlay, features):
            optimizer = torch.optim.Adam([overlay.rows], lr=1.0, eps=EPSILON)
            for step in range(settings.steps):
                optimizer.param_groups[0]["lr"] = settings.rate * objective.unit * (1 - step / settings.steps)
                noise = objective.noise(step, index) if settings.noise else torch.zeros(())
                overlay.rows.data += noise
                queries = F.normalize(model(dict(features))["sentence_embedding"].float(), dim=-1)
                optimizer.zero_grad()
                torch.autograd.backward(objective(queries, overlay.rows - noise, index, mask))
                overlay.rows.data -= noise
                optimizer.step()
        done.append(overlay.rows.detach().cpu())
    return torch.cat(done)


@contextlib.contextmanager
def overlaid(model: SentenceTransformer, rows: torch.Tensor) -> Iterator[tuple[RowOverlay, int]]:
    """The model with rows behind ids that its table does not have: the overlay, and the first of these ids.

    The model is as before when the context ends.
    """
    base, body = input_embedding(model), transformer(model)
    first = base.weight.shape[0]
    overlay = RowOverlay(base, rows, range(first, first + len(rows)), range(len(rows)))
    body.set_input_embeddings(overlay)
    try:
        yield overlay, first
    finally:
        body.set_input_embeddings(base)


@contextlib.contextmanager
def isolated(
    model: SentenceTransformer, tokenizer: PreTrainedTokenizerFast, rows: torch.Tensor
) -> Iterator[tuple[RowOverlay, dict[str, torch.Tensor]]]:
    """`overlaid`, and the input that holds each of the rows alone."""
    frame = special_frame(tokenizer)
    with overlaid(model, rows) as (overlay, first):
        yield overlay, collate(tokenizer, [frame([first + k]) for k in range(len(rows))], model.device)


@torch.no_grad()
def outputs_of(model: SentenceTransformer, tokenizer: PreTrainedTokenizerFast, rows: torch.Tensor) -> torch.Tensor:
    """What the model makes of each row alone: unit vectors, float32 `[n, dim]` on the CPU."""
    parts = []
    for part in torch.split(rows, CHUNK):
        with isolated(model, tokenizer, part) as (_, features):
            parts.append(F.normalize(model(features)["sentence_embedding"].float(), dim=-1).cpu())
    return torch.cat(parts)
