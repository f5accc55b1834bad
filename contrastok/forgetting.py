"""Restarts of the rows: the analogue, for rows alone, of active forgetting (Chen et al. 2023, arXiv 2307.01163).

The paper resets the token table every K updates while it trains the body, so that the body learns to work with young
tables. Here the body is frozen, so nothing can learn that: what is left is several runs from the same rows through
different data, of which the one is kept that is nearest to the frozen model on sentences that it has not seen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from contrastok.batches import Anchor, TrainingSet
from contrastok.errors import InputError
from contrastok.feed import Feed
from contrastok.student import Student

HELD_OUT = 0.1
"""Share of the anchors by which restarts are compared."""


def hold_out(data: TrainingSet, seed: int) -> tuple[TrainingSet, list[Anchor]]:
    """Take some anchors out; every row keeps one at least.

    Returns:
        what is left, and what was taken out.

    Raises:
        InputError: there is no anchor that can be spared.
    """
    left, wanted = list(data.updates), max(1, round(HELD_OUT * len(data.anchors)))
    taken: set[int] = set()
    for i in np.random.default_rng([seed, len(data.anchors)]).permutation(len(data.anchors)).tolist():
        rows = data.anchors[i].rows
        if len(taken) < wanted and all(left[row] > 1 for row in rows):
            taken.add(i)
            for row in rows:
                left[row] -= 1
    if not taken:
        raise InputError(
            "--reset-every compares restarts on sentences left out, and no term has more than one",
            hint="give gen-pairs more text, or leave out --reset-every",
        )
    kept = tuple(anchor for i, anchor in enumerate(data.anchors) if i not in taken)
    return dataclasses.replace(data, anchors=kept, updates=tuple(left)), [data.anchors[i] for i in sorted(taken)]


@dataclass(frozen=True)
class Restart:
    """A run from the first rows; `fidelity` is the mean cosine to the frozen model on anchors left out."""

    step: int
    fidelity: float


class Restarts:
    """Sets parameters back every so many steps, and remembers the best.

    Args:
        parameters: all that the optimiser moves.
        optimizer: its state is forgotten too.
        held: anchors left out of training.
        student, feed: embed them.
        every: steps of a run.
        total: steps of all.
    """

    def __init__(
        self,
        parameters: Sequence[torch.nn.Parameter],
        optimizer: torch.optim.Optimizer,
        held: Sequence[Anchor],
        student: Student,
        feed: Feed,
        every: int,
        total: int,
    ) -> None:
        self.parameters, self.optimizer, self.held = parameters, optimizer, held
        self.student, self.feed, self.every, self.total = student, feed, every, total
        self.first = [parameter.detach().clone() for parameter in parameters]
        self.best = [parameter.clone() for parameter in self.first]
        self.done: list[Restart] = []

    def share(self, step: int) -> float:
        """How much of its run is done before a step, 0 to 1."""
        start = step - step % self.every
        return (step - start) / min(self.every, self.total - start)

    def after(self, step: int) -> None:
        """What a finished step asks for: at the end of a run compare, and start the next."""
        last = step + 1 == self.total
        if (step + 1) % self.every and not last:
            return
        found = Restart(step + 1, self.fidelity())
        if not self.done or found.fidelity > max(run.fidelity for run in self.done):
            self.best = [parameter.detach().clone() for parameter in self.parameters]
        self.done.append(found)
        self._set(self.best if last else self.first)
        self.optimizer.state.clear()

    @torch.no_grad()
    def fidelity(self) -> float:
        """Mean cosine of the anchors left out, in new tokens, to the frozen model in their original ones."""
        cosines = []
        for start in range(0, len(self.held), 64):
            part = self.held[start : start + 64]
            inputs = self.feed.inputs([anchor.ids for anchor in part]).to(self.student.device)
            own = self.student.keys[[anchor.key for anchor in part]]
            cosines.append((self.student.embed(inputs) * own).sum(-1))
        return float(torch.cat(cosines).mean())

    @torch.no_grad()
    def _set(self, values: Sequence[torch.Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)

    def tensors(self) -> dict[str, torch.Tensor]:
        """What a killed run needs to go on."""
        runs = torch.tensor([[run.step, run.fidelity] for run in self.done], dtype=torch.float64).reshape(-1, 2)
        return {"runs": runs, **{f"{i}.best": value for i, value in enumerate(self.best)}}

    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        """Go on from `tensors`."""
        self.done = [Restart(int(step), fidelity) for step, fidelity in tensors["runs"].tolist()]
        self.best = [tensors[f"{i}.best"].to(parameter) for i, parameter in enumerate(self.parameters)]
