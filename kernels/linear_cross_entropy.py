"""Cross-entropy over a frozen output table and a few trainable classes, without ever holding all their logits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from contrastok.kernels.info_nce import product
from contrastok.kernels.runtime import accumulator

POSITIONS, CLASSES = 1024, 4096
"""Logits that are made at once: 16 MB in float32, whatever the text and the vocabulary."""


def frozen_linear_cross_entropy(
    states: torch.Tensor,
    table: torch.Tensor,
    rows: torch.Tensor,
    targets: torch.Tensor,
    *,
    bias: torch.Tensor | None = None,
    absent: torch.Tensor | None = None,
    scale: float = 1.0,
    cap: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of telling each position's class from V frozen and n trainable ones.

    The logit of class c is z = scale (x . w_c + b_c), or cap tanh(z / cap) where there is a cap (Gemma 2, Gemma Team
    2024, arXiv 2408.00118). The table is frozen, so the gradient of a state is a mean of class rows, weighted as in
    attention, and comes out of the pass that makes the loss (online softmax, Milakov & Gimelshein 2018); trainable rows
    get theirs from their own n logits and the sum over all. Memory is O(N d), whatever V. Sums are taken in float32
    and in a fixed order: the same input gives the same bits. There is no second derivative.

    Args:
        states: `[N, d]`, any float dtype; the classes are rounded to it before they are multiplied.
        table: `[V, d]`, any float dtype; it gets no gradient.
        rows: the trainable classes, `[n, d]`, any float dtype; the n-th is class V + n.
        targets: int64 `[N]`, the class of each position, never an absent one; -1 for a position that does not count.
        bias: of the frozen classes, `[V]`, without gradient; the trainable ones have none.
        absent: bool `[V]`, true for frozen classes that do not exist: padding, or a slot that a new token took.
        scale: factor on the logits.
        cap: soft cap of the logits; 0 for none.

    Returns:
        loss `[N]`, float32 (float64 for float64), and whether no class is likelier than the position's, bool `[N]`. A
        position that does not count has loss 0, gradient 0 and no hit.

    Raises:
        ValueError: widths or lengths do not fit.
    """
    if not states.shape[1] == table.shape[1] == rows.shape[1]:
        raise ValueError(f"states are {states.shape[1]} wide, the table {table.shape[1]}, the rows {rows.shape[1]}")
    if any(given is not None and given.shape != table.shape[:1] for given in (bias, absent)):
        raise ValueError(f"bias and absent need one value for each of the {len(table)} frozen classes")
    towards = states.requires_grad and torch.is_grad_enabled()
    found = linear_cross_entropy_op(states, table.detach(), rows, targets, bias, absent, scale, cap, towards)
    return found[0], found[1]


@torch.library.custom_op("contrastok::linear_cross_entropy", mutates_args=())
def linear_cross_entropy_op(
    states: torch.Tensor,
    table: torch.Tensor,
    rows: torch.Tensor,
    targets: torch.Tensor,
    bias: torch.Tensor | None,
    absent: torch.Tensor | None,
    scale: float,
    cap: float,
    towards: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Loss, hits, log of the sum of exponentials (infinite where none counts) and, if `towards`, d loss / d state."""
    loss = states.new_empty(len(states), dtype=accumulator(states))
    lse, hits = torch.empty_like(loss), torch.empty_like(loss, dtype=torch.bool)
    pulled = states.new_empty(len(states) if towards else 0, states.shape[1], dtype=loss.dtype)
    for part in blocks(len(states)):
        x, y = states[part], targets[part]
        top, total, own, pull = streamed(x, y, classes(x, table, rows, bias, absent), scale, cap, towards)
        counts = y >= 0
        loss[part] = torch.where(counts, (top - own) + total.log(), 0.0)  # large logits cancel before the small log
        lse[part] = torch.where(counts, top + total.log(), torch.inf)
        hits[part] = counts & (own >= top)
        if towards:
            mean = pull / total[:, None] - slope(own, scale, cap)[:, None] * class_rows(y, table, rows, x.dtype)
            pulled[part] = torch.where(counts[:, None], mean, 0.0)
    return loss, hits, lse, pulled


@linear_cross_entropy_op.register_fake
def _(
    states: torch.Tensor,
    table: torch.Tensor,
    rows: torch.Tensor,
    targets: torch.Tensor,
    bias: torch.Tensor | None,
    absent: torch.Tensor | None,
    scale: float,
    cap: float,
    towards: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    loss = states.new_empty(states.shape[0], dtype=accumulator(states))
    pulled = states.new_empty(states.shape[0] if towards else 0, states.shape[1], dtype=loss.dtype)
    return loss, torch.empty_like(loss, dtype=torch.bool), torch.empty_like(loss), pulled


@torch.library.custom_op("contrastok::linear_cross_entropy_rows", mutates_args=())
def row_grad_op(
    grad: torch.Tensor,
    lse: torch.Tensor,
    states: torch.Tensor,
    rows: torch.Tensor,
    targets: torch.Tensor,
    old: int,
    scale: float,
    cap: float,
) -> torch.Tensor:
    """Gradient of the trainable classes, `[n, d]` in their dtype; there are `old` classes before them."""
    total = torch.zeros_like(rows, dtype=accumulator(states), memory_format=torch.contiguous_format)
    for part in blocks(len(states)):
        x = states[part]
        for start in range(0, len(rows), CLASSES):
            keys = rows[start : start + CLASSES].to(x.dtype)
            logits = shaped(product(x, keys.T), scale, cap)
            steep = slope(logits, scale, cap)
            at, inside = places(targets[part], old + start, len(keys))
            pull = logits.sub_(lse[part, None]).exp_()
            pull.scatter_add_(1, at[:, None], -inside.to(pull.dtype)[:, None])
            pull *= grad[part, None] * steep
            total[start : start + len(keys)] += product(pull.to(x.dtype).T, x)
    return total.to(rows.dtype)


@row_grad_op.register_fake
def _(
    grad: torch.Tensor,
    lse: torch.Tensor,
    states: torch.Tensor,
    rows: torch.Tensor,
    targets: torch.Tensor,
    old: int,
    scale: float,
    cap: float,
) -> torch.Tensor:
    return torch.empty_like(rows, memory_format=torch.contiguous_format)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
    states, table, rows, targets, _, _, ctx.scale, ctx.cap, _ = inputs
    ctx.old = table.shape[0]
    ctx.save_for_backward(output[2], output[3], states, rows, targets)


def _backward(ctx: Any, grad: torch.Tensor, *_: Any) -> tuple[Any, ...]:
    lse, towards, states, rows, targets = ctx.saved_tensors
    dx = (grad[:, None] * towards).to(states.dtype) if ctx.needs_input_grad[0] else None
    dr = None
    if ctx.needs_input_grad[2]:
        dr = row_grad_op(grad, lse, states, rows, targets, ctx.old, ctx.scale, ctx.cap)
    return dx, None, dr, None, None, None, None, None, None


linear_cross_entropy_op.register_autograd(_backward, setup_context=_save)


def blocks(count: int) -> list[slice]:
    """Runs of positions that are looked at together."""
    return [slice(start, start + POSITIONS) for start in range(0, count, POSITIONS)]


def classes(
    states: torch.Tensor,
    table: torch.Tensor,
    rows: torch.Tensor,
    bias: torch.Tensor | None,
    absent: torch.Tensor | None,
) -> Iterator[tuple[int, torch.Tensor, torch.Tensor | None, torch.Tensor | None]]:
    """Runs of classes in the dtype of the states, frozen ones first: the first one's number, rows, bias, absence."""
    for start in range(0, len(table), CLASSES):
        run = slice(start, start + CLASSES)
        keys = table[run].to(states.dtype)
        yield start, keys, None if bias is None else bias[run], None if absent is None else absent[run]
    for start in range(0, len(rows), CLASSES):
        yield len(table) + start, rows[start : start + CLASSES].to(states.dtype), None, None


def streamed(
    states: torch.Tensor,
    targets: torch.Tensor,
    runs: Iterator[tuple[int, torch.Tensor, torch.Tensor | None, torch.Tensor | None]],
    scale: float,
    cap: float,
    towards: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Highest logit, sum of exp(logit - highest), the target's logit and, if `towards`, the rows' weighted sum."""
    wide = accumulator(states)
    top = states.new_full((len(states),), torch.finfo(wide).min, dtype=wide)  # finite: a run may hold no class at all
    total, own = torch.zeros_like(top), top
    pulled = torch.zeros_like(states if towards else states[:0], dtype=wide)
    for start, keys, bias, absent in runs:
        raw = product(states, keys.T)
        logits = shaped(raw if bias is None else raw.add_(bias), scale, cap)
        steep = slope(logits, scale, cap)
        if absent is not None:
            logits.masked_fill_(absent, -torch.inf)
        at, inside = places(targets, start, len(keys))
        own = torch.where(inside, logits.gather(1, at[:, None]).squeeze(1), own)
        highest = torch.maximum(top, logits.amax(dim=1))
        weights, shrink = logits.sub_(highest[:, None]).exp_(), (top - highest).exp()
        total = total * shrink + weights.sum(dim=1)
        if towards:
            pulled = (pulled * shrink[:, None]).add_(product(weights.mul_(steep).to(states.dtype), keys))
        top = highest
    return top, total, own, pulled


def shaped(raw: torch.Tensor, scale: float, cap: float) -> torch.Tensor:
    """Logits of what the table gives, in place."""
    return raw.mul_(scale / cap).tanh_().mul_(cap) if cap else raw.mul_(scale)


def slope(logits: torch.Tensor, scale: float, cap: float) -> torch.Tensor:
    """d logit / d (x . w) at these logits; one number for all of them where there is no cap."""
    return (1 - (logits / cap).square()) * scale if cap else logits.new_full((1,) * logits.ndim, scale)


def places(targets: torch.Tensor, start: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Where in a run of `count` classes from `start` on each target stands (0 if outside), and whether it does."""
    at = targets - start
    inside = (at >= 0) & (at < count) & (targets >= 0)
    return torch.where(inside, at, 0), inside


def class_rows(targets: torch.Tensor, table: torch.Tensor, rows: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The row of each position's class, `[N, d]`; of a position that does not count some row."""
    frozen = table.index_select(0, targets.clamp(0, len(table) - 1)).to(dtype)
    if not len(rows):
        return frozen
    new = rows.index_select(0, (targets - len(table)).clamp_min(0)).to(dtype)
    return torch.where((targets >= len(table))[:, None], new, frozen)
