"""The model card of a checkpoint: a README.md that the Hub renders."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import jinja2

from contrastok.checkpoint import given_up_sentence


def model_card(manifest: Mapping[str, Any]) -> str:
    """The card as markdown, from the content of contrastok.json."""
    source = files("contrastok").joinpath("card.md.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters["cell"] = lambda text: str(text).replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
    sure = [token["confidence"] for token in manifest["tokens"] if "confidence" in token]
    promise = manifest["frozen"].get("given_up")
    given_up = given_up_sentence(promise) if promise else None
    return environment.from_string(source).render(
        confidence=statistics.median(sure) if sure else None, given_up=given_up, **manifest
    )
