"""Choose the pair stage's settings on known words, as `calibrate` chooses the word stage's.

The words that the predictor held out are taught as new ones: their rows start where the word stage places them and are
trained on pairs of their own by the very loop that trains new terms. The settings that served other models come first;
then one is changed at a time. Words are judged by whether they come back, and by whether names that no pair told are
near, which is what pairs are for. A change stays where it gains more than the standard error of the difference, or
chance would choose.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from contrastok.bank import FrozenEncoder, special_frame
from contrastok.calibrate import QUIET, Judge, Recovery
from contrastok.config import TrainConfig
from contrastok.features import Ids, WordInput
from contrastok.guide import Guide
from contrastok.known_pairs import known_pairs, told_names, untold_names
from contrastok.loop import Loop
from contrastok.map_rows import WordObjective, map_rows, outputs_of, overlaid
from contrastok.models import input_embedding
from contrastok.objectives import OBJECTIVES
from contrastok.pair_settings import PairSettings

if TYPE_CHECKING:
    from accelerate import Accelerator

WORDS = 64
"""Held-out words that settings are tried on. Each costs some sentences in every trial."""
MOVES: tuple[tuple[str, float], ...] = (
    ("contrast_weight", 0.3),
    ("rate", 0.01),
    ("word_weight", 12.0),
    ("rate", 0.04),
    ("distill_weight", 15.0),
    ("temperature", 0.1),
)
"""Changes to the settings, in the order in which they are tried."""
OPTIONS = (
    *("seed", "calibrate", "objective", "epochs", "max_steps", "batch_size", "gradient_accumulation", "bank_size"),
    *("learn_temperature", "learning_rate", "temperature", "contrast_weight", "distill_weight", "word_weight"),
)
"""What decides how words are taught."""
SAME = 1e-5
"""Cosines this close are of the same text: a name may be a known word, too, and does not compete with itself."""
FORMAT = 3
"""Counted up when a calibration of the same predictor would come out otherwise."""


@dataclass(frozen=True)
class PairCalibration:
    """What known words said.

    Attributes:
        settings: those that brought back most.
        tried: the settings tried, each with its recovery; first the rows that the pair stage starts from.
    """

    settings: PairSettings
    tried: tuple[Mapping[str, Any], ...]


def calibrate_pairs(
    guide: Guide, encoder: FrozenEncoder, accelerator: Accelerator, config: TrainConfig
) -> PairCalibration:
    """Try settings on held-out known words.

    Args:
        guide: the words that its predictor held out are the test; its settings are tried first.
        encoder: the frozen model, without an overlay.
        accelerator: that training uses.
        config: options of the run: what they say is not chosen, and no more than `calibrate` settings are tried.
    """
    school = _School(guide, encoder, accelerator, config)
    settings, tried = guide.pairs, [school.judge(school.placed.numpy()).figures()]
    best: np.ndarray | None = None
    moves: list[dict[str, float]] = [{}, *({name: value} for name, value in MOVES if _is_open(name, config))]
    moves = moves[: config.calibrate]
    for move in encoder.console.track(moves, "Calibrating on pairs", total=len(moves)):
        trial = replace(settings, **move)
        found = school.judge(school.teach(trial))
        tried.append({**asdict(trial), **found.figures()})
        if best is None or clearly_more(found.scores(), best):
            settings, best = trial, found.scores()
    return PairCalibration(settings, tuple(tried))


def clearly_more(scores: np.ndarray, than: np.ndarray) -> bool:
    """Whether words score more, by more than the standard error of the mean difference."""
    gain = scores - than
    return bool(gain.mean() > gain.std() / np.sqrt(len(gain)))


def _is_open(name: str, config: TrainConfig) -> bool:
    """Whether the options leave a setting to be chosen."""
    return getattr(config, "learning_rate" if name == "rate" else name) is None


@dataclass(frozen=True)
class Taught:
    """What is asked of words after the pair stage.

    Attributes:
        recovery: whether they come back.
        related: reciprocal rank of the best name that no pair told, among all names and known words; 0 for a word
            without such a name, `[n]`.
    """

    recovery: Recovery
    related: np.ndarray

    def scores(self) -> np.ndarray:
        """Of each word, `[n]`."""
        found: np.ndarray = self.recovery.scores() + self.related
        return found

    def figures(self) -> dict[str, float]:
        """Means over the words; of names, over those that have some."""
        named = self.related[self.related > 0]
        return {**self.recovery.figures(), "related_mrr": float(named.mean()) if len(named) else 0.0}


class _School:
    """Known words to be taught anew, from where the word stage places them."""

    def __init__(self, guide: Guide, encoder: FrozenEncoder, accelerator: Accelerator, config: TrainConfig) -> None:
        predictor, settings = guide.predictor, guide.calibration.settings
        self.model, self.tokenizer, self.accelerator = encoder.model, encoder.tokenizer, accelerator
        self.config = replace(config, compile=False, profile=False)
        few, masked = predictor.prior.held.take(slice(WORDS)), predictor.held_bank[:WORDS]
        objective = WordObjective(few, predictor.bank, settings, masked, self.model.device)
        self.placed = map_rows(self.model, self.tokenizer, objective, QUIET)
        first, frame = input_embedding(self.model).weight.shape[0], special_frame(self.tokenizer)
        self.data = known_pairs(predictor.held_inputs[:WORDS], encoder, first)
        inputs = tuple(tuple(frame([first + row])) for row in range(len(self.placed)))
        self.guide = replace(guide, objective=objective, inputs=inputs)
        self.recovery = Judge(self.model, self.tokenizer, predictor, WORDS)
        self.names = Names(predictor.held_inputs[:WORDS], predictor.bank.outputs, masked, encoder)

    def teach(self, settings: PairSettings) -> np.ndarray:
        """The rows after the pair stage, float32 `[n, d]`."""
        guide = replace(self.guide, pairs=settings)
        with overlaid(self.model, self.placed) as (overlay, _):
            loop = Loop(
                self.model, overlay, self.data, self.tokenizer, self.config, self.accelerator, None, QUIET, guide
            )
            loop.run()
            return overlay.rows.detach().cpu().numpy()

    def judge(self, rows: np.ndarray) -> Taught:
        """Ask for what rows, float32 `[n, d]`, should find."""
        return Taught(self.recovery(rows), self.names(outputs_of(self.model, self.tokenizer, torch.from_numpy(rows))))


class Names:
    """Looks for the names of words that no pair told.

    Args:
        words: the words.
        known: outputs of the isolated known words, unit vectors, float32 `[K, dim]`.
        masked: for each word the places of its own spellings and synonyms among these.
        encoder: the frozen model.
    """

    def __init__(
        self,
        words: Sequence[WordInput],
        known: torch.Tensor,
        masked: Sequence[Sequence[int]],
        encoder: FrozenEncoder,
    ) -> None:
        names: dict[Ids, int] = {}
        self.own = [[names.setdefault(name, len(names)) for name in untold_names(word)] for word in words]
        told = [[names.setdefault(name, len(names)) for name in told_names(word)] for word in words]
        outputs = torch.from_numpy(encoder.encode_ids(list(names), "Encoding names of known words"))
        self.outputs = torch.cat([outputs, known.cpu()])
        self.masked = [[*own, *(len(names) + at for at in same)] for own, same in zip(told, masked, strict=True)]

    def __call__(self, outputs: torch.Tensor) -> np.ndarray:
        """Reciprocal rank of each word's best name, seen from its output `[n, dim]`; 0 where it has none."""
        found = np.zeros(len(outputs))
        for at, (scores, own, masked) in enumerate(zip(outputs @ self.outputs.T, self.own, self.masked, strict=True)):
            best = scores[own].max() if own else torch.inf
            scores[masked] = -torch.inf
            found[at] = 1 / (1 + int((scores > best + SAME).sum())) if own else 0.0
        return found


def has_settings(config: TrainConfig) -> bool:
    """Whether a run has a pair stage that is weighed by `PairSettings`."""
    return OBJECTIVES[config.objective].calibrated and config.epochs > 0 and config.trainable == "rows"


def can_calibrate(config: TrainConfig) -> bool:
    """Whether known words can be taught as the run's new words will be."""
    return has_settings(config) and config.calibrate > 0 and not config.layers and not config.reset_every


def anchor_passes(config: TrainConfig, sentences: float) -> int:
    """Anchors that calibration will look at, each forward and backward.

    Args:
        config: options of the run.
        sentences: of a known word, on average.
    """
    tries = min(config.calibrate, 1 + sum(_is_open(name, config) for name, _ in MOVES))
    passes = WORDS * (sentences + 1) * config.epochs
    if config.max_steps is not None:
        passes = min(passes, config.max_steps * config.batch_size * config.gradient_accumulation)
    return round(tries * passes) if can_calibrate(config) else 0


def kept_pair_calibration(
    guide: Guide, encoder: FrozenEncoder, accelerator: Accelerator, config: TrainConfig
) -> PairCalibration:
    """What known words chose; looked up where they were asked the same before."""
    options = [getattr(config, name) for name in OPTIONS]
    asked = json.dumps([FORMAT, guide.predictor.key, asdict(guide.calibration.settings), options])

    def make() -> dict[str, np.ndarray]:
        made = calibrate_pairs(guide, encoder, accelerator, config)
        return {"calibration": np.array(_to_text(made))}

    name = f"pair-calibration/{hashlib.sha256(asked.encode()).hexdigest()}"
    return _from_text(str(encoder.kept(name, make)["calibration"]))


def _to_text(calibration: PairCalibration) -> str:
    """A calibration as JSON."""
    return json.dumps(asdict(calibration))


def _from_text(text: str) -> PairCalibration:
    """The calibration that `to_text` wrote."""
    told = json.loads(text)
    return PairCalibration(PairSettings(**told["settings"]), tuple(told["tried"]))
