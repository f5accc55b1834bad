"""New rows in a training loop of the user's own: one line puts them over a model, one makes the model a stock one."""

from __future__ import annotations

import copy
import dataclasses
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from contrastok import overlay as overlays
from contrastok.adapter import path_of
from contrastok.bounds import keep_short
from contrastok.embedding import HeadRows, RowOverlay
from contrastok.errors import InputError, ModelError
from contrastok.export import init_context
from contrastok.initializers import initial_rows
from contrastok.lm_head import with_rows
from contrastok.models import input_embedding, require_fast, transformer
from contrastok.token_modes import put_backend
from contrastok.vocabulary import VocabularyPlan, extend_tokenizer, plan_vocabulary

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle
    from transformers import PreTrainedTokenizerFast, TrainerCallback

START = "charlen_mean"
"""Where rows start that the user does not give: the mean of the pieces needs nothing but the model."""


@dataclass(frozen=True, eq=False)
class Attached:
    """Trainable rows over a model, see `attach`.

    Attributes:
        model: what they were attached to.
        tokenizer: its tokenizer, which has the new tokens until `detach`.
        plan: the new tokens: `plan.terms` in the order of the rows, `plan.skipped` with reasons.
        overlay: what stands in the place of the input embedding.
        before: what the tokenizer was.
        trainable: what of the model was trained before.
        hooks: what gives the new tokens their classes, and keeps the head its own while a checkpoint is loaded.
        bounds: what shortens rows and classes that have grown too long.
        sizes: how many classes the model told before, see `told_size`; None where it has no head.
    """

    model: Any
    tokenizer: PreTrainedTokenizerFast
    plan: VocabularyPlan
    overlay: RowOverlay
    before: Any
    trainable: tuple[nn.Parameter, ...]
    hooks: tuple[RemovableHandle, ...]
    bounds: tuple[Callable[[], None], ...]
    sizes: tuple[int, int | None] | None

    @property
    def rows(self) -> nn.Parameter:
        """What is trained, float32 `[n, d]`."""
        return self.overlay.rows

    @property
    def classes(self) -> nn.Parameter | None:
        """What is trained in an output head that is not tied, a class for each of `plan.ids`, float32 `[m, d]`."""
        return None if self.overlay.head is None else self.overlay.head.rows

    def detach(self) -> None:
        """Make model and tokenizer what they were; the rows stay here."""
        overlays.detach(self.model)
        self._unhook()
        if self.sizes is not None:
            tell_size(transformer(self.model), *self.sizes)
        put_backend(self.tokenizer, self.before)
        for parameter in self.trainable:
            parameter.requires_grad_(True)

    def merge(self) -> None:
        """Write the rows into the model's own table: it is a stock model then, and saves and loads as one.

        Old rows keep their bits. Adapters of PEFT stay where they are.
        """
        self._unhook()
        self._merge_into(transformer(self.model))

    def _unhook(self) -> None:
        for hook in self.hooks:
            hook.remove()

    def _merge_into(self, body: Any) -> None:
        for shorten in self.bounds:
            shorten()
        classes = None if self.classes is None else self.classes.detach()
        merge_with_head(body, self.plan, self.rows.detach(), classes)

    def save(self, folder: Path | str) -> None:
        """Write what `merge` would make, Hugging Face model and tokenizer, while training goes on.

        No tensor but the tables is copied.

        Raises:
            ModelError: adapters of PEFT are in the model.
        """
        if has_adapters(self.model):
            raise ModelError(
                "holds adapters of PEFT, which no stock model does",
                where=type(transformer(self.model)).__name__,
                hint="when trained: handle.merge(), then merge_and_unload() of PEFT, then save_pretrained",
            )
        body = transformer(self.model)
        alike = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in body.parameters()}
        twin = copy.deepcopy(body, alike)  # of its own are modules and settings, not the weights
        self._merge_into(twin)
        twin.save_pretrained(str(folder))
        self.tokenizer.save_pretrained(str(folder))

    def callback(self) -> TrainerCallback:
        """For `transformers.Trainer` and `SentenceTransformerTrainer`: what they save is a stock model.

        Raises:
            ModelError: see `save`.
        """
        from contrastok.callback import StockCheckpoints

        return StockCheckpoints(self)


@torch.no_grad()
def attach(
    model: Any,
    tokens: Sequence[str],
    tokenizer: PreTrainedTokenizerFast | None = None,
    rows: torch.Tensor | None = None,
    special: Sequence[str] = (),
) -> Attached:
    """Give a model new tokens of which only the rows are trained; all else is frozen, but for adapters of PEFT.

    Model and tokenizer are changed in place. No table is copied: the rows lie over it until `Attached.merge`. Tokens
    enter the tokenizer as `contrastok train` adds them, so that no text without them changes. In the head of a
    language model they are classes: the rows themselves where it is tied, and `Attached.classes` where it is not.
    Classes grow no longer than the head's own are (see `contrastok.bounds`).

    Args:
        model: a SentenceTransformer, a transformers model, or a `PeftModel` around one.
        tokens: words, in the order of their rows.
        tokenizer: of the model; a SentenceTransformer has its own.
        rows: where they start, `[n, d]`; means of the pieces' rows by default.
        special: those of `tokens` that are special tokens (`<|tool|>`): found anywhere, and skipped where decoding is
            to skip such.

    Returns:
        a handle. `handle.rows` is the parameter that is trained.

    Raises:
        InputError: no token is left to add, or there is not one row for each.
        ModelError: the model or its tokenizer cannot be extended, or new rows lie over it already.
    """
    body = transformer(model)
    tokenizer = tokenizer or getattr(model, "tokenizer", None)
    if tokenizer is None:
        raise ModelError("holds no tokenizer", where=type(body).__name__, hint="attach(model, tokens, tokenizer)")
    tokenizer = require_fast(tokenizer, type(body).__name__)
    if isinstance(input_embedding(body), RowOverlay):
        raise ModelError("has new rows already", where=type(body).__name__, hint="merge() or detach() them first")
    plan = plan_vocabulary(tokenizer, tokens, special=frozenset(special))
    plan.require_terms(strict=False)
    for item in plan.skipped:
        warnings.warn(f"{item.term!r} {item.reason}: it gets no row", stacklevel=2)
    context = init_context(body, plan, tokenizer=tokenizer)
    rows = initial_rows(START, context) if rows is None else rows
    if rows.shape != (len(plan.terms), context.table.shape[1]):
        raise InputError(f"rows has shape {tuple(rows.shape)}, not {(len(plan.terms), context.table.shape[1])}")
    head, classes = body.get_output_embeddings(), None
    if head is not None and not head.weight.is_floating_point():
        raise ModelError("its output layer is quantised", where=type(body).__name__, hint="quantise the body alone")
    if head is not None and head.weight is not context.table:
        first = initial_rows(START, dataclasses.replace(context, table=head.weight))
        classes = HeadRows(first[[token.row for token in plan.tokens]]).to(head.weight.device)
    trainable = tuple(p for p in model.parameters() if p.requires_grad)
    wrapped = model if hasattr(model, "get_base_model") else body  # PEFT froze the rest of it, and nothing around it
    adapters = [p for p in wrapped.parameters() if p.requires_grad] if has_adapters(model) else []
    overlay = overlays.attach(model, plan, rows)
    for parameter in adapters:
        parameter.requires_grad_(True)
    overlay.head, bounds, sizes = classes, [], None
    overlay.register_load_state_dict_pre_hook(take_apart)  # type: ignore[no-untyped-call]
    hooks = [body.register_load_state_dict_pre_hook(keep_head)]
    if head is not None:
        kept = overlay if classes is None else classes
        bounds.append(keep_short(overlay, kept.rows, head.weight))
        sizes, size = told_size(body), max(head.weight.shape[0], max(plan.ids) + 1)
        tell_size(body, size, size)
        hooks.append(head.register_forward_hook(partial(with_classes, overlay)))
    before = tokenizer.backend_tokenizer
    put_backend(tokenizer, extend_tokenizer(tokenizer, plan).backend_tokenizer)
    return Attached(model, tokenizer, plan, overlay, before, trainable, tuple(hooks), tuple(bounds), sizes)


def with_classes(overlay: RowOverlay, _: nn.Module, given: tuple[torch.Tensor, ...], logits: torch.Tensor) -> Any:
    """Behind an output layer: its logits `[..., V]` with those of the new tokens, `[..., max(V, last id + 1)]`.

    What the model does to logits it then does to all of them. Those of old tokens keep their bits; a slot that a new
    token took in a padded table is its own. As in a stock model, new tokens have no bias.
    """
    rows = overlay.rows.index_select(0, overlay.row_of) if overlay.head is None else overlay.head.rows
    new = F.linear(given[0], rows.to(given[0].dtype)).to(logits.dtype)
    grown = F.pad(logits, (0, max(0, len(overlay.slots) - logits.shape[-1])))
    return grown.index_copy_(-1, overlay.ids, new)


def told_size(body: Any) -> tuple[int, int | None]:
    """How many classes a model's configuration tells, and the model itself; losses count with one or the other."""
    return body.config.get_text_config().vocab_size, getattr(body, "vocab_size", None)


def tell_size(body: Any, told: int, own: int | None) -> None:
    """Set what `told_size` gives."""
    body.config.get_text_config().vocab_size = told
    if hasattr(body, "vocab_size"):
        body.vocab_size = own


def has_adapters(model: Any) -> bool:
    """Whether PEFT put layers of its own into a model, or around a part of it."""
    if "peft" not in sys.modules:  # then it did not, and importing it takes seconds
        return False
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

    return any(isinstance(part, PeftModel | BaseTunerLayer) for part in model.modules())


@torch.no_grad()
def merge_with_head(body: Any, plan: VocabularyPlan, rows: torch.Tensor, classes: torch.Tensor | None) -> None:
    """Write rows into a Hugging Face model's input table, and the new classes into its head, if it has one.

    Args:
        body: with or without an overlay.
        plan: the new tokens.
        rows: `[n, d]`.
        classes: of the new ids in a head that is not tied, `[m, d]`.
    """
    overlays.detach(body)
    ids, size = list(plan.ids), max(input_embedding(body).weight.shape[0], max(plan.ids) + 1)
    if body.get_output_embeddings() is not None:
        devices = {p.device for p in body.parameters() if p.is_cuda}
        with torch.random.fork_rng(devices):  # it draws rows, which the loop of the user must not feel
            body.resize_token_embeddings(size, mean_resizing=False)  # it knows how a model keeps table, head and bias
    overlays.merge_rows(body, plan, rows)
    if (head := body.get_output_embeddings()) is None:
        return
    if classes is None:
        head.weight = input_embedding(body).weight
    else:
        head.weight = with_rows(head.weight, ids, classes, size)
    if (bias := getattr(head, "bias", None)) is not None:  # a new class has none, whatever stood in its slot
        own = with_rows(bias, ids, torch.zeros(len(ids)), size)
        for part in body.modules():  # BERT holds it in two places
            for name in [name for name, parameter in part.named_parameters(recurse=False) if parameter is bias]:
                setattr(part, name, own)


def take_apart(overlay: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Before a stock model's state is loaded into an overlay (a trainer resumes): its table's new rows are the rows."""
    assert isinstance(overlay, RowOverlay)
    table = state.pop(f"{prefix}weight", None)
    if table is None:
        return
    rows = overlay.rows.detach().clone()
    new = (overlay.slots >= 0).nonzero().flatten().cpu()
    rows[overlay.slots[new].long()] = table[new].to(rows)
    state |= {f"{prefix}rows": rows, f"{prefix}base.weight": overlay.weight}


def keep_head(body: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Before a stock model's state is loaded into one with an overlay: its grown head gives way to the model's own.

    The classes of new tokens are taken out of it first.
    """
    head: Any = body.get_output_embeddings()  # type: ignore[operator]
    overlay = input_embedding(body)
    frozen = [] if head is None else list(head.parameters())
    if overlay.head is not None and (stored := state.get(f"{prefix}{path_of(body, head)}.weight")) is not None:
        state[f"{prefix}{path_of(body, overlay.head)}.rows"] = stored[overlay.ids.to(stored.device)]
    for name, parameter in body.named_parameters(remove_duplicate=False):
        if f"{prefix}{name}" in state and any(parameter is own for own in frozen):
            state[f"{prefix}{name}"] = parameter
