"""InfoNCE against a large frozen bank: the loss and its gradient from one look at each row of the bank."""

from __future__ import annotations

from typing import Any

import torch

from contrastok.kernels.info_nce import check_masks, product
from contrastok.kernels.runtime import accumulator, use_triton

CHUNK = 4096
"""Rows of the bank that plain torch takes at once. Measured by `python -m benchmarks.kernels bank`."""
TILED_WIDTH = 512
"""Up to this width the Triton kernel keeps a query's gradient in registers."""


def bank_info_nce(
    queries: torch.Tensor,
    positives: torch.Tensor,
    bank: torch.Tensor,
    temperature: float,
    *,
    mask: torch.Tensor | None = None,
    row_groups: torch.Tensor | None = None,
    bank_groups: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of telling each query's positive from all rows of the bank (van den Oord et al. 2018, eq. 4).

    As the bank is frozen, the gradient of a query is a mean of the bank's rows, weighted as in attention, and comes out
    of the same pass as the loss (online softmax; Dao et al. 2022, algorithm 1). The bank is cut into slices that are
    added up in a fixed order: the same input gives the same bits. Memory is O(B d), whatever the bank's size (a mask is
    the caller's, B K bytes; groups say the same in B + K numbers where every row has one). There is no second
    derivative.

    Args:
        queries: `[B, d]`, rows of norm 1, any float dtype.
        positives: `[B, d]`, rows of norm 1, same dtype; they get a gradient if they need one.
        bank: `[K, d]`, rows of norm 1, any float dtype; bfloat16 halves what has to be read, and on CUDA is what
            queries and weights are rounded to before they are multiplied. It gets no gradient.
        temperature: cosines are divided by it.
        mask: bool `[B, K]`, true where a row of the bank is no negative of the query, or None. A positive that stands
            in the bank has to be masked, this way or by a group.
        row_groups: int `[B]`, of 32 bits: a row of the bank of the same group is no negative of the query either.
        bank_groups: int `[K]`, with `row_groups`.

    Returns:
        loss `[B]`, float32 (float64 for float64), and whether the positive was nearer than every negative, bool
        `[B]` (a tie counts). A query whose negatives are all masked has loss 0 and gradient 0.

    Raises:
        ValueError: dtypes of queries and positives differ, sizes do not fit, or one of the groups is missing.
    """
    if queries.dtype != positives.dtype:
        raise ValueError(f"queries are {queries.dtype}, positives {positives.dtype}")
    if queries.shape != positives.shape or queries.shape[1] != bank.shape[1]:
        sizes = ", ".join(str(list(given.shape)) for given in (queries, positives, bank))
        raise ValueError(f"queries, positives and bank do not fit each other: {sizes}")
    check_masks(queries, bank, mask, row_groups, bank_groups)
    loss, hits, _, _ = bank_info_nce_op(queries, positives, bank, mask, row_groups, bank_groups, temperature)
    return loss, hits


@torch.library.custom_op("contrastok::bank_info_nce", mutates_args=())
def bank_info_nce_op(
    queries: torch.Tensor,
    positives: torch.Tensor,
    bank: torch.Tensor,
    mask: torch.Tensor | None,
    row_groups: torch.Tensor | None,
    bank_groups: torch.Tensor | None,
    temperature: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Loss, hits, gradient of the loss by the query `[B, d]`, and the negatives' share of the softmax `[B]`."""
    wide = queries.to(accumulator(queries))
    own = (wide * positives).sum(dim=-1) / temperature
    half = bank.dtype in (torch.bfloat16, torch.float16)
    if use_triton(queries) and half and queries.shape[1] <= TILED_WIDTH:
        from contrastok.kernels.bank_info_nce_triton import slices

        top, total, pulled = combined(*slices(queries, own, bank, mask, row_groups, bank_groups, temperature))
    else:
        top, total, pulled = streamed(wide, own, bank, mask, row_groups, bank_groups, temperature)
    self_weight = (own - top).exp()
    whole = total + self_weight
    share = total / whole
    towards = (pulled / whole[:, None] - share[:, None] * positives) / temperature
    return top - own + whole.log(), top == own, towards.contiguous(), share


@bank_info_nce_op.register_fake
def _(
    queries: torch.Tensor,
    positives: torch.Tensor,
    bank: torch.Tensor,
    mask: torch.Tensor | None,
    row_groups: torch.Tensor | None,
    bank_groups: torch.Tensor | None,
    temperature: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    loss = queries.new_empty(queries.shape[0], dtype=accumulator(queries))
    towards = torch.empty_like(queries, dtype=loss.dtype, memory_format=torch.contiguous_format)
    return loss, torch.empty_like(loss, dtype=torch.bool), towards, torch.empty_like(loss)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
    ctx.temperature = inputs[-1]
    ctx.save_for_backward(inputs[0], output[2], output[3])


def _backward(ctx: Any, grad: torch.Tensor, *_: Any) -> tuple[Any, ...]:
    queries, towards, share = ctx.saved_tensors
    dq = (grad[:, None] * towards).to(queries.dtype) if ctx.needs_input_grad[0] else None
    dp = (-(grad * share / ctx.temperature)[:, None] * queries).to(queries.dtype) if ctx.needs_input_grad[1] else None
    return dq, dp, None, None, None, None, None


bank_info_nce_op.register_autograd(_backward, setup_context=_save)


def streamed(
    queries: torch.Tensor,
    own: torch.Tensor,
    bank: torch.Tensor,
    mask: torch.Tensor | None,
    row_groups: torch.Tensor | None,
    bank_groups: torch.Tensor | None,
    temperature: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Highest logit (the positive's included), sum of the negatives' exp(logit - highest), and their weighted sum.

    The positive's logit is where the online softmax starts, so there is always a finite highest one.
    """
    top, total, pulled = own, torch.zeros_like(own), torch.zeros_like(queries)
    for start in range(0, len(bank), CHUNK):
        keys = bank[start : start + CHUNK].to(queries.dtype)
        logits = product(queries, keys.T).div_(temperature)
        if mask is not None:
            logits.masked_fill_(mask[:, start : start + CHUNK], -torch.inf)
        if row_groups is not None and bank_groups is not None:
            logits.masked_fill_(row_groups[:, None] == bank_groups[start : start + CHUNK], -torch.inf)
        highest = torch.maximum(top, logits.amax(dim=1))
        weights, shrink = logits.sub_(highest[:, None]).exp_(), (top - highest).exp()
        total = total * shrink + weights.sum(dim=1)
        pulled = (pulled * shrink[:, None]).add_(product(weights, keys))
        top = highest
    return top, total, pulled


def combined(
    tops: torch.Tensor, totals: torch.Tensor, pulls: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The same three of the whole bank from those of its slices, `[S, B]`, `[S, B]`, `[S, B, d]`, in their order."""
    top = tops.amax(dim=0)
    weights = (tops - top).exp()
    total, pulled = torch.zeros_like(top), torch.zeros_like(pulls[0])
    for weight, part, pull in zip(weights, totals, pulls, strict=True):
        total += weight * part
        pulled.addcmul_(weight[:, None], pull)
    return top, total, pulled
