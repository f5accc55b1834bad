"""Rows that are output classes too are kept from growing without bound: a longer row is a likelier word everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

LONGEST = 0.99
"""New rows may be as long as this share of the table's rows is at most."""


class Bounded(nn.Module):
    """Rows cut to a length, each to its own; shorter ones stay as they are, to the bit.

    Args:
        limits: greatest norm of each row, `[n]`.
    """

    limits: torch.Tensor

    def __init__(self, limits: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("limits", limits)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """The rows, `[n, d]`."""
        norms = rows.norm(dim=-1)
        shrink = self.limits / norms.clamp_min(torch.finfo(rows.dtype).tiny)
        return rows * torch.where(norms > self.limits, shrink, 1.0)[:, None]


def bound(module: nn.Module, table: torch.Tensor) -> None:
    """Bound `module.rows` by the lengths of a table's rows; a row that starts longer may stay as long as it is.

    Args:
        module: whose `rows` are trained; what they are made of, if anything, stays.
        table: old rows, `[V, d]`.
    """
    rows: torch.Tensor = module.rows  # type: ignore[assignment]
    parametrize.register_parametrization(module, "rows", Bounded(limits_of(rows, table)))


def limits_of(rows: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """How long each of some rows may be, `[n]`: see `bound`."""
    norms = torch.linalg.vector_norm(table.detach(), dim=-1, dtype=torch.float32)
    own: torch.Tensor = torch.linalg.vector_norm(rows.detach(), dim=-1)
    return own.clamp_min(float(norms.cpu().quantile(LONGEST)))


def keep_short(module: nn.Module, rows: nn.Parameter, table: torch.Tensor) -> Callable[[], None]:
    """Bound rows that a loop of the user's own trains: they stay the leaf that its optimiser moves.

    Args:
        module: before it is called, rows that a step has made too long are shortened.
        rows: `[n, d]`.
        table: see `bound`.

    Returns:
        what shortens them.
    """
    limits = limits_of(rows, table)

    @torch.no_grad()
    def shorten(*_: Any) -> None:
        shrink = limits.to(rows.device) / rows.norm(dim=-1).clamp_min(torch.finfo(rows.dtype).tiny)
        if (shrink < 1 - 1e-5).any():  # else nothing is written: a graph of another pass may hold the rows
            rows.mul_(shrink.clamp_max(1)[:, None])

    module.register_forward_pre_hook(shorten)
    return shorten
