"""The masked-LM head that lies beside a body in its folder: frozen, and read with classes for new tokens."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from contrastok.errors import ModelError
from contrastok.models import load_with, transformer_folder


class _Given(nn.Module):
    """Stands where the body was: its output is what it is given."""

    def forward(self, *_: Any, inputs_embeds: torch.Tensor, **__: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutput

        return BaseModelOutput(last_hidden_state=inputs_embeds)


class MlmHead:
    """From hidden states to logits over old tokens and, where the head is tied to the input rows, new ones.

    Args:
        name: a model's folder or hub name.

    Attributes:
        tied: whether the head's classes are the rows of the input embedding.
        classes: number of its old classes.

    Raises:
        ModelError: the model comes without the weights of a masked-LM head.
    """

    def __init__(self, name: str) -> None:
        full = load_masked_lm(name)
        self._decoder = full.get_output_embeddings()
        self.tied = self._decoder.weight is full.get_input_embeddings().weight
        self.classes = int(self._decoder.weight.shape[0])
        setattr(full, full.base_model_prefix, _Given())
        self._full = full.eval().requires_grad_(False)
        self._before: torch.Tensor | None = None
        self._decoder.register_forward_pre_hook(self._keep)

    def _keep(self, _: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        self._before = args[0]

    def over(self, table: torch.Tensor) -> MlmHead:
        """This head on the device and in the precision of a body, whose table `[V, d]` it shares where it is tied."""
        self._full.to(table.device, table.dtype)
        if self.tied and isinstance(table, nn.Parameter) and table.shape == self._decoder.weight.shape:
            self._decoder.weight = table
        return self

    def __call__(self, states: torch.Tensor, rows: torch.Tensor, moved: torch.Tensor | None = None) -> torch.Tensor:
        """Logits of some positions.

        Args:
            states: last hidden states of the body, `[M, d]`.
            rows: of the new tokens that are classes, `[R, d]`. Their biases are 0: the head has none for them.
            moved: old rows that are trained, `[classes, d]`: where the head is tied they are its old classes.

        Returns:
            float32 `[M, classes + R]`; without the last R columns where the head is not tied.
        """
        old = self._full(inputs_embeds=states[None]).logits[0].float()
        before, self._before = self._before, None
        if not self.tied:
            return old  # type: ignore[no-any-return]
        assert before is not None  # the decoder has just been called
        if moved is not None:
            bias = self._decoder.bias
            old = F.linear(before[0].float(), moved.float(), None if bias is None else bias.float())
        return torch.cat([old, before[0].float() @ rows.float().T], dim=-1)


def load_masked_lm(name: str) -> Any:
    """A model with its masked-LM head.

    Raises:
        ModelError: its architecture has no such head, or its weights are not in the folder.
    """
    hint = "name the folder of a masked-LM checkpoint (BertForMaskedLM, ...), or take another --objective"
    what = "a masked-LM head, which --objective mlm needs"
    full, missing = load_with("AutoModelForMaskedLM", transformer_folder(name), name, what)
    if missing:
        raise ModelError(
            f"holds no masked-LM head, which --objective mlm needs: {type(full).__name__} would have to draw "
            f"{', '.join(missing[:3])}{' ...' if len(missing) > 3 else ''} at random",
            where=name,
            hint=hint,
        )
    if full.get_output_embeddings() is None:
        raise ModelError(f"{type(full).__name__} does not say what its output layer is", where=name, hint=hint)
    return full
