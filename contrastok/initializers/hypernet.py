"""Rows that a small network gives from the rows of the pieces and, where it reads them, from definitions."""

from __future__ import annotations

import torch

from contrastok.initializers import InitContext, initializer


def _fits(context: InitContext) -> None:
    """Refuse a folder that holds no hypernetwork, or one of another model."""
    from contrastok.hypernet.store import check_network

    assert context.encoder is not None  # one of its needs
    if context.options.hypernet is not None:
        check_network(context.options.hypernet, context.encoder.model)


@initializer(
    "hypernet",
    source="in the manner of ZeTT, Minixhofer et al. 2024, arXiv:2405.07883, without its language-model loss",
    needs=("encoder",),
    reads=("init_hypernet",),
    refuse=_fits,
)
def hypernet(context: InitContext) -> torch.Tensor:
    """A network reads the rows of the pieces, and definitions; it learned from the model's own words, split at will."""
    from contrastok.hypernet.definitions import definitions_of_terms
    from contrastok.hypernet.store import kept_network, load_network
    from contrastok.hypernet.training import HypernetSettings

    assert context.encoder is not None  # one of its needs
    folder, encoder = context.options.hypernet, context.encoder
    if folder is not None:
        trained = load_network(folder, encoder.model)
    else:
        known = {word.token: word.definition for word in context.evidence if word.known and word.definition}
        trained = kept_network(encoder, HypernetSettings(seed=context.seed), known)
    told = None
    if trained.network.reading is not None:
        told = definitions_of_terms(encoder, [word.definition for word in context.of_terms()])
    return trained.network.rows(context.table, context.pieces, context.lengths, told)
