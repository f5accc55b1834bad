"""Norms of initial rows: mixes of rows come out shorter than rows are, and a model may mind."""

from __future__ import annotations

import torch

from contrastok.errors import ConfigError, did_you_mean
from contrastok.initializers.context import InitContext

POLICIES = ("keep", "median", "constituents", "scale:X")


def norm_problem(policy: str) -> str:
    """What is wrong with a policy; "" when nothing is."""
    name, _, factor = policy.partition(":")
    if name == "scale":
        try:
            return "" if 0 < float(factor) < float("inf") else f"--init-norm scale:X wants X above 0, not {factor}"
        except ValueError:
            return f"--init-norm scale:X wants a number for X, not {factor!r}"
    if policy in POLICIES:
        return ""
    return f"--init-norm {policy} is no policy: {did_you_mean(policy, POLICIES)}"


def with_norms(rows: torch.Tensor, context: InitContext) -> torch.Tensor:
    """Rows scaled as `context.options.norm` says.

    `keep` leaves them; `median` gives each the median norm of the table's rows; `constituents` the mean norm of its
    own pieces' rows; `scale:X` multiplies them by X. A row of zeros stays one.

    Args:
        rows: float32 `[n, d]`.

    Raises:
        ConfigError: there is no such policy.
    """
    policy = context.options.norm
    problem = norm_problem(policy)
    if problem:
        raise ConfigError(problem)
    name, _, factor = policy.partition(":")
    if name == "keep":
        return rows
    if name == "scale":
        return rows * float(factor)
    norms = context.old_rows().norm(dim=-1).to(rows.device)
    if name == "median":
        wanted = norms.median().expand(len(rows))
    else:
        wanted = torch.stack([norms[list(ids)].mean() for ids in context.pieces])
    scaled: torch.Tensor = rows * (wanted / rows.norm(dim=-1).clamp_min(1e-12))[:, None]
    return scaled
