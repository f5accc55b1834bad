"""A hypernetwork on disk: its weights, and a manifest that says whose rows it gives."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contrastok.bank import FrozenEncoder
from contrastok.errors import ContrastokError, InputError, ModelError, OutputError
from contrastok.files import atomic_folder, to_json
from contrastok.hypernet.definitions import read_definitions
from contrastok.hypernet.lesson import make_lesson
from contrastok.hypernet.network import HyperNetwork
from contrastok.hypernet.training import FORMAT, HypernetSettings, Trained, train_network
from contrastok.json_file import COUNT, TEXT, check_shape, fields, read_json
from contrastok.loop import run_key
from contrastok.models import input_embedding, tensor_hash, tokenizer_fingerprint, transformer
from contrastok.state import RunState
from contrastok.tensor_file import read_tensors, write_tensors

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

MANIFEST, WEIGHTS = "hypernet.json", "hypernet.safetensors"
NETWORK = "a folder that contrastok train-hypernet wrote"
AGAIN = "run contrastok train-hypernet again"
SHAPE = fields(
    base_model=fields(name=TEXT, dim={**COUNT, "minimum": 1}, table_sha256=TEXT, tokenizer_sha256=TEXT),
    settings=fields(layers={**COUNT, "minimum": 1}),
)
"""What its manifest tells of a network."""
READER = fields(base_model=fields(body_sha256=TEXT), definitions=fields(dim=COUNT))
"""What it tells besides of one that reads definitions."""


def base_of(model: SentenceTransformer, name: str) -> dict[str, Any]:
    """What decides whether a hypernetwork fits a model: its table and its tokenizer, and the body that reads."""
    table = input_embedding(model).weight
    told = "".join(f"{key}={tensor_hash(tensor)};" for key, tensor in sorted(transformer(model).state_dict().items()))
    return {
        "name": name,
        "rows": table.shape[0],
        "dim": table.shape[1],
        "table_sha256": tensor_hash(table),
        "tokenizer_sha256": tokenizer_fingerprint(model.tokenizer),
        "body_sha256": hashlib.sha256(told.encode()).hexdigest(),
    }


def save_network(folder: Path, trained: Trained, base: dict[str, Any]) -> None:
    """Write a hypernetwork into an empty folder."""
    write_tensors(folder / WEIGHTS, trained.network.state_dict())
    manifest = {"format": FORMAT, "base_model": base, **trained.about}
    (folder / MANIFEST).write_text(to_json(manifest), encoding="utf-8")


def check_network(folder: Path, model: SentenceTransformer) -> dict[str, Any]:
    """Refuse a hypernetwork that is not for a model; its weights are not read.

    Args:
        folder: that `contrastok train-hypernet` wrote.
        model: the base model, without an overlay.

    Returns:
        its manifest.

    Raises:
        InputError: there is none, or its manifest is broken.
        ModelError: it was trained for another table or tokenizer, or reads the definitions of another body.
    """
    manifest = read_manifest(folder)
    told, base, dim = manifest["base_model"], base_of(model, ""), manifest.get("definitions", {}).get("dim", 0)
    decisive = {"table_sha256": "embedding table", "tokenizer_sha256": "tokenizer"}
    for key, what in (decisive | ({"body_sha256": "body"} if dim else {})).items():
        if told[key] != base[key]:
            raise ModelError(
                f"was trained for {told['name']!r}, and the {what} of this model is another",
                where=folder,
                hint="give --model that base model, or run contrastok train-hypernet for this one",
            )
    return manifest


def load_network(folder: Path, model: SentenceTransformer) -> Trained:
    """Read a hypernetwork for a model.

    Args:
        folder, model: see `check_network`.

    Raises:
        InputError: there is none, or it is broken.
        ModelError: see `check_network`.
    """
    manifest = check_network(folder, model)
    dim = manifest.get("definitions", {}).get("dim", 0)
    network = HyperNetwork(manifest["base_model"]["dim"], manifest["settings"]["layers"], dim)
    try:
        network.load_state_dict(read_tensors(folder / WEIGHTS, AGAIN)[0])
    except RuntimeError as error:
        raise InputError(f"is broken: {str(error).splitlines()[0]}", where=folder / WEIGHTS, hint=AGAIN) from error
    about = {key: value for key, value in manifest.items() if key not in ("format", "base_model")}
    return Trained(network.to(model.device).eval().requires_grad_(False), about)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a hypernetwork.

    Raises:
        InputError: there is none, or it is broken.
    """
    file = folder / MANIFEST
    if not file.is_file():
        raise InputError(
            f"is no hypernetwork (it holds no {MANIFEST})",
            where=folder,
            hint=f"give {NETWORK}",
        )
    manifest = read_json(file, fields(format={}), AGAIN)
    if manifest["format"] != FORMAT:
        what = f"has format {manifest['format']!r}, this version reads {FORMAT}"
        raise InputError(what, where=file, hint="train it again")
    check_shape(manifest, SHAPE, file, AGAIN)
    if "definitions" in manifest:  # older ones read none
        check_shape(manifest, READER, file, AGAIN)
    return manifest


def kept_network(encoder: FrozenEncoder, settings: HypernetSettings, definitions: Mapping[str, str]) -> Trained:
    """The hypernetwork of a model, trained on its vocabulary: from the cache, or trained and put there.

    A training that is killed goes on where it was.

    Args:
        encoder: the frozen model.
        settings: how it is trained.
        definitions: of words that the model knows, if there are any.

    Raises:
        ModelError: the model knows too few words, or they cannot be hidden.
    """
    model, base = encoder.model, base_of(encoder.model, "a model of the cache")
    key = network_key(base, settings, definitions=sorted(definitions.items()))
    folder = _writable(encoder.folder / "hypernet") if encoder.folder is not None else None
    if folder is not None and (folder / key / MANIFEST).is_file():
        with contextlib.suppress(ContrastokError):  # broken: it is trained again
            return load_network(folder / key, model)
    state = RunState(folder / f"{key}.resume", key) if folder is not None else None
    lesson = make_lesson(model.tokenizer, {}, settings.seed, definitions)
    told = read_definitions(encoder, lesson)
    trained = train_network(input_embedding(model).weight, lesson, told, settings, state, encoder.console)
    if folder is not None and state is not None:
        with contextlib.suppress(OutputError), atomic_folder(folder / key, overwrite=True) as partial:
            save_network(partial, trained, base)
        state.clear()
    return trained


def _writable(folder: Path) -> Path | None:
    """A folder of the cache, made if need be; None where nothing can be written, which costs time, not the run."""
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return folder if os.access(folder, os.W_OK) else None


def network_key(base: dict[str, Any], settings: HypernetSettings, **more: Any) -> str:
    """The identity of a training."""
    known = {key: value for key, value in base.items() if key != "name"}
    return run_key(format=FORMAT, base=known, settings=asdict(settings), **more)
