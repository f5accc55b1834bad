"""Rows that a small network gives from the rows of the pieces."""

from __future__ import annotations

import torch

from contrastok.initializers import InitContext, initializer


@initializer(
    "hypernet",
    source="in the manner of ZeTT, Minixhofer et al. 2024, arXiv:2405.07883, without its language-model loss",
    needs=("encoder",),
)
def hypernet(context: InitContext) -> torch.Tensor:
    """A network reads the rows of the pieces; it was trained on the model's own words, split artificially."""
    from contrastok.hypernet.store import kept_network, load_network
    from contrastok.hypernet.training import HypernetSettings

    assert context.encoder is not None  # one of its needs
    folder, encoder = context.options.hypernet, context.encoder
    if folder is not None:
        trained = load_network(folder, encoder.model)
    else:
        trained = kept_network(encoder, HypernetSettings(seed=context.seed))
    return trained.network.rows(context.table, context.pieces, context.lengths)
