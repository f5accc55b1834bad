"""Progress of a training run on disk: one safetensors file, replaced atomically, read only by the same run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from contrastok.files import atomic_file


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
        from safetensors.torch import save_file

        flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        about = {"key": self.key, "step": str(step), "curve": json.dumps(curve)}
        with atomic_file(self.file) as partial:
            save_file(flat, partial, metadata=about)

    def load(self) -> tuple[dict[str, torch.Tensor], int, list[dict[str, Any]]] | None:
        """Tensors, steps done and curve; None when there is no state of this very run."""
        from safetensors import SafetensorError, safe_open

        if not self.file.is_file():
            return None
        try:
            with safe_open(self.file, framework="pt") as handle:
                about = handle.metadata() or {}
                if about.get("key") != self.key:
                    return None
                tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 (no mapping)
        except (SafetensorError, OSError):
            return None
        return tensors, int(about["step"]), json.loads(about["curve"])

    def clear(self) -> None:
        """Forget the run: it is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)
