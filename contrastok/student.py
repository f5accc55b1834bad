"""The model while it is trained, as objectives see it."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from contrastok.embedding import RowOverlay
from contrastok.feed import Inputs
from contrastok.models import transformer
from contrastok.ranks import ALONE, Ranks
from contrastok.shallow import Head
from contrastok.stopwatch import Stopwatch

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from contrastok.body_lora import BodyLora


class Student:
    """A model with trainable rows, and the frozen keys that it is held against.

    Args:
        model: with the overlay attached, on the device.
        overlay: the rows.
        keys: the bank, float32 `[K, d]`, norm 1.
        watch: takes the time of the parts of a step.
        head: from the outputs of a shallow model to the full one's.
        adapters: what moves the body, if anything does.
        ranks: who shares the batches.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        overlay: RowOverlay,
        keys: torch.Tensor,
        watch: Stopwatch,
        head: Head | None = None,
        adapters: BodyLora | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.model, self.overlay, self.keys, self.watch, self.head = model, overlay, keys, watch, head
        self.adapters, self.device, self.ranks = adapters, keys.device, ranks

    @property
    def depth(self) -> int:
        """Number of layers that are read; fewer than the body has where it is cut."""
        return int(transformer(self.model).config.get_text_config().num_hidden_layers)

    def embed(self, inputs: Inputs, part: str = "body forward") -> torch.Tensor:
        """Unit sentence embeddings by the model's own pooling, float32 `[A, d]`: those of all ranks."""
        with self.watch(part), self.overlay.planned(inputs.plan):
            embedded = self.model(dict(inputs.features))["sentence_embedding"]
            unit = F.normalize(embedded.float(), dim=-1)
            return self.ranks.gather(unit if self.head is None else self.head(unit), inputs.total)

    def states(self, inputs: Inputs, positions: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        """Hidden states of the body: of the embeddings and of each layer, `[A, T, d]` each.

        Args:
            inputs: what is read.
            positions: place of each token in its sequence, int64 `[A, T]`; left out where the model takes none.
        """
        features = self._placed(inputs, positions)
        with self.watch("body forward"), self.overlay.planned(inputs.plan):
            found = transformer(self.model)(**features, output_hidden_states=True, return_dict=True)
        hidden: tuple[torch.Tensor, ...] = found.hidden_states
        return hidden

    def last_state(self, inputs: Inputs, positions: torch.Tensor | None = None) -> torch.Tensor:
        """What the body hands to a head: its last hidden state, `[A, T, d]`; see `states`."""
        features = self._placed(inputs, positions)
        with self.watch("body forward"), self.overlay.planned(inputs.plan):
            found = transformer(self.model)(**features, return_dict=True)
        state: torch.Tensor = found.last_hidden_state
        return state

    def _placed(self, inputs: Inputs, positions: torch.Tensor | None) -> dict[str, torch.Tensor]:
        """What the body is given: the features, and positions where it takes some."""
        assert self.ranks.count == 1  # states are not gathered: `Objective.splits` keeps who reads them to one process
        body, features = transformer(self.model), dict(inputs.features)
        if positions is not None and "position_ids" in inspect.signature(body.forward).parameters:
            features["position_ids"] = positions + first_position(body)
        return features

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Inside, the model is the base model: old rows stand where they stood, and nothing moves the body."""
        with self.overlay.bypassed(), self.adapters.disabled() if self.adapters else contextlib.nullcontext():
            yield

    @contextlib.contextmanager
    def dropout(self, draw: torch.Tensor) -> Iterator[None]:
        """Inside, the model drops out; what it drops depends on the seed `draw` and the rank alone."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(int(draw) + self.ranks.index)
            self.model.train()
            try:
                yield
            finally:
                self.model.eval()


def first_position(body: torch.nn.Module) -> int:
    """The position of a sequence's first token: RoBERTa and its kin count from the padding's id on."""
    tables = [module for name, module in body.named_modules() if name.endswith("position_embeddings")]
    padding = getattr(tables[0], "padding_idx", None) if tables else None
    return 0 if padding is None else padding + 1
