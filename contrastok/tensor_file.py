"""Tensors on disk: safetensors files that carry a hash of what is in them. Nothing here can run code from a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contrastok.errors import InputError
from contrastok.json_file import check_text
from contrastok.models import named_hash

if TYPE_CHECKING:
    import torch

NOTE = "contrastok"
"""The one entry of a file's metadata that is ours; with two, their order would differ from run to run."""
HASH = "sha256"
"""In the note: the hash of all else. safetensors has none of its own, and a flipped bit would pass for a number."""


def write_tensors(file: Path, tensors: Mapping[str, torch.Tensor], about: Mapping[str, Any] | None = None) -> None:
    """Write tensors, and JSON values about them. The same tensors and values give the same bytes.

    Args:
        file: replaced if it is there.
        tensors: by name, of any dtype and shape.
        about: plain JSON values.
    """
    from safetensors.torch import save_file

    flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    note = json.dumps({**(about or {}), HASH: _hash(flat, about or {})}, ensure_ascii=False)
    save_file(flat, file, metadata={NOTE: note})


def read_tensors(file: Path, hint: str) -> tuple[dict[str, torch.Tensor], dict[str, Any] | None]:
    """Read what `write_tensors` wrote, or another program's safetensors file.

    Args:
        file: the file.
        hint: what to do when it cannot be used.

    Returns:
        tensors by name, on the CPU; and what is told about them, None in files of other programs.

    Raises:
        InputError: the file is missing, broken, or changed since it was written.
    """
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        raise InputError("no such file", where=file, hint=hint)
    try:
        with safe_open(file, framework="pt") as handle:
            note = (handle.metadata() or {}).get(NOTE)
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 (no mapping)
        if note is None:
            return tensors, None
        about = json.loads(note)
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise InputError(f"is broken: {error}", where=file, hint=hint) from error
    if not isinstance(about, dict):
        raise InputError("is broken: what it tells about its tensors is no JSON object", where=file, hint=hint)
    check_text(note, about, file, hint)
    written = about.pop(HASH, None)  # files of older versions have none
    if written is not None and written != _hash(tensors, about):
        raise InputError("changed after it was written: its SHA-256 is another", where=file, hint=hint)
    return tensors, about


def _hash(tensors: Mapping[str, torch.Tensor], about: Mapping[str, Any]) -> str:
    told = json.dumps(about, sort_keys=True)
    return hashlib.sha256(f"{named_hash(sorted(tensors.items()))[0]}{told}".encode()).hexdigest()
