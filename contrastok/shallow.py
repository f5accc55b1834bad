"""Training through the first layers of a body: mini-model adaptation (Marchisio et al. 2023, arXiv 2212.10503).

The paper trains a shallow head until masked words come back. Here sentences are compared, so the head is a linear map
from the shallow model's pooled output to the full model's, fitted by ridge regression on texts in original tokens.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from contrastok.bank import FrozenEncoder
from contrastok.errors import ConfigError, InputError, ModelError
from contrastok.models import transformer

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

RIDGES = (1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Ridges that are tried, relative to the mean square of the inputs; the best on texts left out is taken."""
MOST, LEAST = 20_000, 10
"""Texts that the head is fitted on."""


@dataclass(frozen=True)
class Head:
    """A linear map from the shallow model's unit outputs to the full model's.

    Attributes:
        weight: float32 `[d, d]`.
        bias: float32 `[d]`.
        cosine: mean cosine of its output to the full model's on texts that it was not fitted on.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    cosine: float

    def __call__(self, shallow: torch.Tensor) -> torch.Tensor:
        """Unit outputs as the full model might give them, `[A, d]`."""
        return F.normalize(shallow @ self.weight.to(shallow.device) + self.bias.to(shallow.device), dim=-1)


def layer_list(body: nn.Module) -> tuple[nn.Module, str]:
    """Where a body keeps its layers: the module that holds the list, and the list's name.

    Raises:
        ModelError: no list has as many entries as the body's configuration has layers.
    """
    count = body.config.get_text_config().num_hidden_layers  # type: ignore[union-attr, operator]
    for module in body.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == count:
                return module, name
    raise ModelError("its layers were not found", where=type(body).__name__, hint="leave out --layers and --two-stage")


@contextlib.contextmanager
def cut(model: SentenceTransformer, layers: int) -> Iterator[None]:
    """Inside, the body ends after its first layers; 0 leaves it whole.

    Raises:
        ConfigError: the body has fewer.
        ModelError: see `layer_list`.
    """
    if not layers:
        yield
        return
    holder, name = layer_list(transformer(model))
    whole: nn.ModuleList = getattr(holder, name)
    if layers > len(whole):
        raise ConfigError(f"--layers {layers}: the model has {len(whole)}", hint=f"give 1 to {len(whole)}")
    config = transformer(model).config.get_text_config()
    setattr(holder, name, nn.ModuleList(list(whole)[:layers]))
    config.num_hidden_layers = layers
    try:
        yield
    finally:
        setattr(holder, name, whole)
        config.num_hidden_layers = len(whole)


def aligned_head(encoder: FrozenEncoder, texts: Sequence[str], layers: int) -> Head:
    """Fit the head of a shallow model.

    Args:
        encoder: the full model, nothing attached.
        texts: sentences; as many as `MOST` of them are used.
        layers: of the shallow model.

    Raises:
        InputError: too few texts.
        ConfigError, ModelError: see `cut`.
    """
    known = list(dict.fromkeys(texts))[:MOST]
    if len(known) < LEAST:
        raise InputError(f"--layers fits a head on sentences, and there are {len(known)}; {LEAST} are needed")
    full = encoder.encode(known, "Encoding texts").astype(np.float64)
    with cut(encoder.model, layers):
        inner = FrozenEncoder(encoder.model, encoder.tokenizer, cache=encoder.folder is not None)
        shallow = inner.encode(known).astype(np.float64)
    held = np.arange(len(known)) % 5 == 0
    scores = [_cosine(full[held], shallow[held], *_ridge(full[~held], shallow[~held], ridge)) for ridge in RIDGES]
    weight, bias = _ridge(full, shallow, RIDGES[int(np.argmax(scores))])
    return Head(torch.from_numpy(weight).float(), torch.from_numpy(bias).float(), max(scores))


def _ridge(full: np.ndarray, shallow: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """The map that brings `shallow` nearest to `full` in the mean square, both `[N, d]`: weight and bias."""
    x, y = shallow - shallow.mean(0), full - full.mean(0)
    gram = x.T @ x
    weight = np.linalg.solve(gram + ridge * np.trace(gram) / len(gram) * np.eye(len(gram)), x.T @ y)
    return weight, full.mean(0) - shallow.mean(0) @ weight


def _cosine(full: np.ndarray, shallow: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> float:
    guess = shallow @ weight + bias
    return float(((guess * full).sum(1) / np.linalg.norm(guess, axis=1).clip(1e-12)).mean())
