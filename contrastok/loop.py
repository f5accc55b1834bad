"""The training loop: only rows move."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from contrastok.bank import collate
from contrastok.batches import Anchor, TrainingSet, steps
from contrastok.config import TrainConfig
from contrastok.console import Console
from contrastok.embedding import RowOverlay
from contrastok.errors import ContrastokError, ModelError
from contrastok.losses import LossTerms, anchored_info_nce
from contrastok.starting import Guide
from contrastok.state import RunState

if TYPE_CHECKING:
    from accelerate import Accelerator
    from sentence_transformers import SentenceTransformer

RATE, GUIDED_RATE = 0.06, 0.02
"""Default learning rate, in per-coordinate standard deviations of the table: what matters is how far rows move. Rows
that start at the mean of their pieces have far to go; rows that were predicted and placed have not."""

EPSILON = 1e-12
"""Adam's epsilon. InfoNCE gradients on rows are 1e-7..1e-6 an element, and the usual 1e-8 would swamp them."""

DUPLICATE = 0.95
"""Keys this close (cosine) to a positive say the same and are no negatives."""


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


def make_accelerator(config: TrainConfig) -> Accelerator:
    """The device and precision of a run.

    Raises:
        ModelError: several processes were started; one is supported.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)  # an earlier run in this process may have chosen otherwise
    accelerator = Accelerator(
        cpu=config.device == "cpu",
        mixed_precision="bf16" if config.precision == "bf16" else "no",
        gradient_accumulation_steps=config.gradient_accumulation,
    )
    if accelerator.num_processes > 1:
        raise ModelError("training runs on one process", hint="start contrastok train without a launcher")
    return accelerator


def default_rate(table: torch.Tensor, guided: bool) -> float:
    """`RATE`, or with a predictor `GUIDED_RATE`, x the mean per-coordinate standard deviation of the table's rows."""
    return (GUIDED_RATE if guided else RATE) * float(table.float().std(dim=0).mean())


class Loop:
    """Train the rows of an overlay.

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
    ) -> None:
        self.model, self.overlay, self.data, self.tokenizer = model, overlay, data, tokenizer
        self.config, self.accelerator, self.state, self.console = config, accelerator, state, console
        self.initial = overlay.rows.detach().clone()
        self.guide = guide if config.word_weight else None
        self.keys = data.keys.to(accelerator.device)
        self.plan = list(
            steps(
                [len(a.ids) for a in data.anchors],
                config.batch_size,
                config.epochs,
                config.gradient_accumulation,
                config.seed,
            )
        )
        self.rate = config.learning_rate or default_rate(overlay.weight, guide is not None)
        self.optimizer = accelerator.prepare(
            torch.optim.Adam([overlay.rows], lr=self.rate, eps=EPSILON, weight_decay=0.0)
        )
        self.seen = torch.tensor([n > 0 for n in data.updates], device=accelerator.device)

    def run(self) -> list[CurvePoint]:
        """All steps, from the last saved one on.

        Returns:
            the training curve, one point a step.

        Raises:
            ContrastokError: the loss is no longer finite.
        """
        start, curve = self._resume()
        self.model.eval()  # dropout would only add noise to targets that are fixed
        with self.console.progress() as progress:
            task = progress.add_task("Training rows", total=len(self.plan), completed=start, note="")
            for step in range(start, len(self.plan)):
                point = self._step(step)
                curve.append(point)
                if self.state is not None and (step + 1) % self.config.checkpoint_every == 0:
                    self._save(step + 1, curve)
                note = f"loss {point.loss:.3f}  accuracy {point.accuracy:.2f}  move {point.move:.2f}"
                progress.update(task, advance=1, note=note)
        return curve

    def _step(self, step: int) -> CurvePoint:
        """One step of the optimiser: its batches forward and backward, then Adam."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * (1 - step / len(self.plan))  # linear to zero: the last steps settle
        terms, own = [], []
        batches = self.plan[step]
        for i, batch in enumerate(batches):
            anchors = [self.data.anchors[j] for j in batch]
            loss = self.loss(anchors, seed=(step, i))
            words = self.word_loss(anchors)
            total = loss.total + self.config.word_weight * words
            self.accelerator.backward(total * (self.config.gradient_accumulation / len(batches)))
            terms.append(replace(loss, total=total.detach()))
            own.append(words.detach())
        self.optimizer.step()
        self.optimizer.zero_grad()
        mean = {
            name: float(torch.stack([getattr(t, name).detach() for t in terms]).mean())
            for name in ("total", "contrast", "distill", "accuracy")
        }
        if not np.isfinite(mean["total"]):
            raise ContrastokError(
                f"the loss is not finite at step {step + 1}",
                hint="lower --learning-rate or raise --temperature; nothing was written",
            )
        return CurvePoint(
            step + 1,
            mean["total"],
            mean["contrast"],
            mean["distill"],
            mean["accuracy"],
            self.move(),
            float(torch.stack(own).mean()),
        )

    def loss(self, anchors: list[Anchor], seed: tuple[int, int]) -> LossTerms:
        """The loss of a batch of anchors."""
        device = self.accelerator.device
        with self.accelerator.autocast():
            features = collate(self.tokenizer, [a.ids for a in anchors], device)
            embedded = self.model(features)["sentence_embedding"]
        queries = F.normalize(embedded.float(), dim=-1)
        columns = self._columns(anchors, seed)
        column_of = torch.full((len(self.keys),), -1, dtype=torch.long)
        column_of[columns] = torch.arange(len(columns))
        positives = torch.tensor([p for a in anchors for p in a.positives])
        pair_query = torch.tensor([i for i, a in enumerate(anchors) for _ in a.positives])
        mask = torch.zeros(len(anchors), len(self.keys), dtype=torch.bool)
        for i, anchor in enumerate(anchors):
            for row in anchor.rows:
                mask[i, self.data.owned[row]] = True
        keys = self.keys[columns.to(device)]
        mask = mask[:, columns].to(device)
        own = self.keys[torch.tensor([a.key for a in anchors], device=device)]
        mask |= own @ keys.T > DUPLICATE
        return anchored_info_nce(
            queries,
            own,
            pair_query.to(device),
            keys,
            column_of[positives].to(device),
            mask,
            temperature=self.config.temperature,
            contrast_weight=self.config.contrast_weight,
            distill_weight=self.config.distill_weight,
        )

    def word_loss(self, anchors: list[Anchor]) -> torch.Tensor:
        """The rows' own loss for the rows of a batch; zero without a predictor."""
        if self.guide is None:
            return torch.zeros((), device=self.accelerator.device)
        rows = sorted({row for anchor in anchors for row in anchor.rows})
        with self.accelerator.autocast():
            features = collate(self.tokenizer, [self.guide.inputs[row] for row in rows], self.accelerator.device)
            embedded = self.model(features)["sentence_embedding"]
        index = torch.tensor(rows, device=self.accelerator.device)
        objective, queries = self.guide.objective, F.normalize(embedded.float(), dim=-1)
        return objective(queries, self.overlay.rows.index_select(0, index), index, objective.mask(index))

    def _columns(self, anchors: list[Anchor], seed: tuple[int, int]) -> torch.Tensor:
        """The bank indices of this batch's keys: all, or the batch's own and a sample of the rest."""
        total, limit = len(self.keys), self.config.bank_size
        if total <= limit:
            return torch.arange(total)
        own = {k for a in anchors for k in (*a.positives, *a.negatives)}
        drawn = np.random.default_rng([self.config.seed, *seed]).choice(total, limit, replace=False)
        return torch.tensor(sorted(own.union(map(int, drawn))))

    def move(self) -> float:
        """Median relative L2 move of the rows that have evidence: |e - e0| / |e0|."""
        return float(relative_move(self.overlay.rows, self.initial)[self.seen].median()) if self.seen.any() else 0.0

    def _resume(self) -> tuple[int, list[CurvePoint]]:
        saved = self.state.load() if self.state is not None else None
        if saved is None:
            return 0, []
        tensors, step, curve = saved
        with torch.no_grad():
            self.overlay.rows.copy_(tensors["rows"])
        moments = {
            "step": torch.tensor(float(step)),
            "exp_avg": tensors["exp_avg"],
            "exp_avg_sq": tensors["exp_avg_sq"],
        }
        inner = self.optimizer.state_dict()
        self.optimizer.load_state_dict({**inner, "state": {0: moments}})
        self.console.print(f"Resuming at step {step} of {len(self.plan)}.")
        return step, [CurvePoint(**point) for point in curve]

    def _save(self, step: int, curve: list[CurvePoint]) -> None:
        moments = self.optimizer.state_dict()["state"][0]
        tensors = {"rows": self.overlay.rows, "exp_avg": moments["exp_avg"], "exp_avg_sq": moments["exp_avg_sq"]}
        if self.state is not None:
            self.state.save(tensors, step, [asdict(point) for point in curve])


def relative_move(rows: torch.Tensor, initial: torch.Tensor) -> torch.Tensor:
    """|e - e0| / |e0| for each row, `[n]`."""
    moved: torch.Tensor = (rows.detach() - initial).norm(dim=-1) / initial.norm(dim=-1).clamp_min(1e-12)
    return moved


def run_key(**parts: Any) -> str:
    """The identity of a run: two runs with the same key give the same rows."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def state_path(out: Path) -> Path:
    """Where a run that will write `out` keeps its progress."""
    return out.absolute().with_name(f".{out.name}.resume")
