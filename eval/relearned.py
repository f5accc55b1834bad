"""What the manifest says of known words that were hidden and relearned: the ground on which confidence stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contrastok.eval.data import Relearned, Stage
from contrastok.prior import REQUIRED

Prior = Mapping[str, Any]
"""The manifest's entry `prior`; None in checkpoints of other initialisers and older versions."""


def relearned(prior: Prior | None) -> Relearned | None:
    """The manifest's figures about known words."""
    if prior is None:
        return None
    parts = prior["reliability"]
    words = sum(part["words"] for part in parts)
    return Relearned(
        within=prior["confidence_within"],
        words=words,
        landed=sum(part["landed"] * part["words"] for part in parts) / max(words, 1),
        fits=prior["fits"],
        word_stage=Stage(prior["settings"], tuple(prior["calibration"])),
        pair_stage=Stage(prior.get("pair_settings", {}), tuple(prior.get("pair_calibration", ()))),
        reliability=tuple(parts),
    )


def leans_on(token: Mapping[str, Any], prior: Prior | None) -> tuple[str, ...] | None:
    """The sources behind a token's prediction: the most of what it has that a map was fitted with.

    Maps are named by their sources ("form+definition+sentences"), and there is one for every set that any token
    needed, so the first name found is the token's own.

    Args:
        token: of the manifest.
        prior: of the manifest.

    Returns:
        A subset of `REQUIRED`; empty when there was nothing but the form of the word. None without a predictor.
    """
    if prior is None:
        return None
    found = {"definition": token["definition"], "sentences": token["evidence"]["sentences"]}
    has = tuple(source for source in REQUIRED if found[source])
    choices = (has, *((source,) for source in reversed(has)))
    return next((choice for choice in choices if "+".join(("form", *choice)) in prior["fits"]), ())
