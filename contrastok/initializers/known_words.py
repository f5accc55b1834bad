"""Rows by one linear map from one sort of evidence, learned on words that the model knows.

Each known word is looked at as if it were new, split into the pieces that it would have without its token
(`contrastok.words`); the map that brings its evidence to its row is then applied to the terms. `predictor` is what
comes of all sorts of evidence at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch

from contrastok import fit
from contrastok.errors import InputError
from contrastok.features import EvidenceEncoder, WordInput, bag_weights
from contrastok.initializers import InitContext, initializer
from contrastok.regression import Ridge
from contrastok.words import Words

STEADY = 1e-3
"""Ridge of alacarte, as a share of the columns' mean square. The paper has none, but columns that lack one direction
have no inverse. A larger one, chosen by the error of words left out, would lead to rows of zeros, for there is no
intercept."""
_NEEDS = ("tokenizer", "extended", "encoder", "evidence")
_READS = ("evidence_sentences",)


def _enough(name: str, source: str, has: torch.Tensor) -> torch.Tensor:
    """Which known words have a source, if enough have.

    Raises:
        InputError: says how many have.
    """
    if int(has.sum()) < fit.MIN_WORDS:
        raise InputError(
            f"--init {name} learns from known words with {source}: there are {int(has.sum())}, and {fit.MIN_WORDS} are "
            "needed",
            hint="give gen-pairs more --corpus and a --glossary or WordNet, or use --init charlen_mean",
        )
    return has


def _known(context: InitContext, name: str, source: str) -> None:
    """Refuse evidence in which too few known words have a source; each has a form."""
    told = (word.known and bool(getattr(word, source, True)) for word in context.evidence)
    _enough(name, source, torch.tensor([*told], dtype=torch.bool))


@initializer(
    "alacarte",
    source="Khodak et al. 2018, A La Carte Embedding, arXiv:1805.05388",
    needs=_NEEDS,
    reads=_READS,
    refuse=partial(_known, name="alacarte", source="sentences"),
)
def alacarte(context: InitContext) -> torch.Tensor:
    """The mean row of the tokens around the term, through a matrix learned on known words.

    u = mean over sentences of the mean row of the other tokens; A = argmin sum_w log(1 + c_w) |v_w - A u_w|^2 over
    known words w with row v_w and c_w sentences; a term gets A u. What all contexts have in common, their top singular
    vector, would make all rows alike and is taken out of u first (as Arora et al. 2017 do with sentences).

    Raises:
        InputError: too few known words have sentences, or a term has no evidence.
    """
    words = _words(context, "sentences")
    inputs = words.inputs(context.options.sentences)
    (known, counts), (new, _) = (context_means(part, words.table) for part in (inputs.known, inputs.new))
    has = _enough("alacarte", "sentences", counts > 0)
    common = torch.linalg.svd(known[has], full_matrices=False).Vh[0]
    known, new = (u - (u @ common)[:, None] * common for u in (known, new))
    matrix = induction_matrix(known[has], torch.from_numpy(words.table[inputs.ids])[has], counts[has].log1p())
    rows: torch.Tensor = new @ matrix
    return rows.float()


@initializer(
    "detok_map",
    source="Kaplan et al. 2024, From Tokens to Words, arXiv:2410.05864",
    needs=_NEEDS,
    reads=_READS,
    refuse=partial(_known, name="detok_map", source="form"),
)
def detok_map(context: InitContext) -> torch.Tensor:
    """The middle layer's state at the term's pieces, alone, through a linear map learned on known words.

    The state is the mean over the pieces: the paper takes the last one, which has seen all others, because its models
    read from left to right.

    Raises:
        InputError: there are too few known words, or a term has no evidence.
    """
    return _mapped(context, "detok_map", "form", "state middle")


@initializer(
    "definition_map",
    source="contrastok/prior.py with the definition's output alone",
    needs=_NEEDS,
    reads=_READS,
    refuse=partial(_known, name="definition_map", source="definition"),
)
def definition_map(context: InitContext) -> torch.Tensor:
    """The definition's sentence embedding through a linear map learned on known words with definitions.

    Raises:
        InputError: too few known words have definitions, or a term has no evidence.
    """
    return _mapped(context, "definition_map", "definition", "output")


def _words(context: InitContext, *sources: str) -> Words:
    """The words with evidence of these sources alone: what is not looked at need not be encoded."""
    assert context.plan is not None and context.extended is not None and context.encoder is not None  # needs
    nothing = {"definition": "", "synonyms": (), "broader": (), "sentences": ()}
    gone = {name: value for name, value in nothing.items() if name not in sources}
    evidence = [dataclasses.replace(word, **gone) for word in context.evidence]  # type: ignore[arg-type]
    return Words(evidence, context.plan, context.extended, context.encoder)


def _mapped(context: InitContext, name: str, source: str, block: str) -> torch.Tensor:
    """Rows from one block of features (see `features.py`), NaN for terms that lack its source."""
    words = _words(context, source)
    inputs = words.inputs(context.options.sentences)
    reader, weights = EvidenceEncoder(words.encoder), bag_weights(inputs.known, len(words.table))
    known = reader.features(inputs.known, weights, "Reading about known words", inputs.ids.tolist())
    new = reader.features(inputs.new, weights, "Reading about new terms")
    has = _enough(name, source, torch.from_numpy(known.present[source]))
    x, asked = (torch.from_numpy(part.blocks[f"{source}/{block}"]) for part in (known, new))
    rows = linear_map(x[has], torch.from_numpy(words.table[inputs.ids])[has])(asked)
    rows[~torch.from_numpy(new.present[source])] = torch.nan
    return rows


def context_means(words: Sequence[WordInput], table: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean over a word's sentences of the mean row of the tokens in it that are not the word's.

    Args:
        words: with sentences, and the places of the word in them.
        table: float32 `[V, d]`.

    Returns:
        float64 `[n, d]`, NaN where a word stands in no sentence with other tokens; and how many did, float64 `[n]`.
    """
    means, counts = [], []
    for word in words:
        others = [
            [i for at, i in enumerate(text) if at not in places]
            for text, places in zip(word.sentences, map(set, word.places), strict=True)
        ]
        bags = [table[ids].mean(0, dtype=np.float64) for ids in others if ids]
        means.append(np.mean(bags, axis=0) if bags else np.full(table.shape[1], np.nan))
        counts.append(float(len(bags)))
    return torch.from_numpy(np.stack(means)), torch.tensor(counts, dtype=torch.float64)


def induction_matrix(contexts: torch.Tensor, rows: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The matrix that brings context means to rows, by weighted least squares (Khodak et al. 2018).

    Args:
        contexts: float64 `[n, d]`.
        rows: `[n, d]`.
        weights: of the words, float64 `[n]`.

    Returns:
        A', float64 `[d, d]`: a context mean times it is a row.
    """
    root = weights.sqrt()[:, None]
    x = root * contexts
    return Ridge(x, root * rows.double(), STEADY * float(x.square().sum() / x.shape[1])).weights


def linear_map(x: torch.Tensor, y: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """Ridge regression with an intercept; of the penalties in `fit.RIDGES` the one with the least leave-one-out error.

    Args:
        x: float32 `[n, D]`, scaled here to a mean square norm of 1.
        y: float32 `[n, d]`.

    Returns:
        the map, from float32 `[m, D]` to `[m, d]`.
    """
    center, middle = x.mean(0), y.mean(0)
    size = (x - center).square().sum(1).mean().sqrt().clamp_min(1e-6)
    z, target = (x - center) / size, y - middle
    every, gram = torch.arange(len(z)), z.T @ z
    fits = [Ridge(z, target, penalty, gram) for penalty in fit.RIDGES]
    best = min(fits, key=lambda one: float((one.left_out(every) - target).square().sum()))
    return lambda asked: best.predict((asked - center) / size) + middle
