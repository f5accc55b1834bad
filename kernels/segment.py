"""The gradient of the trainable rows: for each row, the sum over its positions."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from contrastok.kernels.plan import RowPlan
from contrastok.kernels.runtime import accumulator, use_triton


def segment_sum_rows(grad: torch.Tensor, plan: RowPlan) -> torch.Tensor:
    """Add up the gradients of all positions of each row.

    The order of addition is the plan's, whatever the device and its load: no atomics, the same bits in every run. A row
    is summed in chunks of `plan.CHUNK` positions, then over its chunks. The gradient of a position is that of its row.

    Args:
        grad: gradient of the embeddings, `[..., d]`, any float dtype.
        plan: positions of the rows in the flattened batch, on the same device.

    Returns:
        `[n, d]`, float64 for float64 and float32 for all others; zero for rows that do not occur.
    """
    flat = grad.reshape(-1, grad.shape[-1])
    summed: torch.Tensor = segment_sum_op(flat, plan.tensors(), plan.n)
    return summed


@torch.library.custom_op("contrastok::segment_sum_rows", mutates_args=())
def segment_sum_op(grad: torch.Tensor, plan: list[torch.Tensor], n: int) -> torch.Tensor:
    """`segment_sum_rows` on a flat gradient `[N, d]`; `plan` is `RowPlan.tensors()`."""
    order, chunks, rows, row_chunks = plan
    out = torch.zeros(n, grad.shape[1], dtype=accumulator(grad), device=grad.device)
    if not len(order):
        return out
    if use_triton(grad):
        from contrastok.kernels.segment_triton import sum_segments

        if len(chunks) == len(row_chunks):  # no row has a second chunk
            return sum_segments(grad, order, chunks, rows, out)
        partial = torch.empty(len(chunks) - 1, grad.shape[1], dtype=out.dtype, device=grad.device)
        return sum_segments(sum_segments(grad, order, chunks, None, partial), None, row_chunks, rows, out)
    return out.index_copy_(0, rows.long(), row_sums(grad, plan))


@segment_sum_op.register_fake
def _(grad: torch.Tensor, plan: list[torch.Tensor], n: int) -> torch.Tensor:
    return grad.new_empty(n, grad.shape[1], dtype=accumulator(grad))


def _save_plan(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    grad, plan, _ = inputs
    ctx.positions, ctx.dtype = grad.shape[0], grad.dtype
    ctx.save_for_backward(*plan)


def _backward_plan(ctx: Any, towards: torch.Tensor) -> tuple[Any, ...]:
    order, chunks, rows, row_chunks = ctx.saved_tensors
    counts = chunks.index_select(0, row_chunks).diff()
    held = torch.repeat_interleave(rows, counts, output_size=order.shape[0])
    spread = towards.new_zeros(ctx.positions, towards.shape[1]).index_copy(
        0, order.long(), towards.index_select(0, held.long())
    )
    return spread.to(ctx.dtype), [None] * 4, None


segment_sum_op.register_autograd(_backward_plan, setup_context=_save_plan)


@torch.library.custom_op("contrastok::slot_sum_rows", mutates_args=())
def slot_sum_op(grad: torch.Tensor, slots: torch.Tensor, n: int) -> torch.Tensor:
    """The same sum from the slots `[N]`, when nobody made a plan: on a device this waits for the slots."""
    plan = RowPlan.of(slots.cpu(), n).to(grad.device)
    return segment_sum_rows(grad, plan)


@slot_sum_op.register_fake
def _(grad: torch.Tensor, slots: torch.Tensor, n: int) -> torch.Tensor:
    return grad.new_empty(n, grad.shape[1], dtype=accumulator(grad))


def _save_slots(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    grad, slots, _ = inputs
    ctx.dtype = grad.dtype
    ctx.save_for_backward(slots)


def _backward_slots(ctx: Any, towards: torch.Tensor) -> tuple[Any, ...]:
    (slots,) = ctx.saved_tensors
    spread = F.pad(towards, (0, 0, 0, 1)).index_select(0, torch.where(slots < 0, len(towards), slots).long())
    return spread.to(ctx.dtype), None, None


slot_sum_op.register_autograd(_backward_slots, setup_context=_save_slots)


def row_sums(grad: torch.Tensor, plan: list[torch.Tensor]) -> torch.Tensor:
    """The sums of the rows that occur, `[U, d]`, in plain torch."""
    order, chunks, _, row_chunks = plan
    picked = grad.index_select(0, order).to(accumulator(grad))
    return _summed(_summed(picked, chunks), row_chunks)


def _summed(values: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """The sum of each run of rows; one after the other, so that threads change nothing."""
    runs = len(offsets) - 1
    if runs == len(values):
        return values
    if values.is_cuda:  # where index_add_ adds in the order in which threads happen to come
        return torch.segment_reduce(values, "sum", offsets=offsets.long(), axis=0)
    run = torch.repeat_interleave(torch.arange(runs, device=values.device), offsets.diff(), output_size=len(values))
    return values.new_zeros(runs, values.shape[1]).index_add_(0, run, values)
