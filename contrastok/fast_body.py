"""What makes the frozen body faster where launching work costs more than doing it: small encoders on a GPU."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from contrastok.bank import collate
from contrastok.errors import ModelError
from contrastok.models import transformer

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def compile_layers(model: SentenceTransformer) -> int:
    """Compile each layer of the body (`torch.compile`, shapes left open), in place; its tensors are not touched.

    Layers are alike, so one compilation serves all of them, and what stands around them (our embedding, whose plans
    differ from step to step; the pooling) stays as it is.

    Returns:
        the number of layers.

    Raises:
        ModelError: the body has no list of layers.
    """
    lists = [module for module in transformer(model).modules() if isinstance(module, nn.ModuleList)]
    layers = max(lists, key=len, default=nn.ModuleList())
    if not len(layers) or len({type(layer) for layer in layers}) > 1:
        raise ModelError(
            "its body has no list of like layers",
            where=type(transformer(model)).__name__,
            hint="train without --compile",
        )
    for layer in layers:
        layer.compile(dynamic=True)
    return len(layers)


@contextlib.contextmanager
def masks_ready(model: SentenceTransformer, tokenizer: Any) -> Iterator[bool]:
    """Inside, the body gets its attention mask ready made, `[B, 1, T, T]`, where that changes nothing it says.

    Hugging Face's models look whether a batch has padding at all, and on a GPU that look waits for all work before it,
    once a forward pass. A model that reads masks otherwise (a causal one, say) gives other outputs on a padded batch,
    and keeps its own way.

    Args:
        model: the model, in eval mode.
        tokenizer: for padding.

    Yields:
        whether masks are ready made.
    """
    body = transformer(model)
    own, forward = vars(body).get("forward"), body.forward  # a library may have put one on the instance
    features = collate(tokenizer, [tokenizer("a")["input_ids"], tokenizer("a b c d e")["input_ids"]], model.device)
    with torch.no_grad():
        before = model(dict(features))["sentence_embedding"]
        body.forward = _with_ready_mask(body)  # no hook: sentence-transformers calls forward past all hooks
        try:
            after = model(dict(features))["sentence_embedding"]
            same = bool(torch.isfinite(after).all()) and torch.allclose(before, after, rtol=1e-2, atol=1e-3)
        except (RuntimeError, ValueError, TypeError, AttributeError, IndexError):
            same = False
    if not same:
        body.forward = forward
    try:
        yield same
    finally:
        if own is None:
            del body.forward
        else:
            body.forward = own


def _with_ready_mask(body: nn.Module) -> Callable[..., Any]:
    """The body's forward; a mask `[B, T]` reaches it as what is added to attention scores, `[B, 1, T, T]`."""
    forward, dtype = body.forward, next(body.parameters()).dtype

    @functools.wraps(forward)  # what it takes, positions for example, is asked of its signature
    def expanded(*args: Any, attention_mask: torch.Tensor | None = None, **kwargs: Any) -> Any:
        if attention_mask is not None and attention_mask.ndim == 2:
            added = torch.zeros(attention_mask.shape, dtype=dtype, device=attention_mask.device)
            added = added.masked_fill(attention_mask == 0, torch.finfo(dtype).min)
            attention_mask = added[:, None, None, :].expand(-1, 1, attention_mask.shape[1], -1)
        return forward(*args, attention_mask=attention_mask, **kwargs)

    return expanded
