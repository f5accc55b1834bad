"""The model card of a checkpoint: a README.md that the Hub renders."""

from __future__ import annotations

import contextlib
import json
import re
import statistics
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from contrastok.checkpoint import given_up_sentence
from contrastok.curve import curve_window, ends
from contrastok.errors import ModelError
from contrastok.models import PACKAGED_FROM, resolve
from contrastok.objectives import OBJECTIVES
from contrastok.visible import visible

SHOWN = 200
"""Tokens in the card's table; contrastok.json holds all of them, and the Hub renders no endless page."""
CARRIED = ("license", "license_name", "license_link", "language")
"""What a base model's card states that holds for its checkpoint too."""

_LINKS = re.compile(r"(?:https?|ftp|mailto|xmpp):|\bwww(?=\.)|@", re.IGNORECASE)
"""Behind these markdown makes a link of bare text; a comment there parts what it looks for."""


def model_card(manifest: Mapping[str, Any]) -> str:
    """The card as markdown, from the content of contrastok.json and what the base model's own card states."""
    source = files("contrastok").joinpath("card.md.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {"cell": cell, "python": lambda text: json.dumps(text, ensure_ascii=False)}
    sure = [token["confidence"] for token in manifest["tokens"] if "confidence" in token]
    promise = manifest["frozen"].get("given_up")
    given_up = given_up_sentence(promise) if promise else None
    stated = base_statements(manifest["base_model"]["name"])
    parts = manifest.get("prior", {}).get("reliability", ())
    known = sum(part["words"] for part in parts)
    averaged = curve_window(manifest["training"])
    first, last = ends(manifest["training"].get("curve", ()), averaged)
    return environment.from_string(source).render(
        front=_front_matter(manifest, stated),
        licence=stated.get("license_name") or stated.get("license"),
        confidence=statistics.median(sure) if sure else None,
        expected=sum(sure),
        known=known,
        came_back=sum(part["landed"] * part["words"] for part in parts) / max(known, 1),
        given_up=given_up,
        averaged=averaged,
        first=first,
        last=last,
        ranks=OBJECTIVES[manifest["training"].get("options", {}).get("objective", "anchored_pairs")].ranks,
        shown=SHOWN,
        **manifest,
    )


def base_statements(name: str) -> dict[str, Any]:
    """What the card of a base model states about its licence and languages; empty where there is no card to read.

    Args:
        name: as `--model` got it. A model of the Hub has its card read from the cache, or fetched.
    """
    import yaml  # type: ignore[import-untyped]
    from huggingface_hub import hf_hub_download, metadata_load

    with contextlib.suppress(ModelError, OSError, ValueError, yaml.YAMLError):
        place = resolve(name)
        card = Path(place) / "README.md" if Path(place).is_dir() else Path(hf_hub_download(place, "README.md"))
        stated = (metadata_load(card) if card.is_file() else None) or {}
        return {key: stated[key] for key in CARRIED if key in stated}
    return {}


def _front_matter(manifest: Mapping[str, Any], stated: Mapping[str, Any]) -> str:
    """The card's head for the Hub, as YAML; a library writes it, for licences and names may hold anything."""
    from huggingface_hub import ModelCardData

    name = manifest["base_model"]["name"]
    hub = PACKAGED_FROM.get(name, name)
    return ModelCardData(
        **stated,
        # a folder of this machine means nothing to the Hub
        base_model=hub if re.fullmatch(r"[\w.-]+/[\w.-]+", hub) and not Path(hub).exists() else None,
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=["sentence-transformers", "feature-extraction", "vocabulary-extension", "contrastok"],
    ).to_yaml()


def cell(text: object) -> str:
    """Text as it can stand anywhere in a line of markdown, tables included, and show as what it is."""
    escaped = re.sub(r"([\\`*_\[\]<>|~&])", r"\\\1", visible(" ".join(str(text).split())))
    return _LINKS.sub(r"\g<0><!-- -->", escaped)
