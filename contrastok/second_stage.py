"""The second stage of `--two-stage`: LoRA on the body, trained together with rows that a first stage has settled.

The body moves, so nothing that the base model promises about old texts holds; whoever calls says so.
"""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from contrastok.config import TrainConfig
from contrastok.embedding import RowOverlay
from contrastok.errors import ConfigError, ModelError
from contrastok.loop import CurvePoint, Loop
from contrastok.models import transformer
from contrastok.objectives.contrast import Contrast
from contrastok.shallow import layer_list
from contrastok.state import RunState

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

BODY_RATE = 1e-4
"""Adam's step for LoRA: a usual one, not tuned."""
ROWS_SHARE = 0.1
"""Share of the first stage's step that rows keep: they are where they should be, and follow the body."""


def second_epochs(config: TrainConfig) -> int:
    """Passes of the second stage over the pairs: half of the first one's, at least one; 0 without `--two-stage`."""
    return max(1, config.epochs // 2) if config.two_stage else 0


def linear_layers(model: SentenceTransformer) -> list[str]:
    """The names in the body of the linear maps of its layers: attention and MLP, no pooler and no embedding.

    Raises:
        ConfigError: PEFT is not installed.
        ModelError: the layers were not found, or hold no `nn.Linear`.
    """
    try:
        import peft  # noqa: F401
    except ImportError:
        raise ConfigError("--two-stage needs PEFT", hint="pip install 'contrastok[peers]'") from None
    body = transformer(model)
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


def second_stage(first: Loop, state: RunState) -> tuple[Loop, BodyLora, list[CurvePoint]]:
    """Train the rows of a finished loop further, and the body with them.

    Args:
        first: a loop that has run.
        state: where the progress of this stage is saved; a killed run goes on in the stage in which it was.

    Returns:
        the loop of this stage, which tells moves from where the first one began; the adapters; and the curve, whose
        steps go on counting.

    Raises:
        ContrastokError: see `BodyLora` and `Loop.run`.
    """
    config = dataclasses.replace(
        first.config,
        epochs=second_epochs(first.config),
        reset_every=0,
        temperature=first.objective.temperature()
        if isinstance(first.objective, Contrast)
        else first.settings.temperature,
    )
    lora = BodyLora(first.model, first.overlay, config.rank, config.seed)

    def counted_on(points: Sequence[CurvePoint]) -> list[CurvePoint]:
        return [dataclasses.replace(point, step=point.step + len(first.feed)) for point in points]

    told = first.follow
    second = Loop(
        first.model, first.overlay, first.feed.data, first.feed.tokenizer, config, first.accelerator, state,
        first.console, first.guide, adapters=lora, share=ROWS_SHARE,
        follow=None if told is None else lambda points: told(counted_on(points)),
    )  # fmt: skip
    second.initial = first.initial
    return second, lora, counted_on(second.run())
