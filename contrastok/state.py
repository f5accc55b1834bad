"""Progress of a training run on disk: one file of tensors, replaced atomically, read only by the same run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from contrastok.errors import InputError
from contrastok.files import atomic_file
from contrastok.tensor_file import read_tensors, write_tensors


class RunState:
    """Save and find again where a run was.

    Args:
        folder: private to the output path of the run.
        key: identity of the run (data, model, options, versions); the state of another run is ignored.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder, key
        self.file = folder / "state.safetensors"

    def save(self, tensors: dict[str, torch.Tensor], step: int, curve: list[dict[str, Any]]) -> None:
        """Write the state of a run after `step` steps."""
        with atomic_file(self.file) as partial:
            write_tensors(partial, tensors, {"key": self.key, "step": step, "curve": curve})

    def load(self) -> tuple[dict[str, torch.Tensor], int, list[dict[str, Any]]] | None:
        """Tensors, steps done and curve; None when there is no state of this very run, or it is damaged."""
        try:
            tensors, about = read_tensors(self.file, "")
        except InputError:
            return None
        if about is None or about.get("key") != self.key:
            return None
        return tensors, about["step"], about["curve"]

    def clear(self) -> None:
        """Forget the run: it is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)
