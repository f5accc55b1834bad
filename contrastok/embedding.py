"""A frozen embedding table with a few trainable rows laid over it.

The two-table layout is known from IDEFICS (`IdeficsDecoupledEmbedding`) and torchtune (`FusionEmbedding`).
Here the frozen side is the base model's own module, so embed scales, quantised tables and custom forwards
keep working; a module that only looks rows up is read in the same pass as ours. Nothing is resized while
training, and the frozen table is no parameter of any optimiser.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from contrastok.errors import ModelError
from contrastok.kernels.gather import gather_rows
from contrastok.kernels.plan import RowPlan


class HeadRows(nn.Module):
    """Classes of new tokens in a head that is not tied.

    Args:
        rows: one for each new id, float32 `[m, d]`.
    """

    def __init__(self, rows: torch.Tensor) -> None:
        super().__init__()
        self.rows = nn.Parameter(rows.detach().float().clone())


class RowOverlay(nn.Module):
    """The base embedding for old ids, trainable rows for new ones.

    Args:
        base: the model's own input embedding; it is frozen and called as it is.
        rows: initial rows, float32 `[n, d]`.
        ids: the new token ids, `m >= n` of them.
        row_of: for each id its row, so that several forms of a term share one.

    Attributes:
        new: so many of the ids are new tokens; old ones that are trained too stand behind them.

    Raises:
        ModelError: the base module does something to its rows that is neither nothing nor a fixed scale, or has them
            in whole numbers.
    """

    slots: torch.Tensor
    ids: torch.Tensor
    row_of: torch.Tensor
    head: HeadRows | None
    """Classes of its own that each new id has in a language-model head that is not tied, where one is trained. Those of
    old ids may stand behind them, in the order of `ids`."""
    made = True
    """Whether `rows` may be made of other parameters: whatever looks them up asks for `rows`."""

    def __init__(self, base: nn.Module, rows: torch.Tensor, ids: Sequence[int], row_of: Sequence[int]) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        device = next(base.parameters()).device
        self.rows = nn.Parameter(rows.detach().to(device, torch.float32).clone())
        slots = torch.full((max([self._table().shape[0], *(i + 1 for i in ids)]),), -1, dtype=torch.int32)
        slots[list(ids)] = torch.tensor(list(row_of), dtype=torch.int32)
        self.register_buffer("slots", slots.to(device), persistent=False)
        self.register_buffer("ids", torch.tensor(list(ids), device=device), persistent=False)
        self.register_buffer("row_of", torch.tensor(list(row_of), device=device), persistent=False)
        self.head = None
        self.new = len(self.ids)
        self.scale = output_scale(base)
        self.direct = looks_up(base, self.scale)
        self._plan: RowPlan | None = None
        self._bypassed = False

    def _table(self) -> torch.Tensor:
        return self.base.weight  # type: ignore[return-value]

    @property
    def weight(self) -> torch.Tensor:
        """The frozen table, `[V, d]`; Hugging Face code reads its dtype and device."""
        return self._table()

    @property
    def trains_old(self) -> bool:
        """Whether copies of all old rows stand behind the new ones in `rows`, and are trained with them."""
        return len(self.ids) > self.new

    @contextlib.contextmanager
    def planned(self, plan: RowPlan) -> Iterator[None]:
        """Inside, ids of as many positions as the plan's are those that it was made for; the backward follows it."""
        self._plan = plan
        try:
            yield
        finally:
            self._plan = None

    @contextlib.contextmanager
    def bypassed(self) -> Iterator[None]:
        """Inside, ids of the frozen table are looked up there, also where rows are laid over them; others fail."""
        self._bypassed = True
        try:
            yield
        finally:
            self._bypassed = False

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Embed ids.

        Args:
            input_ids: int64 `[..., T]`.

        Returns:
            `[..., T, d]` in the dtype of the base module.
        """
        if self._bypassed:
            return self.base(input_ids)  # type: ignore[no-any-return]
        slots = self.slots[input_ids]
        plan = self._plan if self._plan is not None and self._plan.positions == input_ids.numel() else None
        if self.direct:
            return gather_rows(input_ids, slots, self._table(), self.rows, scale=self.scale, plan=plan)
        frozen = self.base(input_ids.masked_fill(slots >= 0, 0)).flatten(0, -2)
        places = torch.arange(len(frozen), device=frozen.device).view_as(input_ids)
        return gather_rows(places, slots, frozen, self.rows * self.scale, plan=plan)


@torch.no_grad()
def output_scale(base: nn.Module) -> float:
    """The factor by which an embedding module multiplies its rows (Gemma: sqrt(d); almost all others: 1).

    Raises:
        ModelError: its output is not a fixed multiple of the row.
    """
    table: torch.Tensor = base.weight  # type: ignore[assignment]
    if not table.is_floating_point():
        raise ModelError(
            "its embedding table is quantised",
            where=type(base).__name__,
            hint="quantise the body alone: new rows are laid over the table, and merged into it",
        )
    norms = table[: min(1000, table.shape[0])].float().norm(dim=-1)
    probe = int(norms.argmax())
    row = table[probe].float()
    output = base(torch.tensor([[probe]], device=table.device))[0, 0].float()
    if output.shape != row.shape:
        raise ModelError(
            f"its embedding gives vectors of width {output.shape[-1]} from rows of {row.shape[-1]}",
            where=type(base).__name__,
            hint="factorised embeddings are not supported",
        )
    scale = float((output @ row) / (row @ row))
    if torch.equal(output, row):
        return 1.0
    named = getattr(base, "embed_scale", None)
    if isinstance(named, torch.Tensor | float | int):  # in the table's dtype it is what a probe in bf16 only comes near
        exact = float(torch.as_tensor(named).to(table.dtype))
        scale = exact if math.isclose(exact, scale, rel_tol=1e-2) else scale
    if not torch.allclose(output, row * scale, rtol=1e-2, atol=1e-4 * float(norms.max())):
        raise ModelError(
            "its embedding changes rows by more than a fixed scale",
            where=type(base).__name__,
            hint="this embedding module cannot be extended",
        )
    return scale


@torch.no_grad()
def looks_up(base: nn.Module, scale: float) -> bool:
    """Whether a module does nothing but look rows up and multiply them by `scale`, to the last bit.

    A class of its own may do more than a probe shows, so its own forward is called; Hugging Face's scaled lookups
    (Gemma) name their factor.
    """
    if not isinstance(base, nn.Embedding) or base.max_norm is not None:
        return False
    if "forward" in vars(base) or base._forward_hooks or base._forward_pre_hooks:  # offloading, adapters
        return False
    if type(base) is nn.Embedding:
        return True
    probe = torch.arange(min(1000, base.num_embeddings), device=base.weight.device)
    none = torch.full_like(probe, -1, dtype=torch.int32)
    return hasattr(base, "embed_scale") and torch.equal(
        base(probe), gather_rows(probe, none, base.weight, base.weight[:0].float(), scale=scale)
    )
