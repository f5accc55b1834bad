"""Choose the word stage's settings by recovery on known words of the user's own model, never by hand.

The words are those that the predictor held out: their rows are known to us and were not to it. The settings that
served other models are tried first; then one is changed at a time, and a change that brings back more stays. How many
are tried is a number, not a time, or two machines would choose apart.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from contrastok.confidence import WITHIN, Confidence, fit_confidence, landing_signals
from contrastok.console import Console
from contrastok.fit import gold_ranks
from contrastok.map_rows import MapSettings, WordObjective, map_rows, outputs_of
from contrastok.predictor import Predictor

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedTokenizerFast

WORDS = 128
"""Held-out words that settings are tried on; the confidence is fitted on all that are held out."""
QUIET = Console(quiet=True)
MOVES: tuple[tuple[str, float], ...] = (
    ("prior_weight", 0.03),
    ("temperature", 0.03),
    ("rate", 0.05),
    ("prior_weight", 0.003),
    ("steps", 40),
    ("noise", 0.1),
    ("temperature", 0.08),
    ("rate", 0.2),
    ("prior_weight", 0.1),
    ("steps", 10),
)
"""Changes to the settings, in the order in which they are tried."""
FORMAT = 2
"""Counted up when a calibration of the same predictor would come out otherwise."""


@dataclass(frozen=True)
class Calibration:
    """What known words said.

    Attributes:
        settings: those that brought back most.
        confidence: of a trained row, fitted on the held-out words.
        tried: the settings tried, each with its recovery (`row_mrr`, `output_mrr`, `hit@10`, `median_rank`); first the
            prior's own rows, with no settings.
        reliability: of the held-out words in fifths by confidence: the mean confidence, and the share that landed.
    """

    settings: MapSettings
    confidence: Confidence
    tried: tuple[Mapping[str, Any], ...]
    reliability: tuple[Mapping[str, float], ...]


def calibrate(
    model: SentenceTransformer,
    tokenizer: PreTrainedTokenizerFast,
    predictor: Predictor,
    trials: int,
    console: Console,
) -> Calibration:
    """Try settings on held-out known words.

    Args:
        model: the frozen model, without an overlay.
        tokenizer: before extension.
        predictor: its held-out words are the test.
        trials: how many settings to try; with 0 the built-in ones are taken untried.
        console: shows progress.
    """
    judge, settings = Judge(model, tokenizer, predictor, WORDS), MapSettings()
    tried: list[dict[str, Any]] = [judge(judge.few.rows).figures()]
    # The prior's own rows stand as they are where nothing tried is better.
    best, chosen = _score(tried[0]), replace(settings, steps=0) if trials else settings
    moves: list[dict[str, Any]] = [{}, *({name: value} for name, value in MOVES)]
    for move in console.track(moves[:trials], "Calibrating", total=min(trials, len(moves))):
        trial = replace(settings, **move)
        task = WordObjective(judge.few, predictor.bank, trial, judge.masked, model.device)
        tried.append({**asdict(trial), **judge(map_rows(model, tokenizer, task, QUIET).numpy()).figures()})
        if _score(tried[-1]) > best:
            best, chosen, settings = _score(tried[-1]), trial, trial
    held = predictor.prior.held
    task = WordObjective(held, predictor.bank, chosen, predictor.held_bank, model.device)
    placed = map_rows(model, tokenizer, task, QUIET).numpy()
    landed = gold_ranks(placed, predictor.gold, predictor.table, predictor.prior.mean) <= WITHIN
    signals = landing_signals(
        placed, predictor.table, predictor.prior.mean, held.agreement, held.scale, list(predictor.gold)
    )
    return Calibration(
        chosen, fit_confidence(signals, landed), tuple(tried), reliability(by_halves(signals, landed), landed)
    )


def _score(figures: Mapping[str, float]) -> float:
    return figures["row_mrr"] + figures["output_mrr"]


def by_halves(signals: np.ndarray, landed: np.ndarray) -> np.ndarray:
    """The confidence of words, each half judged by one that was fitted on the other half; `[n]`."""
    confidence, odd = np.zeros(len(landed)), np.arange(len(landed)) % 2 == 1
    for judged in (odd, ~odd):
        confidence[judged] = fit_confidence(signals[~judged], landed[~judged])(signals[judged])
    return confidence


def reliability(confidence: np.ndarray, landed: np.ndarray, bins: int = 5) -> tuple[dict[str, float], ...]:
    """Words sorted by confidence and cut into equal parts: mean confidence and share landed of each."""
    parts = np.array_split(np.argsort(confidence, kind="stable"), min(bins, max(len(confidence), 1)))
    return tuple(
        {"confidence": float(confidence[p].mean()), "landed": float(landed[p].mean()), "words": len(p)} for p in parts
    )


def to_text(calibration: Calibration) -> str:
    """A calibration as JSON."""
    return json.dumps(asdict(calibration))


def from_text(text: str) -> Calibration:
    """The calibration that `to_text` wrote."""
    told = json.loads(text)
    confidence = Confidence(**{name: tuple(values) for name, values in told["confidence"].items()})
    return Calibration(MapSettings(**told["settings"]), confidence, tuple(told["tried"]), tuple(told["reliability"]))


@dataclass(frozen=True)
class Recovery:
    """Ranks of the words' own rows among all rows, and of their own outputs among those of all known words; `[n]`."""

    rows: np.ndarray
    outputs: np.ndarray

    def scores(self) -> np.ndarray:
        """What is asked of each word: that it comes back by row and by output, `[n]`."""
        found: np.ndarray = 1 / self.rows + 1 / self.outputs
        return found

    def figures(self) -> dict[str, float]:
        """Recovery in figures."""
        return {
            "row_mrr": float(np.mean(1 / self.rows)),
            "output_mrr": float(np.mean(1 / self.outputs)),
            "hit@1": float(np.mean(self.rows <= 1)),
            "hit@10": float(np.mean(self.rows <= 10)),
            "median_rank": float(np.median(self.rows)),
        }


class Judge:
    """Recovery of the first held-out words.

    Args:
        model: the frozen model, without an overlay.
        tokenizer: before extension.
        predictor: its held-out words are the test.
        words: how many of them.

    Attributes:
        few: what the prior says of these words.
        masked: for each its places in the bank, first its own.
    """

    def __init__(
        self, model: SentenceTransformer, tokenizer: PreTrainedTokenizerFast, predictor: Predictor, words: int
    ) -> None:
        self.model, self.tokenizer, self.predictor = model, tokenizer, predictor
        self.few = predictor.prior.held.take(slice(words))
        self.masked, self.gold = predictor.held_bank[:words], predictor.gold[:words]

    def __call__(self, rows: np.ndarray) -> Recovery:
        """Look for the words from rows that were learned, `[n, d]`."""
        ranks = gold_ranks(rows, self.gold, self.predictor.table, self.predictor.prior.mean)
        outputs = outputs_of(self.model, self.tokenizer, torch.from_numpy(rows))
        scores = outputs @ self.predictor.bank.outputs.T
        own = scores[torch.arange(len(rows)), torch.tensor([places[0] for places in self.masked])]
        return Recovery(ranks, 1 + (scores > own[:, None]).sum(1).numpy())
