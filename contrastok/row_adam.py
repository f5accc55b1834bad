"""Adam that moves a row only where it occurs: opt-in, for many terms of which a step sees few.

Dense Adam goes on moving a row by what is left of its mean gradient for some thirty steps after it was last seen, by
about thirty steps' worth in all, so that a rare term moves nearly as far as a frequent one. Here a row that does not
occur stays where it is, and the correction of its moments goes by its own steps (LazyAdam of TensorFlow Addons,
`SparseAdam` of torch, which corrects by the steps of all).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from contrastok.kernels.plan import RowPlan
from contrastok.kernels.row_adamw import row_adamw_


class RowAdam(torch.optim.Adam):
    """torch's Adam for everything, but lazy for one table of rows.

    Args:
        groups: groups of parameters; the table is one of them.
        rows: the table, float32 `[n, d]`.
        eps: Adam's epsilon.
    """

    def __init__(self, groups: list[dict[str, Any]], rows: torch.nn.Parameter, *, eps: float) -> None:
        super().__init__(groups, eps=eps, weight_decay=0.0, fused=True)
        self.rows, self.plan = rows, RowPlan.of(torch.zeros(0, dtype=torch.int32), len(rows))

    def touch(self, rows: Iterable[int]) -> None:
        """Say, on the host, which rows have a gradient in the next step."""
        plan = RowPlan.of(torch.tensor(sorted(set(rows)), dtype=torch.int32), len(self.rows))
        self.plan = plan.to(self.rows.device, non_blocking=True)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Move the rows that were touched, and all other parameters as Adam does."""
        grad, self.rows.grad = self.rows.grad, None  # what has no gradient is left alone by Adam
        if grad is not None:
            (group,) = (group for group in self.param_groups if any(p is self.rows for p in group["params"]))
            state = self._moments()
            seen = grad.index_select(0, self.plan.rows)
            moments = state["exp_avg"], state["exp_avg_sq"], state["step"]
            row_adamw_(self.rows, *moments, seen, self.plan, lr=group["lr"], betas=group["betas"], eps=group["eps"])
        return super().step(closure)

    def _moments(self) -> dict[str, torch.Tensor]:
        """The moments of all rows; `step` counts each row's own, and comes back from a saved run as floats."""
        state: dict[str, torch.Tensor] = self.state[self.rows]
        if not state:
            none = torch.zeros_like(self.rows, requires_grad=False)
            state.update(exp_avg=none, exp_avg_sq=none.clone(), step=torch.zeros((), device=none.device))
        if state["step"].dtype != torch.int32:
            state["step"] = state["step"].to(torch.int32).expand(len(self.rows)).contiguous()
        return state
