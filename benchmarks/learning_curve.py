"""What recovery of the predictor's rows depends on: known words, sentences of each, steps of the word stage.

    python -m benchmarks.learning_curve --seed 1 [--source wordnet] [--words 200] [--out FILE]

The words are drawn and hidden as in `benchmarks.recovery`, and looked at as train looks at them: a new word in four
times as many sentences as a known one. Pairs are not trained on. "prediction" is the row that the predictor gives,
"word stage" what the word stage makes of it with its built-in settings (nothing is calibrated). Three tables:

* known words: the predictor learns from so many, drawn by seed from all that train learns from, each number among the
  next. A fifth of them, at most 400, stay out of the fit. Negatives, and how rare a token is, are those of all of them.
* sentences: so many are looked at for each known word.
* steps of the word stage.

Ranks are of the old row among all rows, with 95 % intervals of the MRR by bootstrap over words. What the model makes of
the evidence is computed once for each number of sentences.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.hidden_words import SOURCES, hidden_words
from benchmarks.learner import Learner
from benchmarks.markdown import cell, table
from contrastok.console import Console
from contrastok.eval.baselines import INITIAL, TRAINED
from contrastok.eval.recovery_figures import Standing, recovery_figures
from contrastok.files import atomic_file, to_json
from contrastok.map_rows import MapSettings
from contrastok.prior import Prior
from contrastok.story import versions
from contrastok.words import Reading

WORDS = (500, 1000, 2000, 4000, 8000)
"""Known words to learn from, before all of them."""
SENTENCES = (0, 1, 2, 4, 8)
STEPS = (0, 5, 10, 20, 40)
STAGES = {"prediction": INITIAL, "word stage": TRAINED}

Point = dict[str, Any]
"""`at`, and for each stage the figures of its rows; `gain` of the word stage over the prediction."""


def curves(
    learner: Learner, words: Sequence[int], sentences: Sequence[int], steps: Sequence[int], seed: int
) -> dict[str, list[Point]]:
    """Every curve by its name.

    Args:
        learner: what there is to learn from.
        words: numbers of known words; those that there are not are left out, and all of them are put at the end.
        sentences: numbers looked at for each known word; as many as train looks at are put among them.
        steps: numbers of steps of the word stage.
        seed: draws the known words.
    """
    found: dict[str, list[Point]] = {"known words": [], "sentences": [], "steps": []}
    for count in sorted({*sentences, learner.sentences}):
        learner.console.print(f"[bold]{count} sentences of each known word[/]")
        reading = learner.words.read(count)
        prior = learner.learn(reading)
        whole = point(learner, prior)
        found["sentences"].append({"at": count, **whole})
        if count == learner.sentences:
            found["known words"] = [*over_words(learner, reading, words, seed), {"at": len(reading.known.ids), **whole}]
            found["steps"] = over_steps(learner, prior, steps)
    return found


def over_words(learner: Learner, reading: Reading, words: Sequence[int], seed: int) -> list[Point]:
    """Recovery by the number of known words, each number among the next; nothing is encoded anew."""
    order = np.random.default_rng(seed).permutation(len(reading.known.ids))
    found = []
    for count in (count for count in words if count < len(order)):
        learner.console.print(f"[bold]{count:,} known words[/]")
        found.append({"at": count, **point(learner, learner.learn(reading, np.sort(order[:count])))})
    return found


def over_steps(learner: Learner, prior: Prior, steps: Sequence[int]) -> list[Point]:
    """Recovery by the number of steps of the word stage."""
    return [{"at": count, **point(learner, prior, MapSettings(steps=count))} for count in steps]


def point(learner: Learner, prior: Prior, settings: MapSettings | None = None) -> Point:
    """Recovery of the prediction, and of what the word stage makes of it.

    Args:
        learner: knows the gold rows.
        prior: of the new words.
        settings: of the word stage; its built-in ones by default.
    """
    rows = (prior.new.rows, learner.place(prior, settings or MapSettings()))
    standings: dict[str, Standing] = dict(zip(STAGES.values(), map(learner.stand, rows), strict=True))
    figures = recovery_figures(standings, seed=0)
    return {**{stage: figures[view] for stage, view in STAGES.items()}, "gain": figures["gain"]}


COLUMNS: dict[str, Callable[[Point, str], str]] = {
    "MRR": lambda found, stage: cell(found[stage], "mrr"),
    "hit@1": lambda found, stage: cell(found[stage], "hit@1", interval=False),
    "hit@10": lambda found, stage: cell(found[stage], "hit@10", interval=False),
    "median rank": lambda found, stage: cell(found[stage], "median_rank", interval=False),
    "gain in MRR": lambda found, stage: cell(found["gain"], "mrr", "+") if stage == "word stage" else "",
}


def markdown(name: str, points: Sequence[Mapping[str, Any]], stages: Sequence[str]) -> str:
    """The table of one curve."""
    rows = [
        [f"{found['at']:,}", stage, *(column(dict(found), stage) for column in COLUMNS.values())]
        for found in points
        for stage in stages
    ]
    return table([name, "rows", *COLUMNS], rows)


def main() -> None:
    """Run, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--source", choices=SOURCES, default="wordnet")
    parser.add_argument("--words", type=int, default=200)
    parser.add_argument(
        "--known", type=int, nargs="*", default=WORDS, help="numbers of known words, before all of them"
    )
    parser.add_argument("--sentences", type=int, nargs="*", default=SENTENCES, help="of each known word")
    parser.add_argument("--steps", type=int, nargs="*", default=STEPS, help="of the word stage")
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--out", type=Path, help="write all figures to this file")
    parser.add_argument("--quiet", action="store_true")
    arguments = parser.parse_args()
    console = Console(arguments.quiet)
    with hidden_words(SOURCES[arguments.source], arguments.model, arguments.words, [arguments.seed], console) as lesson:
        learner = Learner(lesson, console)
        found = curves(learner, arguments.known, arguments.sentences, arguments.steps, arguments.seed)
    print(f"{arguments.source}, {len(learner.words.terms)} words, seed {arguments.seed}")
    for name, points in found.items():
        print(f"\n{markdown(name, points, ['word stage'] if name == 'steps' else list(STAGES))}")
    print(f"\nWhere it is not said otherwise: all known words, {learner.sentences} sentences of each.")
    if arguments.out:
        given = {name: getattr(arguments, name) for name in ("source", "seed", "words", "model")}
        facts = {"versions": versions(), "settings": dataclasses.asdict(MapSettings()), "sentences": learner.sentences}
        with atomic_file(arguments.out) as partial:
            partial.write_text(to_json({**given, **facts, "curves": found}), encoding="utf-8")


if __name__ == "__main__":
    main()
