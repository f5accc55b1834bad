"""Published functions and ours on the same vectors, each as one line of a table."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from benchmarks.peer_inputs import Inputs, told
from benchmarks.peer_lines import Beside, Build, beside, compared, drawn_alike
from contrastok.auxiliary import Auxiliary, text_words, token_vectors
from contrastok.initializers import initial_rows
from contrastok.initializers.external import ATOMS
from contrastok.initializers.statistics import NARROW, moments
from contrastok.models import load_model, transformer
from contrastok.word_vectors import train_word_vectors

ROWS: list[Build] = []
"""The lines, in order."""
DRAWS = 4_000
"""Rows of each side where distributions are compared."""


@beside("`focus`", "deepfocus", "focus_additional_token_initialization", ROWS)
def focus(inputs: Inputs) -> Beside:
    """Sparsemax mixes, over our anchors."""
    space = inputs.tokens
    theirs = focus_rows(space.known, inputs.known_rows(space), space.new[told(space)])
    return compared(inputs.ours("focus")[told(space)], theirs)


@beside("`focus`", "deepfocus", "focus_additional_token_initialization, all anchors", ROWS)
def focus_over_all(inputs: Inputs) -> Beside:
    """Over every old token that has a vector, as FOCUS() would."""
    names, trained = token_vectors(inputs.context)
    old = [i for i, name in names.items() if i < len(inputs.table) and name in trained]
    known = torch.from_numpy(np.stack([trained[names[i]] for i in old]))
    space = inputs.tokens
    theirs = focus_rows(known, inputs.table[old].double(), space.new[told(space)])
    why = (
        f"its anchors are all {len(old):,} old tokens that have a vector, parts of words and single characters too; "
        f"ours the {len(space.anchors):,} whole words among them"
    )
    return compared(inputs.ours("focus")[told(space)], theirs, why)


def focus_rows(known: torch.Tensor, rows: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """What deepfocus makes of vectors.

    Args:
        known: of the anchors, `[a, k]`.
        rows: theirs in the table, `[a, d]`.
        new: of the terms, `[n, k]`.

    Returns:
        `[n, d]` in the dtype of the rows.
    """
    from deepfocus.focus import focus_additional_token_initialization

    old = {
        str(i): SimpleNamespace(auxiliary_embedding=vector.float(), source_embedding=row)
        for i, (vector, row) in enumerate(zip(known, rows, strict=True))
    }
    terms = {
        str(i): SimpleNamespace(auxiliary_embedding=vector.float(), target=SimpleNamespace(id=i))
        for i, vector in enumerate(new)
    }
    found: torch.Tensor = focus_additional_token_initialization(
        old, terms, torch.zeros(len(new), rows.shape[1]).to(rows)
    )
    return found


@beside("`wechsel`", "wechsel", "create_target_embeddings", ROWS)
def wechsel(inputs: Inputs) -> Beside:
    """Softmax mixes of the nearest, over our anchors."""
    from wechsel import create_target_embeddings

    context, space = inputs.context, inputs.words
    assert context.tokenizer is not None and context.extended is not None and context.plan is not None
    source = np.zeros((len(context.tokenizer), space.known.shape[1]))
    target = np.zeros((len(context.extended), space.known.shape[1]))
    source[space.anchors.numpy()] = space.known.numpy()
    for token in context.plan.tokens:
        target[token.id] = np.nan_to_num(space.new[token.row].numpy())
    theirs, _, _ = create_target_embeddings(
        source, target, context.tokenizer, context.extended, inputs.table.double().numpy(), verbose=False
    )
    return compared(inputs.ours("wechsel")[told(space)], of_terms(inputs, theirs)[told(space)])


@beside("`wechsel`", "wechsel", "WECHSEL.apply, align_strategy=None", ROWS)
def wechsel_as_published(inputs: Inputs) -> Beside:
    """With the vectors that it makes for tokens itself."""
    space = inputs.words
    why = (
        "there a token's vector is the mean, by frequency, of all words that it is a part of, and every token that "
        "has one is an anchor; ours are the words that are one token, with their own vectors"
    )
    return compared(inputs.ours("wechsel")[told(space)], of_terms(inputs, wechsel_table(inputs))[told(space)], why)


@cache
def wechsel_table(inputs: Inputs) -> np.ndarray:
    """The whole table that wechsel makes for the extended tokenizer, `[V + n, d]`, of our word vectors."""
    from gensim.models import Word2Vec
    from wechsel import WECHSEL

    context = inputs.context
    texts = text_words(context)
    counts: dict[str, int] = {}
    for word in (word for text in texts for word in text):
        counts[word] = counts.get(word, 0) + 1
    vectors = dict(train_word_vectors(texts, context.seed))
    model = Word2Vec(vector_size=len(next(iter(vectors.values()))), min_count=1)
    model.build_vocab_from_freq({word: counts[word] for word in vectors})
    model.wv.vectors[:] = np.stack([vectors[word] for word in model.wv.index_to_key])
    made, _ = WECHSEL(model, model, align_strategy=None).apply(
        context.tokenizer, context.extended, inputs.table.double().numpy(), use_subword_info=False
    )
    found: np.ndarray = made
    return found


def of_terms(inputs: Inputs, table: np.ndarray) -> torch.Tensor:
    """The rows of a table `[V + n, d]` that are the terms', `[n, d]`; of several forms the first."""
    plan = inputs.context.plan
    assert plan is not None
    return torch.from_numpy(table[[plan.ids_of(term)[0] for term in plan.terms]])


@beside("`omp`", "mergekit", "tokensurgeon.batch_omp", ROWS)
def omp(inputs: Inputs) -> Beside:
    """As many anchors as ours take."""
    space = inputs.donor
    theirs = omp_rows(inputs, space, max(1, min(ATOMS, space.known.shape[1] // 4)))
    return compared(inputs.ours("omp")[told(space)], theirs)


@beside("`omp`", "mergekit", "tokensurgeon.batch_omp, k=64", ROWS)
def omp_by_default(inputs: Inputs) -> Beside:
    """As many anchors as tokensurgeon takes."""
    space = inputs.donor
    most = space.known.shape[1] // 4
    why = f"its default is {ATOMS} anchors whatever the donor; ours a quarter of the donor's dimensions, {most} here"
    return compared(inputs.ours("omp")[told(space)], omp_rows(inputs, space, min(ATOMS, len(space.anchors))), why)


def omp_rows(inputs: Inputs, space: Auxiliary, count: int) -> torch.Tensor:
    """Rows by mergekit's coefficients, float64 `[n, d]`."""
    from mergekit.tokensurgeon import batch_omp

    places, weights = batch_omp(space.new[told(space)], space.known, count)
    return torch.einsum("nm,nmd->nd", weights, inputs.known_rows(space)[places])


@beside("`procrustes_map`", "mergekit", "tokensurgeon.landmark_pca_approximate", ROWS)
def procrustes(inputs: Inputs) -> Beside:
    """A rotation between the spaces."""
    space = inputs.words
    theirs = landmark_pca(space.new[told(space)], space.known, inputs.known_rows(space))
    why = "its rotation is transposed, has no scale, and leads to the table's first principal axes alone"
    return compared(inputs.ours("procrustes_map")[told(space)], theirs, why)


def landmark_pca(new: torch.Tensor, known: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """What mergekit makes of vectors `[n, k]`, of anchors `[a, k]` and their rows `[a, d]`; it draws, from a seed here."""
    from mergekit.tokensurgeon import landmark_pca_approximate

    with torch.random.fork_rng():
        torch.manual_seed(0)
        found: torch.Tensor = landmark_pca_approximate(new, known, rows)
    return found


def pieces_mixed(inputs: Inputs, way: str, head: bool) -> torch.Tensor:
    """Rows by mergekit's methods for pieces, `[n, d]`."""
    from mergekit.tokensurgeon import SubwordMethod, subword_approximate

    terms = list(inputs.context.terms)
    found: torch.Tensor = subword_approximate(inputs.table, terms, head, inputs.context.tokenizer, SubwordMethod(way))
    return found


FIRST = "for input rows its first piece weighs most, though its comment wants the last one; for output rows the last"
OF_PIECES = (
    ("subtoken_mean", "mean", False, ""),
    ("linear_last", "weighted_mean", True, ""),
    ("linear_last", "weighted_mean", False, FIRST),
    ("last_piece", "first_last", False, ""),
    ("first_piece", "first_last", True, ""),
)
"""Ours, mergekit's method, whether it is asked for output rows, and why it differs."""


def _of_pieces(ours: str, way: str, head: bool, why: str) -> None:
    called = f"tokensurgeon.subword_approximate, {way}, is_lm_head={head}"
    beside(f"`{ours}`", "mergekit", called, ROWS)(
        lambda inputs: compared(inputs.ours(ours), pieces_mixed(inputs, way, head), why)
    )


for _way in OF_PIECES:
    _of_pieces(*_way)


@beside("`mvn`", "mergekit", "scripts.tokensurgeon.john_hewitt_init", ROWS)
def mvn(inputs: Inputs) -> Beside:
    """Draws from the table's normal distribution."""
    from mergekit.scripts.tokensurgeon import john_hewitt_init

    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = john_hewitt_init(inputs.table, DRAWS)
    found = moments(inputs.table)
    return drawn_alike(draws(inputs, "mvn"), theirs, found.mean, found.covariance)


@beside("`hf_resize`", "transformers", "resize_token_embeddings", ROWS)
def hf_resize(inputs: Inputs) -> Beside:
    """Draws as narrow as its default makes them."""
    found = moments(inputs.table)
    return drawn_alike(draws(inputs, "hf_resize"), resized(inputs, DRAWS), found.mean, NARROW * found.covariance)


def draws(inputs: Inputs, init: str) -> torch.Tensor:
    """As many rows of an initialiser that knows nothing of terms, `[DRAWS, d]`."""
    none = ((0,),) * DRAWS
    return initial_rows(init, replace(inputs.context, terms=("",) * DRAWS, pieces=none, lengths=none))


def resized(inputs: Inputs, count: int) -> torch.Tensor:
    """The rows that transformers appends to the model's table, `[count, d]`."""
    body: Any = transformer(load_model(inputs.model))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        table = body.resize_token_embeddings(len(inputs.table) + count).weight
    found: torch.Tensor = table.detach()[len(inputs.table) :]
    return found


@beside("the gradient of `rows`", "peft", "TrainableTokensConfig", ROWS)
def trainable_tokens(inputs: Inputs) -> Beside:
    """A step of training: the loss, and the gradient of the rows in the batch."""
    from benchmarks.train_step import beside_peft

    if inputs.lesson is None:
        return Beside(None, None, "no step was compared")
    step = beside_peft(inputs.lesson, negatives=1)
    moved = step.theirs.norm(dim=-1) > 0
    found = compared(step.ours[moved], step.theirs[moved], tolerance=STEP)
    loss = f"relative error of the loss {step.loss_error:.1e}, of the whole gradient {step.gradient_error:.1e}"
    same = found.verdict == "the same rows" and step.loss_error < STEP
    return replace(found, verdict=f"the same loss and gradient: {loss}" if same else f"{found.verdict}; {loss}")


STEP = 1e-4
"""As `TOLERANCE`, for what has been through the layers of a model and back in float32."""
