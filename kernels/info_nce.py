"""InfoNCE of queries against frozen keys."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def info_nce(
    queries: torch.Tensor, keys: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of picking the positive key among all keys by cosine (van den Oord et al. 2018, eq. 4).

    Args:
        queries: `[B, d]`, rows of norm 1.
        keys: `[K, d]`, rows of norm 1; they get no gradient.
        targets: int64 `[B]`, the column of each query's positive.
        mask: bool `[B, K]`, true where a key is no negative of the query (a false negative). A query's own
            positive is never masked.
        temperature: cosines are divided by it.

    Returns:
        loss `[B]`, and whether the positive was the nearest key, bool `[B]`.
    """
    logits = queries @ keys.detach().T / temperature
    own = F.one_hot(targets, keys.shape[0]).bool()
    logits = logits.masked_fill(mask & ~own, float("-inf"))
    return F.cross_entropy(logits, targets, reduction="none"), logits.argmax(dim=-1) == targets
