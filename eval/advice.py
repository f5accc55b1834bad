"""What far tokens lack, and what the run did without: what to mend depends on which of the two it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from contrastok.config import GenPairsConfig, TrainConfig
from contrastok.eval.data import ReportData, TokenReport

ENOUGH_SENTENCES = GenPairsConfig().min_sentences
"""Sentences below which gen-pairs, too, calls a term poor in evidence."""
LACKS: tuple[tuple[str, Callable[[TokenReport], bool]], ...] = (
    ("Far, and without a definition; the terms file or a glossary can give one:", lambda token: not token.definition),
    (
        "Far, and without a synonym, category or related name; the terms file can hold them:",
        lambda token: not token.relations,
    ),
    (
        f"Far, and with fewer than {ENOUGH_SENTENCES} sentences; give gen-pairs more text that uses them:",
        lambda token: token.evidence.sentences < ENOUGH_SENTENCES,
    ),
)


def far_ones(data: ReportData) -> Iterator[tuple[str, list[str]]]:
    """The far tokens by what they lack, each with what would help; those that lack nothing last."""
    far = [token for token in data.per_token if token.verdict == "far"]
    for text, lacks in LACKS:
        yield text, [token.token for token in far if lacks(token)]
    then = "train again first" if did_without(data) else "look at their neighbours, or leave them out"
    rest = [token.token for token in far if not any(lacks(token) for _, lacks in LACKS)]
    yield f"Far, although they have a definition, names and sentences enough; {then}:", rest


def did_without(data: ReportData) -> list[str]:
    """The parts of a full run that this one's options left out, in words; nothing where they are not known."""
    options, usual, found = data.training.get("options", {}), TrainConfig(), []
    init, steps = options.get("init", usual.init), data.training.get("steps", 0)
    if init not in (usual.init, "predictor"):
        found.append(f"first rows predicted from the evidence (--init {usual.init}, not {init})")
    if options.get("calibrate") == 0:
        found.append("settings calibrated on known words (--calibrate)")
    planned = options.get("epochs", usual.epochs) * data.training.get("epoch_steps", 0)
    if steps < planned:
        found.append(f"all but {steps:,} of its {planned:,} steps (--max-steps)")
    if options.get("epochs", usual.epochs) < usual.epochs:
        found.append(f"the usual {usual.epochs} epochs (--epochs)")
    return found
