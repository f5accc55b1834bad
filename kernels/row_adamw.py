"""AdamW on the rows of a batch alone, together with the sum of their gradients."""

from __future__ import annotations

import torch

from contrastok.kernels.plan import RowPlan
from contrastok.kernels.runtime import use_triton
from contrastok.kernels.segment import row_sums


def row_adamw_(
    rows: torch.Tensor,
    exp_avg: torch.Tensor,
    exp_avg_sq: torch.Tensor,
    steps: torch.Tensor,
    grad: torch.Tensor,
    plan: RowPlan,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    scale: float = 1.0,
) -> None:
    """Update the rows that occur in a batch, in place: AdamW (Loshchilov & Hutter 2019, algorithm 2), lazily.

    The gradient of the rows is never written: each row's sum goes straight into its moments. That pays off for many
    rows of which a batch touches few. Where every row occurs in every batch it is `torch.optim.AdamW`. Else it differs
    from it: a row that does not occur keeps its value and its moments (dense AdamW lets moments fade, moves the row on
    by what is left of them, and decays it), and the correction of its moments' bias goes by the row's own steps. As no
    gradient is ever whole, it cannot be clipped, accumulated over batches or reduced over processes.

    Args:
        rows: float32 `[n, d]` (float64 with float64 gradients), contiguous, as are the moments.
        exp_avg: mean of gradients, like `rows`.
        exp_avg_sq: mean of squared gradients, like `rows`.
        steps: updates that each row has had, int32 `[n]`.
        grad: gradient of the output of `gather_rows`, `[..., d]`, any float dtype.
        plan: the plan of the batch, on the same device.
        lr: learning rate.
        betas: of the two means, each in [0, 1).
        eps: added to the root of the second mean.
        weight_decay: share of `lr` by which a row shrinks at its step.
        scale: what `gather_rows` multiplied rows by.
    """
    flat = grad.reshape(-1, grad.shape[-1])
    row_adamw_op(
        rows, exp_avg, exp_avg_sq, steps, flat, plan.tensors(), lr, betas[0], betas[1], eps, weight_decay, scale
    )


@torch.library.custom_op("contrastok::row_adamw", mutates_args=("rows", "exp_avg", "exp_avg_sq", "steps"))
def row_adamw_op(
    rows: torch.Tensor,
    exp_avg: torch.Tensor,
    exp_avg_sq: torch.Tensor,
    steps: torch.Tensor,
    grad: torch.Tensor,
    plan: list[torch.Tensor],
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    scale: float,
) -> None:
    """`row_adamw_` on a flat gradient `[N, d]`; `plan` is `RowPlan.tensors()`."""
    if not len(plan[0]):
        return
    if use_triton(grad):
        from contrastok.kernels.row_adamw_triton import update

        return update(rows, exp_avg, exp_avg_sq, steps, grad, plan, lr, beta1, beta2, eps, weight_decay, scale)
    touched = plan[2].long()
    summed = row_sums(grad, plan) * scale
    count = steps.index_select(0, touched) + 1
    first = exp_avg.index_select(0, touched).lerp_(summed, 1 - beta1)
    second = exp_avg_sq.index_select(0, touched).mul_(beta2).addcmul_(summed, summed, value=1 - beta2)
    bias1, bias2 = (1 - beta ** count[:, None].double() for beta in (beta1, beta2))
    away = second.sqrt().div_(bias2.sqrt().to(rows.dtype)).add_(eps)
    moved = rows.index_select(0, touched).mul_(1 - lr * weight_decay)
    moved -= first / away * (lr / bias1).to(rows.dtype)
    for state, new in ((rows, moved), (exp_avg, first), (exp_avg_sq, second), (steps, count)):
        state.index_copy_(0, touched, new)


@row_adamw_op.register_fake
def _(
    rows: torch.Tensor,
    exp_avg: torch.Tensor,
    exp_avg_sq: torch.Tensor,
    steps: torch.Tensor,
    grad: torch.Tensor,
    plan: list[torch.Tensor],
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    scale: float,
) -> None:
    return None
