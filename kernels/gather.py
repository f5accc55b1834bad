"""Embeddings of a batch, from a frozen table and from trainable rows, in one pass."""

from __future__ import annotations

from typing import Any

import torch

from contrastok.kernels.plan import RowPlan
from contrastok.kernels.runtime import use_triton
from contrastok.kernels.segment import segment_sum_op, slot_sum_op


def gather_rows(
    ids: torch.Tensor,
    slots: torch.Tensor,
    frozen: torch.Tensor,
    rows: torch.Tensor,
    *,
    scale: float = 1.0,
    plan: RowPlan | None = None,
) -> torch.Tensor:
    """Pick each position's row from the frozen table or from the trainable rows.

    Nothing of the table's size is written, forward or backward. Equal bit by bit to `frozen[ids] * scale` at positions
    without a slot.

    Args:
        ids: int64 `[...]`, rows of `frozen`; not looked at where there is a slot.
        slots: int32 `[...]`, the trainable row of each position, or -1.
        frozen: the table, `[V, d]`, any float dtype; it gets no gradient.
        rows: trainable rows, float32 `[n, d]` (float64 for a float64 table).
        scale: the embed scale: a factor on both.
        plan: `RowPlan.of(slots, n)`, on the device of the others. Without it the backward makes it, and on a device has
            to wait for the slots.

    Returns:
        `[..., d]` in the dtype of `frozen`.

    Raises:
        ValueError: table and rows differ in width, or ids and slots in shape.
    """
    if frozen.shape[1] != rows.shape[1] or ids.shape != slots.shape:
        sizes = ", ".join(str(list(given.shape)) for given in (ids, slots, frozen, rows))
        raise ValueError(f"ids, slots, table and rows do not fit each other: {sizes}")
    parts = [] if plan is None else plan.tensors()
    out: torch.Tensor = gather_op(ids.reshape(-1), slots.reshape(-1), frozen, rows, scale, parts)
    return out.view(*ids.shape, frozen.shape[1])


@torch.library.custom_op("contrastok::gather_rows", mutates_args=())
def gather_op(
    ids: torch.Tensor,
    slots: torch.Tensor,
    frozen: torch.Tensor,
    rows: torch.Tensor,
    scale: float,
    plan: list[torch.Tensor],
) -> torch.Tensor:
    """`gather_rows` on flat ids and slots `[N]`; `plan` is `RowPlan.tensors()`, or empty."""
    if use_triton(frozen):
        from contrastok.kernels.gather_triton import gather

        return gather(ids, slots, frozen, rows, scale)
    new = slots >= 0
    out = frozen.index_select(0, ids.masked_fill(new, 0))
    if scale != 1.0:
        out *= scale
    at = new.nonzero().squeeze(1)
    return out.index_copy_(0, at, (rows.index_select(0, slots.index_select(0, at)) * scale).to(out.dtype))


@gather_op.register_fake
def _(
    ids: torch.Tensor,
    slots: torch.Tensor,
    frozen: torch.Tensor,
    rows: torch.Tensor,
    scale: float,
    plan: list[torch.Tensor],
) -> torch.Tensor:
    return frozen.new_empty(ids.shape[0], frozen.shape[1])


def _save(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    _, slots, _, rows, ctx.scale, plan = inputs
    ctx.n, ctx.dtype, ctx.planned = rows.shape[0], rows.dtype, len(plan)
    ctx.save_for_backward(*(plan or [slots]))


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
    learned = None
    if ctx.needs_input_grad[3]:
        saved = list(ctx.saved_tensors)
        summed = segment_sum_op(grad, saved, ctx.n) if ctx.planned else slot_sum_op(grad, saved[0], ctx.n)
        learned = (summed * ctx.scale).to(ctx.dtype)
    return None, None, None, learned, None, [None] * ctx.planned


gather_op.register_autograd(_backward, setup_context=_save)
