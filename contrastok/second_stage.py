"""The second stage of `--two-stage`: LoRA on the body, trained together with rows that a first stage has settled."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from contrastok.body_lora import BodyLora
from contrastok.config import TrainConfig
from contrastok.loop import CurvePoint, Loop
from contrastok.objectives.contrast import Contrast
from contrastok.state import RunState

ROWS_SHARE = 0.1
"""Share of the first stage's step that rows keep: they are where they should be, and follow the body."""


def second_epochs(config: TrainConfig) -> int:
    """Passes of the second stage over the pairs: half of the first one's, at least one; 0 where nothing is trained."""
    return max(1, config.epochs // 2) if config.two_stage and config.epochs else 0


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
        max_steps=first.config.max_steps and max(1, first.config.max_steps // 2),
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
        follow=None if told is None else lambda points: told(counted_on(points)), ranks=first.ranks,
    )  # fmt: skip
    second.initial = first.initial
    return second, lora, counted_on(second.run())
