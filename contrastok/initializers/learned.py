"""Rows that a map learned on known words gives."""

from __future__ import annotations

import torch

from contrastok.initializers import InitContext, initializer


@initializer(
    "predictor",
    source="contrastok/prior.py; one linear block of it is a la carte, Khodak et al. 2018",
    needs=("predicted",),
    reads=("evidence_sentences",),
)
def predictor(context: InitContext) -> torch.Tensor:
    """What evidence (definition, sentences, pieces) says, by a map learned on the model's own words."""
    assert context.predicted is not None  # one of its needs
    return context.predicted
