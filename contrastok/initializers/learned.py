"""Rows that a map learned on known words gives."""

from __future__ import annotations

import torch

from contrastok.errors import ConfigError
from contrastok.initializers import InitContext, initializer


@initializer("predictor", source="contrastok/prior.py; one linear block of it is a la carte, Khodak et al. 2018")
def predictor(context: InitContext) -> torch.Tensor:
    """What evidence (definition, sentences, pieces) says, by a map learned on the model's own words."""
    if context.predicted is None:
        raise ConfigError("--init predictor needs the evidence that gen-pairs writes", hint="use it with train --pairs")
    return context.predicted
