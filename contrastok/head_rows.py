"""Where classes of new tokens start in a language-model head, and how they are trained with the rows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from contrastok.bounds import bound
from contrastok.embedding import HeadRows, RowOverlay
from contrastok.export import init_context
from contrastok.initializers import FALLBACK, INITIALIZERS, InitOptions, initial_rows
from contrastok.models import language_head
from contrastok.vocabulary import VocabularyPlan

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def first_head_rows(
    model: SentenceTransformer, plan: VocabularyPlan, init: str, seed: int = 0, norm: str = "keep"
) -> torch.Tensor | None:
    """First classes of the new ids, by the initialiser of the rows over the head's own table.

    What learns rows from evidence knows nothing of classes: these then start at the means of their pieces, weighted by
    characters. Forms of a term start alike and go their own ways.

    Args:
        model: that nothing is attached to.
        plan: the new tokens.
        init: the initialiser of the rows.
        seed, norm: as the rows have them.

    Returns:
        float32 `[m, d]` in the order of `plan.ids`; None where there is no head or it is tied.
    """
    head = language_head(model)
    if head is None or head.tied:
        return None
    known = INITIALIZERS.get(init)
    name = init if known is not None and known.repeatable else FALLBACK
    context = replace(init_context(model, plan, seed), table=head.linear.weight, options=InitOptions(norm=norm))
    rows = initial_rows(name, context)
    return rows.cpu()[[token.row for token in plan.tokens]]


def train_classes(
    model: SentenceTransformer, overlay: RowOverlay, first: torch.Tensor | None, old: bool = False
) -> None:
    """Let an objective that predicts tokens train their classes: rows of their own, or else the rows; both are bounded.

    PEFT's rows are not: its layer reads them as they are.

    Args:
        model: with the overlay attached and a head.
        overlay: the rows.
        first: what `first_head_rows` gave.
        old: whether old classes are trained too, where they are no rows of the embedding.
    """
    if first is not None:
        table = language_head(model).linear.weight
        if old:
            first = torch.cat([first.to(table.device), table.detach()[overlay.ids[overlay.new :]].float()])
        overlay.head = HeadRows(first).to(overlay.weight.device)
        bound(overlay.head, table)
    elif overlay.made:
        bound(overlay, overlay.weight)
