"""What every evaluation prints beside its result: rows that cost nothing to make, and the untouched model.

A figure alone says little. A row drawn at random shows what chance gives, the mean of the pieces what everybody does,
the split word what the user has today without any of this, and the definition's own output what a dictionary gives.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from contrastok.bank import FrozenEncoder
from contrastok.checkpoint import Checkpoint
from contrastok.content import content_ids
from contrastok.eval.index import Array
from contrastok.initializers import InitContext, initial_rows
from contrastok.models import input_embedding
from contrastok.vocabulary import piece_lengths_of

Mask = npt.NDArray[np.bool_]

SPLIT, INITIAL, TRAINED = "split word", "initial", "trained"


@dataclass(frozen=True)
class View:
    """One way to stand for the new tokens.

    Attributes:
        name: a key of ROW_SOURCES or OUTPUT_SOURCES.
        rows: float32 `[n, d]`, in the order of the checkpoint's rows; None for what has an output but no row.
        encoded: output of the isolated token, unit vectors, float32 `[n, d]`.
        present: `[n]`, false for tokens that the view has nothing for (no definition); rows and outputs are NaN there.
    """

    name: str
    rows: Array | None
    encoded: Array
    present: Mask

    @property
    def missing(self) -> int:
        """How many tokens the view has nothing for."""
        return int(np.sum(~self.present))


@dataclass(frozen=True)
class Ground:
    """What a source may look at.

    Attributes:
        checkpoint: the trained model.
        frozen: the untouched model on its original tokens.
        seed: for what is drawn.
        gold: the true rows of the tokens, `[n, d]`, where a word was relearned that the model knows.
        views: keys of ROW_SOURCES that are wanted; all where there are none. Each costs an encoding of everything.
    """

    checkpoint: Checkpoint
    frozen: FrozenEncoder
    seed: int = 0
    gold: Array | None = None
    views: Collection[str] = ()

    @cached_property
    def tokens(self) -> list[Mapping[str, Any]]:
        """The entries of the manifest in the order of their rows."""
        return sorted(self.checkpoint.manifest["tokens"], key=lambda token: token["row"])

    @cached_property
    def old_rows(self) -> Array:
        """The rows that the base tokenizer's entries have, `[V, d]`: neither new ones nor padding."""
        ids = sorted(self.checkpoint.base_tokenizer.get_vocab().values())
        return self.checkpoint.table()[ids]


RowSource = Callable[[Ground], Array | None]
"""Gives rows `[n, d]`, NaN for tokens that it has none for; None when it has none at all."""


def split_word(ground: Ground) -> Array:
    """The untouched model, which splits the word."""
    return ground.frozen.encode([token["token"] for token in ground.tokens])


def encoded_gloss(ground: Ground) -> Array:
    """The untouched model's output for the definition."""
    found = ground.frozen.encode([token["definition"] for token in ground.tokens])
    found[[not token["definition"] for token in ground.tokens]] = np.nan
    return found


def random_rows(ground: Ground) -> Array:
    """Drawn from N(mean, covariance) of the vocabulary's rows, which is how added rows are usually filled."""
    old = ground.old_rows.astype(np.float64)
    generator = np.random.default_rng(ground.seed)
    drawn = generator.multivariate_normal(old.mean(0), np.cov(old.T), len(ground.tokens), method="eigh")
    return drawn.astype(np.float32)


def pieces_mean(ground: Ground) -> Array:
    """The mean of the rows of the word's pieces (the initialiser `subtoken_mean`)."""
    terms = tuple(token["token"] for token in ground.tokens)
    spans = piece_lengths_of(ground.checkpoint.base_tokenizer, terms)
    context = InitContext(
        table=input_embedding(ground.checkpoint.model).weight,
        terms=terms,
        pieces=tuple(tuple(i for i, _ in span) for span in spans),
        lengths=tuple(tuple(length for _, length in span) for span in spans),
        seed=ground.seed,
    )
    rows: Array = initial_rows("subtoken_mean", context).cpu().numpy()
    return rows


def gloss_mean(ground: Ground) -> Array:
    """The mean of the rows of the definition's content words."""
    table = ground.checkpoint.table()
    found = content_ids(ground.checkpoint.base_tokenizer, [token["definition"] for token in ground.tokens])
    empty = np.full(table.shape[1], np.nan, dtype=np.float32)
    return np.stack([table[ids].mean(axis=0) if ids else empty for ids in found])


ROW_SOURCES: dict[str, RowSource] = {
    "random": random_rows,
    "pieces mean": pieces_mean,
    "gloss mean": gloss_mean,
    INITIAL: lambda ground: ground.checkpoint.initial_rows,
    TRAINED: lambda ground: ground.checkpoint.rows,
    "oracle": lambda ground: ground.gold,
}
"""Views that have a row, worst first; "oracle" only where the true rows are given, "initial" where they are known."""

OUTPUT_SOURCES: dict[str, Callable[[Ground], Array]] = {SPLIT: split_word, "encode(gloss)": encoded_gloss}
"""Views that only have an output, by the untouched model."""


def baseline_views(
    checkpoint: Checkpoint,
    frozen: FrozenEncoder,
    *,
    seed: int,
    gold: Array | None = None,
    wanted: Collection[str] = (),
) -> dict[str, View]:
    """Every view of a checkpoint's tokens, the split word first.

    Args:
        checkpoint: the trained model; it is as before when this returns.
        frozen: the untouched model on its original tokens.
        seed: of the random rows.
        gold: the true rows of the tokens, `[n, d]`, for the view "oracle".
        wanted: of the views that have a row those that are made; all where there are none.
    """
    ground = Ground(checkpoint, frozen, seed, gold, wanted)
    outputs = {name: source(ground) for name, source in OUTPUT_SOURCES.items()}
    views = {name: View(name, None, encoded, _present(encoded)) for name, encoded in outputs.items()}
    for name, rows in row_baselines(ground).items():
        views[name] = View(name, rows, encode_rows(checkpoint, rows), _present(rows))
    return views


def row_baselines(ground: Ground) -> dict[str, Array]:
    """The rows of every wanted view that has some, `[n, d]`, NaN where a view has nothing for a token."""
    wanted = ground.views or ROW_SOURCES
    found = {name: source(ground) for name, source in ROW_SOURCES.items() if name in wanted}
    return {name: rows for name, rows in found.items() if rows is not None}


def complete_rows(ground: Ground) -> tuple[dict[str, Array], dict[str, int]]:
    """The rows of every wanted view, without gaps: a text holds several new tokens, and each needs some row.

    Returns:
        The rows `[n, d]` of each view, and how many tokens of a view got the mean of their pieces for want of its own.
    """
    found = row_baselines(ground)
    gaps = {name: gap for name, rows in found.items() if (gap := ~_present(rows)).any()}
    if gaps:
        pieces = pieces_mean(ground)
        found |= {name: np.where(gap[:, None], pieces, found[name]) for name, gap in gaps.items()}
    return found, {name: int(gap.sum()) for name, gap in gaps.items()}


def encode_rows(checkpoint: Checkpoint, rows: Array) -> Array:
    """What the model makes of each new token alone with these rows in place of its own.

    Args:
        checkpoint: the trained model.
        rows: `[n, d]`; NaN rows are not encoded.

    Returns:
        Unit vectors float32 `[n, d]`, NaN where the row is.
    """
    present = _present(rows)
    tokens = sorted(checkpoint.manifest["tokens"], key=lambda token: token["row"])
    encoder = FrozenEncoder(checkpoint.model, checkpoint.tokenizer, cache=False)
    found = np.full((len(tokens), encoder.dim), np.nan, dtype=np.float32)
    with checkpoint.with_rows(rows):
        found[present] = encoder.encode_ids([[tokens[i]["ids"][0]] for i in np.flatnonzero(present)])
    return found


def _present(vectors: Array) -> Mask:
    present: Mask = ~np.any(np.isnan(vectors), axis=1)
    return present
