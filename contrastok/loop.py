"""The training loop: only rows move."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from contrastok.batches import Anchor, TrainingSet
from contrastok.config import TrainConfig
from contrastok.console import Console
from contrastok.embedding import RowOverlay
from contrastok.errors import ContrastokError, ModelError
from contrastok.feed import Batch, Feed
from contrastok.forgetting import Restarts, hold_out
from contrastok.guide import Guide
from contrastok.losses import LossTerms
from contrastok.models import language_head
from contrastok.objectives import OBJECTIVES
from contrastok.pair_settings import UNGUIDED, settle
from contrastok.ranks import ALONE, Ranks, on_cpu
from contrastok.row_adam import RowAdam
from contrastok.shallow import Head
from contrastok.state import RunState
from contrastok.stopwatch import Stopwatch
from contrastok.student import Student
from contrastok.tracking import Follow, log_folder
from contrastok.trainables import TRAINABLES

if TYPE_CHECKING:
    from accelerate import Accelerator
    from sentence_transformers import SentenceTransformer

    from contrastok.body_lora import BodyLora

EPSILON = 1e-12
"""Adam's epsilon. InfoNCE gradients on rows are 1e-7..1e-6 an element, and the usual 1e-8 would swamp them."""

ADAM = ("step", "exp_avg", "exp_avg_sq")
"""What Adam keeps of each parameter."""

TEMPERATURE_RATE = 0.01
"""Learning rate of parameters that an objective brings along: the logarithm of a learned temperature."""


class DivergedError(ContrastokError):
    """The loss or what is trained is no longer finite.

    Args:
        what, hint: see `ContrastokError`.
        kept: the step to whose end everything trained was put back.
    """

    def __init__(self, what: str, *, kept: int = 0, hint: str = "lower --learning-rate or raise --temperature") -> None:
        super().__init__(what, hint=hint)
        self.kept = kept


@dataclass(frozen=True)
class CurvePoint:
    """One step of the optimiser, as the report shows it; `words` is the rows' own loss (0 without a predictor)."""

    step: int
    loss: float
    contrast: float
    distill: float
    accuracy: float
    move: float
    words: float = 0.0


def make_accelerator(config: TrainConfig, ranks: Ranks = ALONE) -> Accelerator:
    """The device of a run, or of one of its ranks.

    Raises:
        ModelError: several processes were started, and they have not joined.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)  # an earlier run in this process may have chosen otherwise
    accelerator = Accelerator(
        cpu=on_cpu(config),
        mixed_precision="no",  # bf16 is how the frozen weights are held: autocast would cast them in every step
        gradient_accumulation_steps=config.gradient_accumulation,
        log_with=list(config.report_to) or None,
        project_dir=log_folder(config.out) if config.report_to and config.out is not None else None,
    )
    if accelerator.num_processes != ranks.count:
        raise ModelError("this runs on one process", hint="torchrun and accelerate launch start contrastok train alone")
    return accelerator


class Loop:
    """Train the rows of an overlay, and in a second stage adapters of the body with them.

    Nothing in a step waits for the device: batches come ready from the feed, and figures are read when progress is
    saved.

    Args:
        model: the model with the overlay attached, on the accelerator's device.
        overlay: the overlay.
        data: anchors and frozen keys.
        tokenizer: the extended tokenizer, for padding.
        config: the options.
        accelerator: device and precision.
        state: where progress is saved and found again.
        console: progress bar.
        guide: the prior over the rows, if there is one.
        head: where the body is cut, from its outputs to the full model's.
        adapters: where the body is trained too, what moves it.
        share: of the usual rates that rows and classes get.
        follow: gets the points of the curve as they are read.
        ranks: who shares the batches; rank 0 alone saves.

    Raises:
        ContrastokError: the objective cannot work with this model, or there is nothing to compare restarts by.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        overlay: RowOverlay,
        data: TrainingSet,
        tokenizer: Any,
        config: TrainConfig,
        accelerator: Accelerator,
        state: RunState | None,
        console: Console,
        guide: Guide | None = None,
        head: Head | None = None,
        adapters: BodyLora | None = None,
        share: float = 1.0,
        follow: Follow | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        held: list[Anchor] = []
        if config.reset_every:
            data, held = hold_out(data, config.seed)
        self.model, self.overlay = model, overlay
        self.config, self.accelerator, self.console, self.ranks = config, accelerator, console, ranks
        self.device, self.follow, self.state = accelerator.device, follow, state if ranks.first else None
        self.initial = overlay.rows.detach()[: len(data.updates)].clone()
        guided = guide is not None and not OBJECTIVES[config.objective].head
        self.settings = settle(guide.pairs if guide and guided else UNGUIDED, config, spread(overlay.weight))
        self.guide = guide if self.settings.word_weight else None
        words, start = self.guide.inputs if self.guide else (), getattr(language_head(model), "start", None)
        self.feed = Feed(data, tokenizer, overlay.slots, config, words, start, ranks)
        self.watch = Stopwatch(config.profile, self.device)
        self.student = Student(model, overlay, data.keys.to(self.device), self.watch, head, adapters, ranks)
        self.objective = OBJECTIVES[config.objective].build(self.student, config, self.settings)
        classes = [] if overlay.head is None else list(overlay.head.parameters())
        own_rate = {id(parameter) for parameter in classes}
        self.trained = [p for p in overlay.parameters() if p.requires_grad and id(p) not in own_rate]
        own = TRAINABLES[config.trainable].rate
        # Ways of training whose parameters are no rows have a rate of their own.
        self.rate = share * (config.learning_rate or own or self.settings.rate * spread(overlay.weight))
        groups: list[dict[str, Any]] = [{"params": self.trained, "lr": self.rate}]
        if classes:  # a step is measured by the table that they stand in
            table = language_head(model).linear.weight
            rate = config.learning_rate or self.settings.rate * spread(table)
            groups.append({"params": classes, "lr": share * rate})
            self.trained = [*self.trained, *classes]
        if adapters is not None:
            groups.append({"params": adapters.parameters(), "lr": adapters.rate})
            self.trained = [*self.trained, *adapters.parameters()]
        if extra := list(self.objective.parameters()):
            groups.append({"params": extra, "lr": TEMPERATURE_RATE})
        self.rates: list[float] = [group["lr"] for group in groups]
        adam: torch.optim.Adam
        if config.optimizer == "lazy_adam":
            adam = RowAdam(groups, overlay.rows, eps=EPSILON)
        else:
            adam = torch.optim.Adam(groups, eps=EPSILON, weight_decay=0.0, fused=True)
        self.optimizer = accelerator.prepare(adam)
        self.restarts: Restarts | None = None
        if config.reset_every:
            every, inner = config.reset_every, self.optimizer.optimizer
            self.restarts = Restarts(self._parameters(), inner, held, self.student, self.feed, every, len(self.feed))
        self.good: tuple[int, list[torch.Tensor]] = (0, [])
        self.seen = torch.tensor([row for row, n in enumerate(data.updates) if n], device=self.device)

    def run(self) -> list[CurvePoint]:
        """All steps, from the last saved one on.

        Returns:
            the training curve, one point a step.

        Raises:
            DivergedError: the loss is no longer finite; what is trained is as it was when progress was last saved.
            ModelError: ranks have trained different rows.
        """
        start, curve = self._resume()
        if self.follow is not None:
            self.follow(curve)  # what follows is a new run of a tracker, which knows nothing of the first one
        self.ranks.copy_first(parameter.data for parameter in self._parameters())
        self._keep(start)
        try:
            curve = self._run(start, curve)
            self.ranks.require_same("what was trained", self._hash(), "take the same kind of device for all ranks")
            return curve
        except DivergedError as error:
            kept, values = self.good
            with torch.no_grad():
                for parameter, value in zip(self._parameters(), values, strict=True):
                    parameter.copy_(value)
            raise DivergedError(error.what, kept=kept) from error

    def _run(self, start: int, curve: list[CurvePoint]) -> list[CurvePoint]:
        unread: list[torch.Tensor] = []
        self.model.eval()  # dropout would only add noise to targets that are fixed
        batches = iter(self.feed.loader(start, self.device))
        with self.console.progress() as progress, self.watch.inside("embedding", self.overlay):
            what = "Training rows" if self.student.adapters is None else "Training rows and body"
            task = progress.add_task(what, total=len(self.feed), completed=start, note="")
            for step in range(start, len(self.feed)):
                with self.watch("batches"):
                    batch = next(batches)
                unread.append(self.step(step, batch))
                save = (step + 1) % self.config.checkpoint_every == 0
                if save or self.device.type == "cpu" or step + 1 == len(self.feed):
                    with self.watch("figures"):
                        self.ranks.copy_first(unread)  # so that all of them stop where one does
                        points = read_figures(unread, step)
                    unread.clear()
                    curve += points
                    if self.follow is not None:
                        self.follow(points)
                if self.restarts is not None:
                    self.restarts.after(step)
                if save or step + 1 == len(self.feed):
                    self._keep(step + 1)
                if self.state is not None and save:
                    self._save(step + 1, curve)
                self.watch.step()
                progress.update(task, advance=1, note=_note(curve))
        return curve

    def step(self, step: int, batches: Sequence[Batch]) -> torch.Tensor:
        """One step of the optimiser: its batches forward and backward, then Adam.

        Returns:
            the figures of a CurvePoint, float32 `[6]`, on the device.
        """
        done = step / len(self.feed) if self.restarts is None else self.restarts.share(step)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * (1 - done)  # linear to zero: the last steps settle
        figures = []
        touched = [row for batch in batches for row in batch.rows.tolist()]  # still on the host
        for batch in batches:
            with self.watch("batches"):
                batch = batch.to(self.device)
            loss = self.loss(batch)
            words = self.word_loss(batch)
            total = loss.total + self.settings.word_weight * words
            with self.watch("backward"):
                self.accelerator.backward(total * (self.config.gradient_accumulation / len(batches) / self.ranks.count))
            figures.append(torch.stack([total, loss.contrast, loss.distill, loss.accuracy, words]).detach())
        with self.watch("backward"):
            self._add_up(touched)
        with self.watch("optimizer"):
            if isinstance(adam := self.optimizer.optimizer, RowAdam):
                adam.touch(touched)
            self.optimizer.step()
            self.optimizer.zero_grad()
        return torch.cat([torch.stack(figures).mean(dim=0), self.move().view(1)])

    def _add_up(self, touched: Sequence[int]) -> None:
        """Add up the gradients of all ranks' shares; of the new rows only those that occur have any to send."""
        if self.ranks.count == 1:
            return
        sparse = None if TRAINABLES[self.config.trainable].moves_old else self.overlay.rows
        for parameter in self._parameters():
            if parameter is sparse and parameter.grad is not None:
                seen = torch.tensor(sorted(set(touched)), device=self.device)
                part = parameter.grad.index_select(0, seen)
                self.ranks.add_up([part])
                parameter.grad.index_copy_(0, seen, part)
            elif parameter.grad is not None:
                self.ranks.add_up([parameter.grad])

    def loss(self, batch: Batch) -> LossTerms:
        """The objective's loss of a batch."""
        terms: LossTerms = self.objective(batch)
        return terms

    def word_loss(self, batch: Batch) -> torch.Tensor:
        """The rows' own loss for the rows of a batch; zero without a predictor."""
        if self.guide is None or batch.words is None:
            return torch.zeros((), device=self.device)
        queries, objective = self.student.embed(batch.words, "body forward, words"), self.guide.objective
        with self.watch("loss"):
            rows = self.overlay.rows.index_select(0, batch.rows)
            return objective(queries, rows, batch.rows, objective.mask(batch.rows))

    @torch.no_grad()
    def move(self) -> torch.Tensor:
        """Median relative L2 move of the rows that have evidence, |e - e0| / |e0|, a scalar."""
        if not len(self.seen):
            return torch.zeros((), device=self.device)
        rows = self.overlay.rows[: len(self.initial)]
        return relative_move(rows, self.initial).index_select(0, self.seen).median()

    def _resume(self) -> tuple[int, list[CurvePoint]]:
        saved = self.ranks.told(self.state.load() if self.state is not None else None)
        if saved is None:
            return 0, []
        tensors, step, curve = saved
        state = {}
        with torch.no_grad():
            for i, parameter in enumerate(self._parameters()):
                parameter.copy_(tensors[f"{i}.value"])
                state[i] = {name: tensors[f"{i}.{name}"] for name in ADAM}
        if self.restarts is not None:
            self.restarts.load(tensors)
        inner = self.optimizer.state_dict()
        self.optimizer.load_state_dict({**inner, "state": state})
        self.console.print(f"Resuming at step {step} of {len(self.feed)}.")
        return step, [CurvePoint(**point) for point in curve]

    def _parameters(self) -> list[torch.nn.Parameter]:
        """All that the optimiser moves, in its order."""
        return [*self.trained, *self.objective.parameters()]

    def _hash(self) -> str:
        """SHA-256 over the bits of all that the optimiser moves."""
        values = (parameter.detach().float().cpu().numpy() for parameter in self._parameters())
        return hashlib.sha256(b"".join(value.tobytes() for value in values)).hexdigest()

    def _keep(self, step: int) -> None:
        """Remember what is trained after `step` steps.

        Raises:
            DivergedError: it is not finite.
        """
        values = [parameter.detach().clone() for parameter in self._parameters()]
        if not all(bool(value.isfinite().all()) for value in values):
            raise DivergedError(f"a row is not finite after step {step}")
        self.good = step, values

    def _save(self, step: int, curve: list[CurvePoint]) -> None:
        kept = self.optimizer.state_dict()["state"]
        tensors = {} if self.restarts is None else self.restarts.tensors()
        for i, parameter in enumerate(self._parameters()):
            none = torch.zeros_like(parameter)  # what Adam starts from, and has after a restart
            fresh = {"step": torch.zeros(()), "exp_avg": none, "exp_avg_sq": none}
            tensors[f"{i}.value"] = parameter
            tensors |= {f"{i}.{name}": kept.get(i, fresh)[name].clone() for name in ADAM}
        if self.state is not None:
            self.state.save(tensors, step, [asdict(point) for point in curve])


def spread(table: torch.Tensor) -> float:
    """Mean per-coordinate standard deviation of the rows: what matters is how far rows move, measured by this."""
    return float(table.float().std(dim=0).mean())


def read_figures(unread: Sequence[torch.Tensor], last: int) -> list[CurvePoint]:
    """What `Loop.step` gave for consecutive steps, of which `last` (from 0) is the last, as points of the curve.

    Raises:
        DivergedError: a loss or a row is not finite.
    """
    points = []
    for step, figures in enumerate(torch.stack(list(unread)).tolist(), start=last + 2 - len(unread)):
        total, contrast, distill, accuracy, words, move = figures
        if not (math.isfinite(total) and math.isfinite(move)):
            raise DivergedError(f"the loss is not finite at step {step}")
        points.append(CurvePoint(step, total, contrast, distill, accuracy, move, words))
    return points


def _note(curve: Sequence[CurvePoint]) -> str:
    """The last figures that are known, beside the bar."""
    return "loss {0.loss:.3f}  accuracy {0.accuracy:.2f}  move {0.move:.2f}".format(curve[-1]) if curve else ""


def relative_move(rows: torch.Tensor, initial: torch.Tensor) -> torch.Tensor:
    """|e - e0| / |e0| for each row, `[n]`; a row that began at zero moved by its whole length, 1."""
    length, began = rows.detach().norm(dim=-1), initial.norm(dim=-1)
    moved: torch.Tensor = (rows.detach() - initial).norm(dim=-1) / began.where(began > 0, length).clamp_min(1e-12)
    return moved


def run_key(**parts: Any) -> str:
    """The identity of a run: two runs with the same key give the same rows."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def state_path(out: Path) -> Path:
    """Where a run that will write `out` keeps its progress."""
    return out.absolute().with_name(f".{out.name}.resume")
