"""The head of a causal language model beside its body: frozen, tied or not, and grown by classes for new tokens.

Tables are found as the model itself names them (`get_input_embeddings`, `get_output_embeddings`), whether they are one
by the identity of their tensors, and what lies between the table's product and the logits by trying it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from contrastok.errors import ModelError
from contrastok.kernels.linear_cross_entropy import frozen_linear_cross_entropy, shaped
from contrastok.models import language_head, load_model, load_with, transformer, transformer_folder

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

GRID = (-1e6, -100.0, -10.0, -1.0, -1e-3, 1e-3, 1.0, 10.0, 100.0, 1e6)
"""What an output layer is made to say, to see what the model makes of it."""


class LanguageHead(nn.Module):
    """From last hidden states to logits.

    Args:
        full: the whole language model; its own body is thrown away.
        body: the same body, as it was loaded for embedding texts. Both are one model from here on.

    Attributes:
        linear: the model's own output layer, frozen.
        tied: whether its classes are the rows of the input embedding.
        scale, cap: the logit of a product z is scale z, or cap tanh(scale z / cap) where there is a cap.

    Raises:
        ModelError: the head is of a kind that cannot be given new classes.
    """

    def __init__(self, full: Any, body: Any) -> None:
        super().__init__()
        name, prefix = type(full).__name__, full.base_model_prefix
        linear, table = full.get_output_embeddings(), full.get_input_embeddings().weight
        inner: Any = getattr(full, prefix, None)
        if type(inner) is not type(body):
            raise _refused(name, f"its body is no {type(body).__name__}")
        if not isinstance(linear, nn.Linear):
            raise _refused(name, f"its output layer is {type(linear).__name__}, not nn.Linear")
        self.tied = linear.weight is table
        setattr(full, prefix, body)
        if self.tied:
            linear.weight = body.get_input_embeddings().weight
        self.linear = linear
        self._full = [full.eval().requires_grad_(False)]  # in a list: its body is a part of the model already
        self.scale, self.cap = logit_form(full, linear)

    def loss(
        self, states: torch.Tensor, targets: torch.Tensor, rows: torch.Tensor, absent: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross-entropy of each position, and whether its class is the likeliest: see `frozen_linear_cross_entropy`."""
        return frozen_linear_cross_entropy(
            states, self.linear.weight, rows, targets, bias=self.linear.bias, absent=absent, scale=self.scale,
            cap=self.cap,
        )  # fmt: skip

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Float32 logits of the head's own classes, `[N, V]`."""
        return shaped(self.linear(states).float(), self.scale, self.cap)

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
        self._full[0].save_pretrained(str(folder))


@torch.no_grad()
def with_rows(table: torch.Tensor, ids: list[int], rows: torch.Tensor, size: int) -> nn.Parameter:
    """A frozen copy of a table `[V, ...]`, of at least `size` rows: `rows` at `ids`, all others bit by bit."""
    merged = table.new_zeros(max(size, table.shape[0]), *table.shape[1:])
    merged[: table.shape[0]] = table
    merged[ids] = rows.to(table)
    return nn.Parameter(merged, requires_grad=False)


@torch.no_grad()
def logit_form(full: Any, linear: nn.Linear) -> tuple[float, float]:
    """Scale and soft cap that a language model puts on the product of its output layer (Cohere, Granite; Gemma 2).

    Raises:
        ModelError: something else happens before or behind the output layer.
    """
    name, device = type(full).__name__, linear.weight.device
    grid = torch.tensor(GRID, device=device)
    ids, seen = torch.tensor([[0, 1]], device=device), []

    def answer(_: nn.Module, given: tuple[torch.Tensor, ...], raw: torch.Tensor) -> torch.Tensor:
        seen.append(given[0])
        return grid[torch.arange(raw.shape[-1], device=device) % len(grid)].expand(*raw.shape).clone()

    hook = linear.register_forward_hook(answer)
    try:
        logits = full(input_ids=ids, use_cache=False).logits[0, -1].float()
    finally:
        hook.remove()
    states = full.base_model(input_ids=ids, use_cache=False).last_hidden_state
    if len(seen) != 1 or seen[0].shape[-1] != states.shape[-1] or not torch.equal(seen[0][0, -1], states[0, -1]):
        raise _refused(name, "its output layer does not read the body's last hidden state")
    told, raw = logits[: len(grid)], grid[: len(logits)]
    scale = float(f"{told[5] / raw[5]:.6g}")
    cap = 0.0 if torch.allclose(told, raw * scale, rtol=1e-4) else float(f"{told[-1]:.6g}")
    if not torch.allclose(told, shaped(raw.clone(), scale, cap), rtol=1e-4):
        raise _refused(name, "its logits are not its output layer's, scaled or softly capped")
    return scale, cap


def _refused(name: str, why: str) -> ModelError:
    return ModelError(
        f"the language-model head of {name} cannot be given new tokens: {why}",
        hint="save its body alone (model.base_model.save_pretrained) to add tokens to that",
    )


def save_with_head(model: SentenceTransformer, folder: Path) -> None:
    """Write a model as stock libraries do, and with it the head that it was loaded with."""
    model.save_pretrained(str(folder), create_model_card=False)
    if (head := language_head(model)) is not None:
        head.save(folder)


def load_with_head(name: str, device: str = "cpu") -> SentenceTransformer:
    """A model as `load_model` gives it and, where it lies in its folder as a causal language model, its head.

    Raises:
        ModelError: it cannot be loaded, or its head cannot be given new tokens.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    model = load_model(name, device)
    body: Any = transformer(model)
    if not {*(body.config.architectures or ())} & {*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()}:
        return model
    full, missing = load_with("AutoModelForCausalLM", transformer_folder(name), name, "a language-model head")
    if not missing:  # else a body alone, under the name of the model it was taken from
        model[0].language_head = LanguageHead(full.to(body.device), body)
    return model.requires_grad_(False)


def require_head(model: SentenceTransformer, needs: str) -> LanguageHead:
    """The head of a model.

    Args:
        model: as `load_with_head` gives it.
        needs: who asks, in words of the command line.

    Raises:
        ModelError: it has none.
    """
    head: LanguageHead | None = language_head(model)
    if head is None:
        raise ModelError(
            f"holds no causal language-model head, which {needs} needs",
            where=type(transformer(model)).__name__,
            hint="name the folder of a causal language model (LlamaForCausalLM, ...)",
        )
    return head
