"""Train a hypernetwork on the model's own words; held-out ones choose the epoch, others say how good it is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from contrastok.console import Console
from contrastok.errors import ContrastokError
from contrastok.fit import gold_ranks
from contrastok.hiding import HiddenWord
from contrastok.hypernet.definitions import Definitions
from contrastok.hypernet.lesson import Lesson
from contrastok.hypernet.network import HyperNetwork, padded
from contrastok.initializers import FALLBACK, InitContext, initial_rows
from contrastok.kernels.info_nce import info_nce
from contrastok.state import RunState

FORMAT = 1
"""Counted up when a network of the same options would come out otherwise."""
LEXICAL, CONTRAST, TEMPERATURE = 0.9, 0.1, 0.25
"""Weights of the two losses and temperature of the second, as HyperOFA (arXiv:2504.21018) has them."""
SILENT = "hypernet without definitions"
"""What the recovery of a network that reads definitions is called where it got none."""
WARM_UP = 0.05
"""Share of the training in which the learning rate rises."""

Ids = tuple[int, ...]


@dataclass(frozen=True)
class HypernetSettings:
    """How a hypernetwork is trained.

    Attributes:
        layers: of the transformer.
        epochs: passes over the vocabulary, each with other pieces.
        batch_size: tokens a step.
        learning_rate: Adam's, at its highest.
        seed: of held-out words, pieces, weights and dropout.
    """

    layers: int = 2
    epochs: int = 10
    batch_size: int = 256
    learning_rate: float = 5e-4
    seed: int = 0


@dataclass(frozen=True)
class Trained:
    """A hypernetwork, and what is known of it.

    Attributes:
        network: in eval mode, with the weights of the best epoch.
        about: counts, the curve, the chosen epoch, and the recovery of held-out words beside `charlen_mean`'s, and
            beside its own without definitions where it reads some.
    """

    network: HyperNetwork
    about: dict[str, Any]


def row_loss(predicted: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """0.9 x relative L1 + 0.1 x InfoNCE against the other rows of the batch, a scalar.

    The form is HyperOFA's (arXiv:2504.21018): the L1 distance is divided by the mean absolute value of the true rows.

    Args:
        predicted: `[B, d]`.
        true: `[B, d]`.
    """
    lexical = (predicted - true).abs().mean() / true.abs().mean()
    own = torch.arange(len(true), device=true.device)
    contrast, _ = info_nce(F.normalize(predicted, dim=1), F.normalize(true, dim=1), own, None, TEMPERATURE)
    return LEXICAL * lexical + CONTRAST * contrast.mean()


def train_network(
    table: torch.Tensor,
    lesson: Lesson,
    definitions: Definitions | None,
    settings: HypernetSettings,
    state: RunState | None,
    console: Console,
) -> Trained:
    """Train a network; the same arguments give the same bits on the same machine, resumed or not.

    Args:
        table: the model's embedding table, `[V, d]`; it is not changed.
        lesson: tokens to learn from, and held-out words.
        definitions: the lesson's, as the frozen model reads them; without them the network reads pieces alone.
        settings: how.
        state: where the progress of a run that may be killed is kept.
        console: where it is shown.

    Raises:
        ContrastokError: the loss is not finite.
    """
    return _Course(table.detach().float(), lesson, definitions, settings, console).run(state)


class _Course:
    """A network in training."""

    def __init__(
        self,
        table: torch.Tensor,
        lesson: Lesson,
        definitions: Definitions | None,
        settings: HypernetSettings,
        console: Console,
    ) -> None:
        self.table, self.lesson, self.settings, self.console = table, lesson, settings, console
        self.definitions = definitions
        self.ids = torch.tensor(lesson.ids, device=table.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            told = 0 if definitions is None else definitions.outputs.shape[1]
            self.network = HyperNetwork(table.shape[1], settings.layers, told)
        self.network.to(table.device).learn_scale(table[self.ids])
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=settings.learning_rate)
        self.best = self._weights()
        self.curve: list[dict[str, Any]] = [
            {"epoch": 0, "loss": None, "mrr": self._recovery(lesson.choose, definitions)}
        ]

    def run(self, state: RunState | None) -> Trained:
        first = self._resume(state)
        with self.console.progress() as progress:
            task = progress.add_task("Training the hypernetwork", total=self.settings.epochs, completed=first, note="")
            for epoch in range(first, self.settings.epochs):
                loss = self._epoch(epoch)
                mrr = self._recovery(self.lesson.choose, self.definitions)
                point = {"epoch": epoch + 1, "loss": loss, "mrr": mrr}
                if point["mrr"] > max(past["mrr"] for past in self.curve):
                    self.best = self._weights()
                self.curve.append(point)
                if state is not None:
                    state.save(self._tensors(), epoch + 1, self.curve)
                progress.update(task, advance=1, note=f"loss {loss:.3f}  held-out MRR {point['mrr']:.3f}")
        self.network.load_state_dict(self.best)
        return Trained(self.network.eval().requires_grad_(False), self._about())

    def _epoch(self, epoch: int) -> float:
        """One pass over the vocabulary; the mean loss."""
        generator = np.random.default_rng([self.settings.seed, 1 + epoch])
        batches = list(self._batches(self.lesson.splits(generator), generator))
        told = None if self.definitions is None else self.definitions.thinned(generator)
        losses = []
        with torch.random.fork_rng(devices=[self.table.device] if self.table.is_cuda else []):
            torch.manual_seed(int(generator.integers(2**63)))
            self.network.train()
            for at, (targets, pieces) in enumerate(batches):
                progress = (epoch + (at + 1) / len(batches)) / self.settings.epochs
                losses.append(self._step(targets, pieces, told, rate(progress) * self.settings.learning_rate))
        mean = float(torch.stack(losses).mean())
        if not math.isfinite(mean):
            raise ContrastokError("the loss of the hypernetwork is not finite", hint="lower --learning-rate")
        return mean

    def _batches(
        self, splits: Sequence[tuple[int, Ids]], generator: np.random.Generator
    ) -> Iterator[tuple[list[int], list[Ids]]]:
        """Batches of tokens with about as many pieces, so that little is padding, in drawn order."""
        order = sorted(generator.permutation(len(splits)).tolist(), key=lambda at: len(splits[at][1]))
        size = self.settings.batch_size
        starts = np.arange(0, len(order), size)
        for start in generator.permutation(starts).tolist():
            chosen = [splits[at] for at in order[start : start + size]]
            yield [i for i, _ in chosen], [pieces for _, pieces in chosen]

    def _step(self, targets: list[int], pieces: list[Ids], told: Definitions | None, rate: float) -> torch.Tensor:
        ids, sizes = padded(pieces, [self.lesson.lengths(some) for some in pieces])
        network, device, said = self.network, self.table.device, None if told is None else told.of(targets)
        predicted = network(network.scaled(self.table[ids.to(device)]), sizes.to(device), said)
        loss = row_loss(predicted, network.scaled(self.table[torch.tensor(targets, device=device)]))
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.detach()

    def _recovery(self, words: Sequence[HiddenWord], told: Definitions | None) -> float:
        """What the network recovers of held-out words: see `_mrr`."""
        pieces, said = [word.pieces for word in words], None if told is None else told.of([word.id for word in words])
        return self._mrr(self.network.rows(self.table, pieces, [self.lesson.lengths(p) for p in pieces], said), words)

    def _composed(self, words: Sequence[HiddenWord]) -> float:
        """What the means of their pieces, weighted by characters, recover of them."""
        pieces = tuple(word.pieces for word in words)
        lengths = tuple(self.lesson.lengths(some) for some in pieces)
        context = InitContext(self.table, tuple(word.word for word in words), pieces, lengths)
        return self._mrr(initial_rows(FALLBACK, context), words)

    def _mrr(self, rows: torch.Tensor, words: Sequence[HiddenWord]) -> float:
        """Mean reciprocal rank of the words' own rows among all rows, by cosine with `rows` after centring."""
        table, mean = self.table.cpu().numpy(), self.network.mean.cpu().numpy()
        ranks = gold_ranks(rows.cpu().numpy(), np.array([word.id for word in words]), table, mean)
        return float((1 / ranks).mean())

    def _about(self) -> dict[str, Any]:
        report, told = self.lesson.report, self.definitions
        mrr = {"hypernet": self._recovery(report, told), "charlen_mean": self._composed(report)}
        best = max(self.curve, key=lambda point: point["mrr"])  # the first of equals, as in `run`
        return {
            "settings": asdict(self.settings),
            "learned_tokens": len(self.lesson.ids),
            "held_out": {"choose": len(self.lesson.choose), "report": len(report)},
            "epoch": best["epoch"],
            "recovery_mrr": mrr if told is None else {**mrr, SILENT: self._recovery(report, None)},
            "curve": self.curve,
            **({} if told is None else {"definitions": {"words": len(told.places), "dim": told.outputs.shape[1]}}),
        }

    def _weights(self) -> dict[str, torch.Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}

    def _tensors(self) -> dict[str, torch.Tensor]:
        moments = self.optimizer.state_dict()["state"]
        return {
            **{f"network.{name}": tensor for name, tensor in self._weights().items()},
            **{f"best.{name}": tensor for name, tensor in self.best.items()},
            **{f"adam.{i}.{name}": tensor for i, parts in moments.items() for name, tensor in parts.items()},
        }

    def _resume(self, state: RunState | None) -> int:
        """Put the state of a run that was cut short back; the epochs that it had done."""
        found = None if state is None else state.load()
        if found is None:
            return 0
        tensors, epochs, self.curve = found
        self.network.load_state_dict(_part(tensors, "network."))
        self.best = {name: tensor.to(self.table.device) for name, tensor in _part(tensors, "best.").items()}
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in _part(tensors, "adam.").items():
            i, _, part = name.partition(".")
            moments.setdefault(int(i), {})[part] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        self.console.print(f"Resuming after epoch {epochs} of {self.settings.epochs}.")
        return epochs


def rate(progress: float) -> float:
    """The learning rate as a share of its highest: a linear rise, then half a cosine down to 0."""
    if progress < WARM_UP:
        return progress / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))


def _part(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
