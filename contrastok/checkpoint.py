"""Read a finished checkpoint back: the stock model plus what contrastok noted beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from contrastok.data_gen.text_files import missing
from contrastok.errors import InputError
from contrastok.files import sha256_file
from contrastok.json_file import COUNT, OBJECT, TEXT, check_shape, fields, list_of, read_json
from contrastok.lm_head import load_with_head
from contrastok.models import input_embedding, tokenizer_fingerprint
from contrastok.tensor_file import read_tensors
from contrastok.vocabulary import base_tokenizer

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedTokenizerFast

MANIFEST = "contrastok.json"
ROWS = "new_rows.safetensors"
INITIAL_ROWS = "initial_rows.safetensors"
HEAD_ROWS = "head_rows"
"""What a file of rows calls the classes of the new ids in a head that is not tied."""
TRAINING_SHAPE = fields(options=OBJECT, steps=COUNT, pairs=COUNT, curve=list_of(OBJECT))
TRAINING_SHAPE = {
    **TRAINING_SHAPE,
    "properties": {**TRAINING_SHAPE["properties"], "gen_pairs": OBJECT, "epoch_steps": COUNT},
}  # may be missing
MANIFEST_SHAPE = fields(
    base_model=fields(name=TEXT, frozen_sha256=TEXT, tokenizer_sha256=TEXT, table_rows=COUNT, dim=COUNT),
    tokens=list_of(
        fields(
            token=TEXT,
            row=COUNT,
            ids=list_of(COUNT),
            forms=list_of(TEXT),
            pieces=list_of(TEXT),
            definition=TEXT,
            relations=list_of(fields(name=TEXT, kind=TEXT, held_out={"type": "boolean"})),
            evidence=fields(sentences=COUNT, pairs=OBJECT, examples=list_of({})),
        )
    ),
    skipped=list_of(fields(term=TEXT, reason=TEXT)),
    tokenizer=fields(family=TEXT, mode=TEXT, gate=OBJECT),
    init=TEXT,
    training=TRAINING_SHAPE,
    seed=COUNT,
    versions=OBJECT,
    frozen=fields(tensors=COUNT, sha256_before=TEXT, sha256_after=TEXT),
)
"""What every contrastok.json tells; reports and evaluations rely on it."""
ROWS_HINT = f"give the {ROWS} of a checkpoint, or train again"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that contrastok wrote.

    Attributes:
        path: its folder.
        manifest: the content of contrastok.json.
        model: the model with the new rows.
        tokenizer: the extended tokenizer.
        base_tokenizer: the tokenizer before extension.
        rows: trained rows, float32 `[n, d]`.
        initial_rows: the initialiser's rows, float32 `[n, d]`; None where they are not known (see `contrastok apply`).
    """

    path: Path
    manifest: dict[str, Any]
    model: SentenceTransformer
    tokenizer: PreTrainedTokenizerFast
    base_tokenizer: PreTrainedTokenizerFast
    rows: np.ndarray
    initial_rows: np.ndarray | None

    def table(self) -> np.ndarray:
        """The input embedding table, float32 `[V, d]`, new rows included."""
        return input_embedding(self.model).weight.detach().float().cpu().numpy()  # type: ignore[no-any-return]

    @contextlib.contextmanager
    def with_rows(self, rows: np.ndarray) -> Iterator[SentenceTransformer]:
        """The model with other rows in place of the new ones, for as long as the context lasts."""
        weight = input_embedding(self.model).weight
        ids = [i for token in self.manifest["tokens"] for i in token["ids"]]
        values = torch.from_numpy(
            np.stack([rows[token["row"]] for token in self.manifest["tokens"] for _ in token["ids"]])
        )
        kept = weight[ids].clone()
        with torch.no_grad():
            weight[ids] = values.to(weight)
            try:
                yield self.model
            finally:
                weight[ids] = kept


def load_checkpoint(path: Path, device: str = "cpu") -> Checkpoint:
    """Load a checkpoint folder.

    Raises:
        InputError: it is no checkpoint of contrastok, its weights changed since they were written, or its files do not
            fit each other.
    """
    manifest = read_manifest(path)
    _check_weights(path, manifest.get("files", {}))  # older manifests name none
    model = load_with_head(str(path), device)
    tokenizer = model.tokenizer
    base = base_tokenizer(tokenizer, manifest)
    if tokenizer_fingerprint(base) != manifest["base_model"]["tokenizer_sha256"]:
        raise InputError(
            "its tokenizer is not the one that contrastok wrote",
            where=path,
            hint=f"train it again, or rebuild it with contrastok apply {path / ROWS}",
        )
    initial = read_rows(path / INITIAL_ROWS) if (path / INITIAL_ROWS).exists() else None
    return Checkpoint(path, manifest, model, tokenizer, base, read_rows(path / ROWS), initial)


def hash_weights(folder: Path) -> dict[str, str]:
    """SHA-256 of every safetensors file in a folder and below, by its name from there."""
    found = sorted(folder.rglob("*.safetensors"))
    return {file.relative_to(folder).as_posix(): sha256_file(file) for file in found}


def _check_weights(path: Path, written: Mapping[str, str]) -> None:
    """Refuse a checkpoint whose files of weights are not those that were written; others may lie beside them."""
    found = hash_weights(path) if written else {}
    whole = ROWS in written and found.get(ROWS) == written[ROWS]
    mend = f"train it again, or rebuild it with contrastok apply {path / ROWS}" if whole else "train it again"
    for name, digest in written.items():
        if found.get(name) != digest:
            raise InputError(
                "changed after it was written: its SHA-256 is another" if name in found else "no such file",
                where=path / name,
                hint=mend,
            )


def read_manifest(path: Path) -> dict[str, Any]:
    """The content of a checkpoint's contrastok.json.

    Raises:
        InputError: there is none, or it is broken.
    """
    file = path / MANIFEST
    if not path.exists():
        raise missing(path)
    if not file.is_file():
        raise InputError(
            f"is no checkpoint of contrastok (it holds no {MANIFEST})",
            where=path,
            hint="name a folder that contrastok train wrote",
        )
    manifest = read_json(file, fields(format={}), "train again")
    if manifest["format"] != 1:
        raise InputError(
            f"has format {manifest['format']!r}, this version reads 1", where=file, hint="update contrastok"
        )
    check_shape(manifest, MANIFEST_SHAPE, file, "train again")
    if sorted({token["row"] for token in manifest["tokens"]}) != list(range(len(manifest["tokens"]))):
        raise InputError("is broken: its tokens do not have a row each", where=file, hint="train again")
    return manifest


def given_up_sentence(given_up: Mapping[str, Any]) -> str:
    """What moved beside the new rows, in words: the `given_up` of a manifest's `frozen`."""
    parts = []
    if moved := given_up.get("old_rows_moved"):
        parts.append(
            f"{moved:,} of {given_up['old_rows']:,} old rows moved, by {given_up['median_move']:.2%} of their length "
            f"in the median and {given_up['largest_move']:.2%} at most"
        )
    if moved := given_up.get("old_classes_moved"):
        parts.append(f"{moved:,} old classes of the head moved")
    if moved := given_up.get("layers_moved"):
        parts.append(
            f"LoRA moved {moved:,} of {given_up['layers']:,} linear maps of the body, by "
            f"{given_up['median_layer_move']:.2%} of their norm in the median and {given_up['largest_layer_move']:.2%} "
            "at most"
        )
    return "; ".join(parts) or "weights were trained, and none of them moved"


def read_rows(file: Path) -> np.ndarray:
    """The rows in a safetensors file, float32 `[n, d]`.

    Raises:
        InputError: the file is missing, broken or changed, or holds no rows.
    """
    rows = read_tensors(file, ROWS_HINT)[0].get("rows")
    if rows is None or rows.ndim != 2 or not rows.is_floating_point():
        raise InputError("is no file of rows", where=file, hint=ROWS_HINT)
    return rows.float().numpy()  # type: ignore[no-any-return]


def read_head_rows(file: Path) -> torch.Tensor | None:
    """The classes of the new ids in a file that `read_rows` can read, float32 `[m, d]`; None where it holds none."""
    return read_tensors(file, ROWS_HINT)[0].get(HEAD_ROWS)
