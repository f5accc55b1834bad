"""Lay trainable rows over the output of a frozen embedding."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def overlay_rows(frozen: torch.Tensor, rows: torch.Tensor, slots: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
    """Replace the positions of new tokens by their trainable rows.

    Nothing of the table's size is touched, forward or backward; the gradient of `rows` is `[n, d]`.

    Args:
        frozen: output of the frozen embedding, `[..., d]`, any float dtype.
        rows: trainable rows, float32 `[n, d]`.
        slots: int `[...]`, the row of each position, or -1 for a position of the frozen table.
        scale: the factor that the frozen embedding applied to its own rows.

    Returns:
        `[..., d]` in the dtype of `frozen`.
    """
    picked = F.embedding(slots.clamp_min(0).long(), rows)
    return torch.where(slots.unsqueeze(-1) >= 0, (picked * scale).to(frozen.dtype), frozen)
