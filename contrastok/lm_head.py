"""The head of a language model beside its body: frozen, tied or not, and grown by classes for new tokens.

The body is what embeds texts. Of a causal language model that is all but the head; of an encoder-decoder it is the
encoder, and the decoder stands with the head.

Tables are found as the model itself names them (`get_input_embeddings`, `get_output_embeddings`), whether they are one
by the identity of their tensors, and what lies between the table's product and the logits by trying it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.nn.functional as F
from torch import nn

from contrastok.errors import ModelError
from contrastok.kernels.linear_cross_entropy import frozen_linear_cross_entropy, shaped
from contrastok.models import (
    input_embedding,
    is_quantised,
    language_head,
    load_model,
    load_with,
    transformer,
    transformer_folder,
)

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

GRID = (-1e6, -100.0, -10.0, -1.0, -1e-3, 1e-3, 1.0, 10.0, 100.0, 1e6)
"""What an output layer is made to say, to see what the model makes of it."""


class LanguageHead(nn.Module):
    """From last hidden states of a causal language model to logits.

    Args:
        full: the whole language model; its own body is thrown away.
        body: the same body, as it was loaded for embedding texts. Both are one model from here on.

    Attributes:
        linear: the model's own output layer, frozen.
        tied: whether its classes are the rows of the input embedding.
        scale, cap: the logit of a product z is scale z, or cap tanh(scale z / cap) where there is a cap.
        start: the token from which a decoder of its own starts; None where the body itself predicts.

    Raises:
        ModelError: the head is of a kind that cannot be given new classes.
    """

    what, example, auto = "causal language-model head", "LlamaForCausalLM", "AutoModelForCausalLM"
    """What an error calls it, a model that has one, and the auto class that loads such models."""
    objective = "causal_lm"
    """What trains it."""
    reads: tuple[str, ...] = ("input_ids",)
    """Names of the ids that the whole model reads."""
    start: int | None = None

    def __init__(self, full: Any, body: Any) -> None:
        super().__init__()
        linear, table = full.get_output_embeddings(), full.get_input_embeddings().weight
        stack = self._join(full, body)
        if not isinstance(linear, nn.Linear):
            raise _refused(type(full).__name__, f"its output layer is {type(linear).__name__}, not nn.Linear")
        if not linear.weight.is_floating_point():
            raise _refused(type(full).__name__, "its output layer is quantised")
        self.tied = linear.weight is table
        if self.tied:
            linear.weight = body.get_input_embeddings().weight
        self.linear = linear
        self._full = [full.eval().requires_grad_(False)]  # in a list: its body is a part of the model already
        self.scale, self.cap = logit_form(full, linear, stack, self.reads)

    def _join(self, full: Any, body: Any) -> Any:
        """Put the body into the whole model, and return what makes the states that the head reads."""
        prefix = full.base_model_prefix
        if type(getattr(full, prefix, None)) is not type(body):
            raise _refused(type(full).__name__, f"its body is no {type(body).__name__}")
        setattr(full, prefix, body)
        return body

    def loss(
        self,
        states: torch.Tensor,
        targets: torch.Tensor,
        rows: torch.Tensor,
        absent: torch.Tensor | None,
        biases: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross-entropy of each position, and whether its class is the likeliest: see `frozen_linear_cross_entropy`.

        Args:
            states, targets, rows, absent: see there.
            biases: of the trainable classes, `[n]`, where old ones are among them that have some.
        """
        table: torch.Tensor = self.linear.weight
        bias: torch.Tensor | None = self.linear.bias
        if biases is not None and bias is not None:  # a coordinate that is 1 in every state
            states = torch.cat([states, states.new_ones(len(states), 1)], 1)
            rows, table, bias = torch.cat([rows, biases[:, None]], 1), torch.cat([table, bias[:, None]], 1), None
        return frozen_linear_cross_entropy(
            states, table, rows, targets, bias=bias, absent=absent, scale=self.scale, cap=self.cap
        )

    def logits(self, states: torch.Tensor, table: torch.Tensor | None = None, apart: int | None = None) -> torch.Tensor:
        """Float32 logits of the head's own classes, `[N, V]`.

        Args:
            states: `[N, d]`.
            table: other classes in the place of the head's own, `[V, d]`.
            apart: so many classes come from a product of their own: a product's last bits may follow from its size, and
                a head that has grown is compared with the one that it grew from.
        """
        weight, bias = self.linear.weight if table is None else table.to(states.dtype), self.linear.bias
        parts = [slice(None)] if apart in (None, len(weight)) else [slice(apart), slice(apart, None)]
        found = [F.linear(states, weight[part], None if bias is None else bias[part]) for part in parts]
        return shaped(torch.cat(found, dim=1).float(), self.scale, self.cap)

    @torch.no_grad()
    def grow(self, ids: list[int], rows: torch.Tensor | None, table: nn.Parameter) -> None:
        """Give new tokens their classes. A new class has no bias, whatever stood in its slot.

        Args:
            ids: the new ids.
            rows: of their classes, `[m, d]`; not looked at where the head is tied.
            table: the model's input embedding, which has its new rows already, `[size, d]`.
        """
        size, linear, full = table.shape[0], self.linear, self._full[0]
        if self.tied:
            linear.weight = table
        else:
            assert rows is not None  # whoever loads an untied head makes them
            linear.weight = with_rows(linear.weight, ids, rows, size)
        if linear.bias is not None:
            linear.bias = with_rows(linear.bias, ids, torch.zeros(len(ids)), size)
        linear.out_features = linear.weight.shape[0]
        full.config.get_text_config().vocab_size = linear.out_features

    def save(self, folder: Path) -> None:
        """Write body and head as one stock model over the body that lies in a folder."""
        _save_as_it_lies(self._full[0])
        self._full[0].save_pretrained(str(folder))


class Seq2SeqHead(LanguageHead):
    """The decoder of an encoder-decoder (T5), frozen, and its head. The body is the encoder alone.

    Args:
        full: the whole model; its own encoder is thrown away.
        body: the same encoder, as it was loaded for embedding texts.

    Attributes:
        decoder: the model's own decoder, frozen.
    """

    what, example, auto = "head on a decoder of its own", "T5ForConditionalGeneration", "AutoModelForSeq2SeqLM"
    objective = "prefix_lm"
    reads = ("input_ids", "decoder_input_ids")

    def _join(self, full: Any, body: Any) -> Any:
        full.encoder = body.encoder
        full.set_input_embeddings(body.get_input_embeddings())
        self._body = [body]
        self.decoder = full.decoder
        self.start = getattr(full.config, "decoder_start_token_id", None)
        return self.decoder

    def states(
        self, said: Mapping[str, torch.Tensor], read: Mapping[str, torch.Tensor], memory: torch.Tensor
    ) -> torch.Tensor:
        """Last hidden states of the decoder, `[A, S, d]`.

        Args:
            said: input_ids and attention_mask of what it goes on to say, int64 `[A, S]`. Whatever lies over the body's
                input embedding is read here too.
            read: the same of what the encoder has read, `[A, T]`.
            memory: the encoder's last hidden states, `[A, T, d]`.
        """
        found = self.decoder(
            inputs_embeds=input_embedding(self._body[0])(said["input_ids"]),
            attention_mask=said["attention_mask"],
            encoder_hidden_states=memory,
            encoder_attention_mask=read["attention_mask"],
            use_cache=False,
        )
        return found.last_hidden_state  # type: ignore[no-any-return]


@torch.no_grad()
def with_rows(table: torch.Tensor, ids: list[int], rows: torch.Tensor, size: int) -> nn.Parameter:
    """A frozen copy of a table `[V, ...]`, of at least `size` rows: `rows` at `ids`, all others bit by bit."""
    merged = table.new_zeros(max(size, table.shape[0]), *table.shape[1:])
    merged[: table.shape[0]] = table
    merged[ids] = rows.to(table)
    return nn.Parameter(merged, requires_grad=False)


@torch.no_grad()
def logit_form(full: Any, linear: nn.Linear, stack: nn.Module, reads: Sequence[str]) -> tuple[float, float]:
    """Scale and soft cap that a language model puts on the product of its output layer (Cohere, Granite; Gemma 2).

    A factor on the states before it (T5) is a factor on the product.

    Args:
        full: the whole model.
        linear: its output layer.
        stack: what makes the states.
        reads: names of the ids that the model reads.

    Raises:
        ModelError: something else happens before or behind the output layer.
    """
    name, device = type(full).__name__, linear.weight.device
    grid = torch.tensor(GRID, device=device)
    ids, seen, made = torch.tensor([[0, 1]], device=device), [], []

    def answer(_: nn.Module, given: tuple[torch.Tensor, ...], raw: torch.Tensor) -> torch.Tensor:
        seen.append(given[0][0, -1])
        return grid[torch.arange(raw.shape[-1], device=device) % len(grid)].expand(*raw.shape).clone()

    hooks = [
        linear.register_forward_hook(answer),
        stack.register_forward_hook(lambda _, given, found: made.append(found.last_hidden_state[0, -1])),
    ]
    try:
        logits = full(**dict.fromkeys(reads, ids), use_cache=False).logits[0, -1].float()
    finally:
        for hook in hooks:
            hook.remove()
    factor = _factor(*made, *seen) if len(made) == len(seen) == 1 else None
    if factor is None or (factor != 1 and linear.bias is not None):
        raise _refused(name, "its output layer does not read the body's last hidden state")
    told, raw = logits[: len(grid)], grid[: len(logits)]
    scale = float(f"{told[5] / raw[5]:.6g}")
    cap = 0.0 if torch.allclose(told, raw * scale, rtol=1e-4) else float(f"{told[-1]:.6g}")
    if not torch.allclose(told, shaped(raw.clone(), scale, cap), rtol=1e-4):
        raise _refused(name, "its logits are not its output layer's, scaled or softly capped")
    return scale * factor, cap


def _factor(state: torch.Tensor, read: torch.Tensor) -> float | None:
    """The number by which a state `[d]` was multiplied before it was read; None where something else was done to it."""
    if state.shape != read.shape:
        return None
    if torch.equal(state, read):
        return 1.0
    exact = state.double()
    factor = float((read.double() @ exact) / (exact @ exact))
    return factor if torch.allclose(read.double(), exact * factor, rtol=1e-2) else None


def _refused(name: str, why: str) -> ModelError:
    return ModelError(
        f"the language-model head of {name} cannot be given new tokens: {why}",
        hint="save its body alone (model.base_model.save_pretrained) to add tokens to that",
    )


def save_with_head(model: SentenceTransformer, folder: Path) -> None:
    """Write a model as stock libraries do, and with it the head that it was loaded with."""
    _save_as_it_lies(transformer(model))
    model.save_pretrained(str(folder), create_model_card=False)
    if (head := language_head(model)) is not None:
        head.save(folder)


def _save_as_it_lies(part: Any) -> None:
    """Let a quantised model save the tensors that it has in memory, which are those of its file.

    transformers 5 notes how it put them together when it loaded them, and cannot undo that for bitsandbytes.
    """
    if is_quantised(part):
        part._weight_conversions = []


def load_with_head(name: str, device: str = "cpu") -> SentenceTransformer:
    """A model as `load_model` gives it and, where it lies in its folder as a language model, its head.

    Raises:
        ModelError: it cannot be loaded, or its head cannot be given new tokens.
    """
    model = load_model(name, device)
    body: Any = transformer(model)
    kind = _kind_of_head(body)
    if kind is None:
        return model
    full, missing = load_with(kind.auto, transformer_folder(name), name, "a language-model head")
    if not missing:  # else a body alone, under the name of the model it was taken from
        model[0].language_head = kind(full.to(body.device), body)
    return model.requires_grad_(False)


def _kind_of_head(body: Any) -> type[LanguageHead] | None:
    """The head that a body has in its folder, by the architecture that its configuration names."""
    from transformers.models.auto import modeling_auto as known

    named = {*(body.config.architectures or ())}
    if named & {*known.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()}:
        return LanguageHead
    encodes = hasattr(body, "encoder") and not hasattr(body, "decoder")  # BART embeds texts by its decoder
    if encodes and named & {*known.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES.values()}:
        return Seq2SeqHead
    return None


H = TypeVar("H", bound=LanguageHead)


def require_head(model: SentenceTransformer, needs: str, kind: type[H]) -> H:
    """The head of a model.

    Args:
        model: as `load_with_head` gives it.
        needs: who asks, in words of the command line.
        kind: the class that it must have.

    Raises:
        ModelError: it has none, or one of another kind.
    """
    head: LanguageHead | None = language_head(model)
    if type(head) is not kind:
        wanted = f"holds no {kind.what}, which {needs} needs"
        hint = f"name the folder of a model that has one ({kind.example}, ...)"
        if head is not None:
            wanted += f": it has a {head.what}"
            hint += f"; --objective {head.objective} trains what this has"
        raise ModelError(wanted, where=type(transformer(model)).__name__, hint=hint)
    return head
