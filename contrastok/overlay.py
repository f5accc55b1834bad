"""Lay trainable rows over a model's embedding, and merge them into a stock model when they are done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from contrastok.embedding import RowOverlay
from contrastok.errors import ModelError
from contrastok.lm_head import with_rows
from contrastok.models import input_embedding, language_head, transformer
from contrastok.token_modes import put_backend
from contrastok.vocabulary import VocabularyPlan

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedTokenizerFast


def attach(
    model: Any,
    plan: VocabularyPlan,
    rows: torch.Tensor,
    kind: type[RowOverlay] = RowOverlay,
    *,
    old_rows: bool = False,
) -> RowOverlay:
    """Lay rows over the model's input embedding. They become its only trainable tensor.

    Args:
        model: a loaded model (see `transformer`); it is changed in place, its tensors are not.
        plan: the new tokens.
        rows: initial rows, `[n, d]`.
        kind: class of the overlay.
        old_rows: lay copies of all old rows over the table too, behind the new ones: they are trained.

    Returns:
        the overlay; `overlay.rows` is the parameter to train.

    Raises:
        ModelError: the model does not look its input up where it says it does.
    """
    body = transformer(model)
    model.requires_grad_(False)
    base = input_embedding(model)
    ids, row_of = list(plan.ids), [token.row for token in plan.tokens]
    if old_rows:
        rows = torch.cat([rows.to(base.weight.device, torch.float32), base.weight.detach().float()])
        new = set(ids)
        others = [i for i in range(base.weight.shape[0]) if i not in new]
        row_of += [len(rows) - base.weight.shape[0] + i for i in others]
        ids += others
    overlay = kind(base, rows, ids, row_of)
    overlay.new = len(plan.ids)
    body.set_input_embeddings(overlay)
    attached = body.get_input_embeddings() is overlay
    if not attached:
        raise ModelError("its input embedding cannot be replaced", where=type(body).__name__)
    return overlay


def detach(model: Any) -> None:
    """Put the base embedding back, as if nothing had been attached."""
    embedding = input_embedding(model)
    if isinstance(embedding, RowOverlay):
        transformer(model).set_input_embeddings(embedding.base)


def merge(
    model: SentenceTransformer,
    plan: VocabularyPlan,
    rows: torch.Tensor,
    tokenizer: PreTrainedTokenizerFast,
    head_rows: torch.Tensor | None = None,
) -> None:
    """Write rows into the model's own embedding table (see `merge_rows`) and give it the extended tokenizer."""
    merge_rows(model, plan, rows, head_rows)
    put_backend(model.tokenizer, tokenizer.backend_tokenizer)


@torch.no_grad()
def merge_rows(model: Any, plan: VocabularyPlan, rows: torch.Tensor, head_rows: torch.Tensor | None = None) -> None:
    """Write rows into the model's own embedding table, and its head's.

    The old rows are copied bit by bit. The table grows only if an id lies beyond it and never shrinks: rows
    that the base model keeps beyond its tokenizer (padding) stay where they are.

    Args:
        model: a model with or without an overlay; afterwards it is a stock model.
        plan: the new tokens.
        rows: `[n, d]`.
        head_rows: classes of the new ids in a language-model head that is not tied, `[m, d]`.
    """
    detach(model)
    base, ids = input_embedding(model), list(plan.ids)
    base.weight = with_rows(base.weight, ids, rows[[token.row for token in plan.tokens]], max(ids, default=-1) + 1)
    size = base.weight.shape[0]
    if hasattr(base, "num_embeddings"):
        base.num_embeddings = size
    transformer(model).set_input_embeddings(base)  # models that hold it twice (T5) must see the same table twice
    if (head := language_head(model)) is not None:
        head.grow(ids, head_rows, base.weight)
    config = transformer(model).config
    (config.get_text_config() if hasattr(config, "get_text_config") else config).vocab_size = size
