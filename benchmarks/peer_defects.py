"""What published packages do on these inputs that ours must not: each of their defects that was found, shown."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.peer_inputs import Inputs, told
from benchmarks.peer_lines import Build, Shown, shows
from benchmarks.peer_rows import landmark_pca, resized, wechsel_table
from contrastok.candidates import CONTINUATION, candidates
from contrastok.initializers import initial_rows
from contrastok.initializers.collapse import ALIKE, mean_pairwise_cosine
from contrastok.linear_maps import procrustes
from contrastok.models import resolve

DEFECTS: list[Build] = []
"""The lines, in order."""
OUT_OF = 5
"""One anchor of so many is left out when a map is fitted."""


@shows(
    "the rotation is transposed",
    "mergekit",
    "tokensurgeon.landmark_pca_approximate",
    "tests/contrastok/test_linear_maps.py::test_procrustes_finds_a_general_rotation",
    DEFECTS,
)
def transposed(inputs: Inputs) -> Shown:
    """Directions on words left out: what a missing scale cannot spoil."""
    space = inputs.words
    rows, out = inputs.known_rows(space), torch.arange(len(space.anchors)) % OUT_OF == 0
    old, new, known, true = space.known[~out], space.known[out], rows[~out], rows[out]

    def cosine(found: torch.Tensor) -> float:
        return float(F.cosine_similarity(found - known.mean(0), true - known.mean(0), dim=-1).mean())

    theirs, ours = cosine(landmark_pca(new, old, known)), cosine(procrustes(old, known)(new))
    mended = cosine(between_axes(new, old, known))
    said = f"{len(new):,} words left out, mean cosine to their rows, less the mean row: {theirs:.3f}"
    return Shown(said, f"{ours:.3f}; the package's way with the rotation right {mended:.3f}", theirs < mended / 2)


def between_axes(new: torch.Tensor, known: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """What landmark_pca means to do: Procrustes between the principal axes of two spaces; see there for the shapes."""
    size = min(known.shape[1], rows.shape[1])
    first, second = (torch.linalg.svd(x - x.mean(0), full_matrices=False)[2][:size].T for x in (known, rows))
    fit = procrustes(known @ first, rows @ second)
    return (fit(new @ first) - fit.target) @ second.T + rows.mean(0)


@shows(
    "the first piece of an input row weighs most",
    "mergekit",
    "tokensurgeon.subword_approximate, weighted_mean",
    "tests/contrastok/initializers/test_composition.py::test_weights_by_position",
    DEFECTS,
)
def first_heaviest(inputs: Inputs) -> Shown:
    """The weights themselves, of a term of three different pieces or nearly so many."""
    from mergekit.tokensurgeon import SubwordMethod, subword_approximate

    context = inputs.context
    different = [i for i, ids in enumerate(context.pieces) if len(set(ids)) == len(ids)]
    term = min(different, key=lambda i: abs(len(context.pieces[i]) - 3))
    ids = list(context.pieces[term])
    one_hot = torch.zeros(len(inputs.table), len(ids))
    one_hot[ids] = torch.eye(len(ids))
    way = SubwordMethod.WEIGHTED_MEAN
    given = subword_approximate(one_hot, [context.terms[term]], False, context.tokenizer, way)[0]
    ours = torch.linalg.lstsq(inputs.table[ids].double().T, inputs.ours("linear_last")[term].double()).solution
    return Shown(f"{context.terms[term]}: {_weights(given)}", _weights(ours), bool(given[0] > given[-1]))


def _weights(values: torch.Tensor) -> str:
    return " / ".join(f"{value:.2f}" for value in values.tolist())


@shows(
    "fewer rows than dimensions",
    "mergekit",
    "scripts.tokensurgeon.john_hewitt_init",
    "tests/contrastok/initializers/test_statistics.py::test_a_table_with_fewer_rows_than_dimensions",
    DEFECTS,
)
def few_rows(inputs: Inputs) -> Shown:
    """A covariance without an inverse: the first rows of the table alone."""
    from mergekit.scripts.tokensurgeon import john_hewitt_init

    few = inputs.table[: inputs.table.shape[1] // 2]
    drawn = initial_rows("mvn", replace(inputs.context, table=few))
    said = raised(lambda: john_hewitt_init(few, len(drawn)))
    return Shown(said or f"{len(drawn):,} rows", f"{len(drawn):,} rows", bool(said))


def raised(call: Callable[[], Any]) -> str:
    """What a call raises, in words; "" when nothing."""
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return ""


@shows(
    "parts of words are taken for words",
    "mergekit",
    "tokenizer.normalization.normalized_vocabulary",
    "tests/contrastok/test_candidates.py::test_wordpiece_keeps_whole_words_only",
    DEFECTS,
)
def parts_of_words(inputs: Inputs) -> Shown:
    """Marks of WordPiece that it does not know."""
    from mergekit.tokenizer.normalization import normalized_vocabulary, unnormalize_token

    tokenizer = inputs.context.tokenizer
    assert tokenizer is not None
    theirs = [unnormalize_token(token) for token in normalized_vocabulary(tokenizer)]
    ours = tokenizer.convert_ids_to_tokens(candidates(tokenizer).ids)
    count, own = (sum(_continues(text) for text in texts) for texts in (theirs, ours))
    return Shown(f"{count:,} entries `##...` are read as text with these marks in it", f"{own:,}", count > 0)


def _continues(token: str) -> bool:
    return token.startswith(CONTINUATION) and len(token) > len(CONTINUATION)


@shows(
    "a model without an output head",
    "mergekit",
    "mergekit-tokensurgeon MODEL DONOR OUT",
    "tests/contrastok/test_external.py::test_train_starts_from_them",
    DEFECTS,
)
def no_head(inputs: Inputs) -> Shown:
    """The command itself, on the model and the donor."""
    from click.testing import CliRunner
    from mergekit.scripts.tokensurgeon import main

    with tempfile.TemporaryDirectory() as folder:
        given = [resolve(inputs.model), str(inputs.context.options.model), str(Path(folder) / "out")]
        error = CliRunner().invoke(main, given).exception
    rows = inputs.ours("omp")
    return Shown(f"{type(error).__name__}: {error}" if error else "a model", f"{len(rows):,} rows", error is not None)


@shows(
    "old rows are overwritten",
    "wechsel",
    "WECHSEL.apply",
    "tests/e2e/test_main_job.py::test_frozen_means_bit_identical",
    DEFECTS,
)
def overwritten(inputs: Inputs) -> Shown:
    """Its table beside the model's."""
    old = inputs.table.double().numpy()
    others = int((wechsel_table(inputs)[: len(old)] != old).any(axis=1).sum())
    return Shown(f"{others:,} of {len(old):,} old rows are others", "only rows of new tokens are made", others > 0)


@shows(
    "the wrong model is cut where the target has more dimensions",
    "wechsel",
    "WECHSEL.__init__",
    "tests/contrastok/test_linear_maps.py::test_procrustes_is_that_of_the_padded_spaces",
    DEFECTS,
)
def cut(inputs: Inputs) -> Shown:
    """Two fastText models of the text, of 20 and of 40 dimensions."""
    import fasttext
    from wechsel import WECHSEL

    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        text.write_text("\n".join(inputs.context.texts[:2_000]), encoding="utf-8")
        source, target = (
            fasttext.train_unsupervised(str(text), dim=size, epoch=1, bucket=1000, minCount=2, verbose=0, thread=1)
            for size in (20, 40)
        )
        WECHSEL(source, target, align_strategy=None)
        left = source.get_dimension(), target.get_dimension()
    space = inputs.words
    rows = procrustes(space.known, inputs.known_rows(space))(space.new[told(space)])
    return Shown(
        f"of 20 and 40 dimensions {left[0]} and {left[1]} are left, where both should have the smaller number",
        f"{len(rows):,} rows of {rows.shape[1]} dimensions by vectors of {space.known.shape[1]}",
        left[0] != left[1],
    )


@shows(
    "all new rows are one",
    "transformers",
    "resize_token_embeddings",
    "tests/contrastok/initializers/test_statistics.py::test_rows_that_are_all_the_same_are_told",
    DEFECTS,
)
def one_row(inputs: Inputs) -> Shown:
    """How alike the rows are, and how alike those of pieces."""
    theirs = mean_pairwise_cosine(resized(inputs, len(inputs.context.terms)))
    ours = mean_pairwise_cosine(inputs.ours("charlen_mean"))
    told_of = f"`charlen_mean` {ours:.3f}; the command says so above {ALIKE}"
    return Shown(f"mean pairwise cosine {theirs:.3f}", told_of, theirs > ALIKE)
