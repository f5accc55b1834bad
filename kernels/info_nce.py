"""InfoNCE of queries against keys, without ever holding all their similarities."""

from __future__ import annotations

from typing import Any

import torch

from contrastok.kernels.runtime import accumulator, use_triton

CHUNK = 2**22
"""Similarities that a matrix product makes at once. Measured by `python -m benchmarks.kernels chunk`."""
TILED_FROM = 2**26
"""From so many similarities on, tiles that stay on the chip beat matrix products that write chunks of them to memory;
an estimate for the H100 until `python -m benchmarks.kernels tiles` has run on one."""
TILED_WIDTH = 512
"""Up to this width; above it the products dominate, and a library's are faster."""


def info_nce(
    queries: torch.Tensor,
    keys: torch.Tensor,
    targets: torch.Tensor,
    mask: torch.Tensor | None,
    temperature: float,
    *,
    row_groups: torch.Tensor | None = None,
    key_groups: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of picking the positive key among all keys by cosine (van den Oord et al. 2018, eq. 4).

    Memory is O(B d + K d), forward and backward; a side that needs no gradient costs none. The softmax is the online
    one (Milakov & Gimelshein 2018), accumulated in float32; the same input gives the same bits. There is no second
    derivative.

    Args:
        queries: `[B, d]`, rows of norm 1, any float dtype.
        keys: `[K, d]`, rows of norm 1, same dtype.
        targets: int64 `[B]`, the column of each query's positive; -1 for a query that has none.
        mask: bool `[B, K]`, true where a key is no negative of the query (a false negative), or None. A query's own
            positive is never masked.
        temperature: cosines are divided by it.
        row_groups: int `[B]`, of 32 bits: a key of the same group is no negative either.
        key_groups: int `[K]`, with `row_groups`.

    Returns:
        loss `[B]`, float32 (float64 for float64), and whether the positive was the nearest key, bool `[B]` (a tie
        counts). A query whose negatives are all masked, or that has no positive, has loss 0 and gradient 0.

    Raises:
        ValueError: the dtypes differ, sizes do not fit, or one of the groups is missing.
    """
    if queries.dtype != keys.dtype:
        raise ValueError(f"queries are {queries.dtype}, keys {keys.dtype}")
    if queries.shape[1] != keys.shape[1] or targets.shape != queries.shape[:1]:
        sizes = ", ".join(str(list(given.shape)) for given in (queries, keys, targets))
        raise ValueError(f"queries, keys and targets do not fit each other: {sizes}")
    check_masks(queries, keys, mask, row_groups, key_groups)
    loss, _, hits = info_nce_op(queries, keys, targets, mask, row_groups, key_groups, temperature)
    return loss, hits


def check_masks(
    queries: torch.Tensor,
    keys: torch.Tensor,
    mask: torch.Tensor | None,
    row_groups: torch.Tensor | None,
    key_groups: torch.Tensor | None,
) -> None:
    """Refuse masks of another size: a kernel would read what lies behind them."""
    if (row_groups is None) != (key_groups is None):
        raise ValueError("groups are given for rows and keys, or for neither")
    wanted = ((mask, (len(queries), len(keys))), (row_groups, (len(queries),)), (key_groups, (len(keys),)))
    for given, shape in wanted:
        if given is not None and given.shape != shape:
            raise ValueError(f"a mask or its groups are {list(given.shape)} and have to be {list(shape)}")


@torch.library.custom_op("contrastok::info_nce", mutates_args=())
def info_nce_op(
    queries: torch.Tensor,
    keys: torch.Tensor,
    targets: torch.Tensor,
    mask: torch.Tensor | None,
    row_groups: torch.Tensor | None,
    key_groups: torch.Tensor | None,
    temperature: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Loss, log of the sum of exponentials (infinite for a query without a positive: no key has a share), and hits."""
    if tiled(queries, keys):
        from contrastok.kernels.info_nce_triton import forward

        return forward(queries, keys, targets, mask, row_groups, key_groups, temperature)
    loss = queries.new_zeros(len(queries), dtype=accumulator(queries))
    lse, hits = torch.full_like(loss, torch.inf), torch.zeros_like(loss, dtype=torch.bool)
    for part in parts(queries, keys):
        logits = chunk_logits(queries, keys, targets, mask, row_groups, key_groups, temperature, part)
        active, own = targets[part] >= 0, logits.gather(1, targets[part, None].clamp_min(0)).squeeze(1)
        top = torch.where(active, logits.amax(dim=1), 0.0)
        log = logits.sub_(top[:, None]).exp_().sum(dim=1).log_()
        lse[part] = torch.where(active, top + log, torch.inf)
        loss[part] = torch.where(active, (top - own) + log, 0.0)  # large logits cancel before the small log comes in
        hits[part] = active & (own >= top)
    return loss, lse, hits


@info_nce_op.register_fake
def _(
    queries: torch.Tensor,
    keys: torch.Tensor,
    targets: torch.Tensor,
    mask: torch.Tensor | None,
    row_groups: torch.Tensor | None,
    key_groups: torch.Tensor | None,
    temperature: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    loss = queries.new_empty(queries.shape[0], dtype=accumulator(queries))
    return loss, torch.empty_like(loss), torch.empty_like(loss, dtype=torch.bool)


@torch.library.custom_op("contrastok::info_nce_backward", mutates_args=())
def info_nce_backward_op(
    grad: torch.Tensor,
    lse: torch.Tensor,
    queries: torch.Tensor,
    keys: torch.Tensor,
    targets: torch.Tensor,
    mask: torch.Tensor | None,
    row_groups: torch.Tensor | None,
    key_groups: torch.Tensor | None,
    temperature: float,
    query_grad: bool,
    key_grad: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of queries and keys, in their dtype; empty for the side that needs none."""
    if tiled(queries, keys):
        from contrastok.kernels.info_nce_triton import backward

        return backward(
            grad, lse, queries, keys, targets, mask, row_groups, key_groups, temperature, query_grad, key_grad
        )
    dq = torch.zeros_like(queries if query_grad else queries[:0])
    dk = torch.zeros_like(keys if key_grad else keys[:0], dtype=grad.dtype)
    for part in parts(queries, keys):
        logits = chunk_logits(queries, keys, targets, mask, row_groups, key_groups, temperature, part)
        pull = logits.sub_(lse[part, None]).exp_()  # each key's share, less one for the positive
        active = (targets[part] >= 0).to(pull.dtype)
        pull.scatter_add_(1, targets[part, None].clamp_min(0), -active[:, None])
        pull *= (grad[part] / temperature)[:, None]
        if query_grad:
            dq[part] = product(pull.to(keys.dtype), keys).to(dq.dtype)
        if key_grad:
            dk += product(pull.to(queries.dtype).T, queries[part])
    return dq, dk.to(keys.dtype)


@info_nce_backward_op.register_fake
def _(
    grad: torch.Tensor,
    lse: torch.Tensor,
    queries: torch.Tensor,
    keys: torch.Tensor,
    targets: torch.Tensor,
    mask: torch.Tensor | None,
    row_groups: torch.Tensor | None,
    key_groups: torch.Tensor | None,
    temperature: float,
    query_grad: bool,
    key_grad: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty_like(queries if query_grad else queries[:0]), torch.empty_like(keys if key_grad else keys[:0])


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
    *tensors, ctx.temperature = inputs
    ctx.save_for_backward(output[1], *tensors)


def _backward(ctx: Any, grad: torch.Tensor, *_: Any) -> tuple[Any, ...]:
    query_grad, key_grad = ctx.needs_input_grad[:2]
    dq, dk = info_nce_backward_op(grad, *ctx.saved_tensors, ctx.temperature, query_grad, key_grad)
    return dq if query_grad else None, dk if key_grad else None, None, None, None, None, None


info_nce_op.register_autograd(_backward, setup_context=_save)


def tiled(queries: torch.Tensor, keys: torch.Tensor) -> bool:
    """Whether tiles on the chip are faster than matrix products over chunks."""
    wide = queries.shape[1] > TILED_WIDTH
    return use_triton(queries) and not wide and len(queries) * len(keys) >= TILED_FROM


def parts(queries: torch.Tensor, keys: torch.Tensor) -> list[slice]:
    """Runs of queries whose similarities to all keys are a chunk; none where there are no keys."""
    if not len(keys):
        return []
    size = max(1, CHUNK // len(keys))
    return [slice(start, start + size) for start in range(0, len(queries), size)]


def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The matrix product, added up and returned in float32 (float64 for float64), under autocast too."""
    with torch.autocast(a.device.type, enabled=False):
        if a.is_cuda and a.dtype in (torch.float16, torch.bfloat16):
            return torch.mm(a, b, out_dtype=torch.float32)
        return a.to(accumulator(a)) @ b.to(accumulator(b))


def chunk_logits(
    queries: torch.Tensor,
    keys: torch.Tensor,
    targets: torch.Tensor,
    mask: torch.Tensor | None,
    row_groups: torch.Tensor | None,
    key_groups: torch.Tensor | None,
    temperature: float,
    part: slice,
) -> torch.Tensor:
    """Logits of a run of queries, `[b, K]`; minus infinity where a key is masked."""
    logits = product(queries[part], keys.T).div_(temperature)
    hidden = None if mask is None else mask[part]
    if row_groups is not None and key_groups is not None:
        same = row_groups[part, None] == key_groups
        hidden = same if hidden is None else hidden | same
    if hidden is None:
        return logits
    at = targets[part, None].clamp_min(0)
    own = logits.gather(1, at)
    return logits.masked_fill_(hidden, -torch.inf).scatter_(1, at, own)
