"""LoRA on the body, trained beside the rows (`--lora`, `--two-stage`), and merged into it afterwards.

The body moves, so nothing that the base model promises about old texts holds; whoever calls says so.
"""

from __future__ import annotations

import contextlib
import statistics
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from contrastok.embedding import RowOverlay
from contrastok.errors import ConfigError, ModelError
from contrastok.models import is_quantised, transformer
from contrastok.shallow import layer_list

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

BODY_RATE = 1e-4
"""Adam's step for LoRA: a usual one, not tuned."""


def linear_layers(model: SentenceTransformer) -> list[str]:
    """The names in the body of the linear maps of its layers: attention and MLP, no pooler and no embedding.

    Raises:
        ConfigError: PEFT is not installed.
        ModelError: the layers were not found, hold no `nn.Linear`, or are quantised.
    """
    try:
        import peft  # noqa: F401
    except ImportError:
        raise ConfigError("LoRA on the body needs PEFT", hint="pip install 'contrastok[peft]'") from None
    body = transformer(model)
    if is_quantised(body):
        raise ModelError(
            "is quantised, and LoRA cannot be merged into such weights",
            where=type(body).__name__,
            hint="leave out --lora and --two-stage, or name the model in full precision",
        )
    holder, name = layer_list(body)
    inside = set(getattr(holder, name).modules())
    found = [path for path, module in body.named_modules() if module in inside and isinstance(module, nn.Linear)]
    if not found:
        raise ModelError("its layers hold no linear maps that LoRA could move", where=type(body).__name__)
    return found


class BodyLora:
    """W + B A on every linear map of a body's layers, B zero at first (LoRA, Hu et al. 2021, arXiv 2106.09685, eq. 3).

    Args:
        model: with the overlay attached.
        overlay: the rows; nothing of them is touched.
        rank: of A and B.
        seed: of A.

    Raises:
        ConfigError, ModelError: see `linear_layers`.
    """

    rate = BODY_RATE

    def __init__(self, model: SentenceTransformer, overlay: RowOverlay, rank: int, seed: int) -> None:
        names = linear_layers(model)
        from peft import LoraConfig, get_peft_model

        body = transformer(model)
        lora = LoraConfig(r=rank, lora_alpha=rank, lora_dropout=0.0, bias="none", target_modules=names)
        body.set_input_embeddings(overlay.base)  # PEFT freezes what it finds; it shall not find the rows
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers by a name that is to change
            torch.manual_seed(seed)
            self._peft: Any = get_peft_model(body, lora)
        body.set_input_embeddings(overlay)
        body.eval()

    def parameters(self) -> list[nn.Parameter]:
        """A and B of every map."""
        return [parameter for name, parameter in self._peft.named_parameters() if ".lora_" in name]

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        """Inside, the body is the base model's."""
        with self._peft.disable_adapter():
            yield

    @torch.no_grad()
    def merge(self) -> dict[str, Any]:
        """Write W + B A into the body, which is a stock body again, and say how far its maps went.

        The overlay must be detached.

        Returns:
            "layers_moved", "layers", and the median and the largest of |B A| / |W| (Frobenius).
        """
        from peft.tuners.lora import LoraLayer

        away = [
            float(layer.get_delta_weight("default").norm() / layer.get_base_layer().weight.norm().clamp_min(1e-12))
            for layer in self._peft.modules()
            if isinstance(layer, LoraLayer)
        ]
        self._peft.merge_and_unload().requires_grad_(False)
        return {
            "layers_moved": sum(move > 0 for move in away),
            "layers": len(away),
            "median_layer_move": statistics.median(away),
            "largest_layer_move": max(away),
        }
