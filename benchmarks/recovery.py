"""The default, its parts, and the means of pieces on the same hidden words: do they come back?

    python -m benchmarks.recovery --seeds 1 2 3 --source wordnet [--words 200] [--out FILE]

Each seed draws words of the vocabulary. All of them are hidden at once (see `contrastok eval recovery`), gen-pairs runs
once, and every method learns them from the same pairs. `benchmarks.hidden_words` says what the sources are.

Prints a table over the words of all seeds, each word once, with 95 % intervals by bootstrap over words, and the default
method for each seed's own words; then the confidence that the default gave, against the share that landed.
`contrastok compare --hidden N` does so for the other methods that train takes by name, on words and text of the user's.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.hidden_words import MOST, SOURCES, hidden_words
from benchmarks.markdown import cell, table
from contrastok.calibrate import reliability
from contrastok.checkpoint import load_checkpoint
from contrastok.confidence import WITHIN
from contrastok.console import Console
from contrastok.eval.baselines import INITIAL, TRAINED
from contrastok.eval.recovery import train_config
from contrastok.eval.recovery_figures import Standing, recovery_figures, related_figures
from contrastok.eval.recovery_measure import measure
from contrastok.files import atomic_file, to_json
from contrastok.story import versions
from contrastok.trainer import train

SAID = (0.7, 0.9)
"""Words with a confidence between these are told apart: about 80 % of them should have landed."""

DEFAULT = "train, as it is"
START = "initial row: {}"
OBJECTIVES: dict[str, dict[str, Any]] = {
    DEFAULT: {},
    "predictor, word stage alone": {"epochs": 0},
    "predictor, pairs without prior": {"word_weight": 0.0},
    "charlen_mean, InfoNCE + self-distillation": {"init": "charlen_mean"},
    "charlen_mean, InfoNCE alone": {"init": "charlen_mean", "distill_weight": 0.0},
    "charlen_mean, self-distillation alone": {"init": "charlen_mean", "contrast_weight": 0.0},
}
"""What is trained: options of train."""
STARTS = {START.format(name): {"init": name, "epochs": 0} for name in ("subtoken_mean", "charlen_mean")}
METHODS = dict(
    sorted((OBJECTIVES | STARTS).items(), key=lambda method: (method[0] != DEFAULT, "epochs" not in method[1]))
)
"""All that is compared: the default first, then what needs no epoch of pairs, then the rest."""

Result = dict[str, Any]


def run(
    source: str, model: str, words: int, seeds: Sequence[int], console: Console, methods: Sequence[str] = ()
) -> Iterator[tuple[dict[int, list[str]], dict[str, Result]]]:
    """Every method, or the default and those that are named, on the words of all seeds, one after another.

    Yields:
        after each method the words of each seed, and by method what `contrastok eval recovery` writes as JSON.
    """
    results: dict[str, Result] = {}
    with hidden_words(SOURCES[source], model, words, seeds, console) as lesson:
        for name, chosen in METHODS.items():
            if methods and name not in (DEFAULT, *methods):
                continue
            console.print(f"[bold]{name}[/]")
            train(train_config(lesson.config, lesson.work, **chosen))
            results[name] = measure(load_checkpoint(lesson.work / "model"), lesson.prepared, 0, console)
            yield lesson.drawn, results


def standings(result: Result, words: Sequence[str], space: str) -> dict[str, Standing]:
    """The standing of every view over some of a result's words."""
    by_word = {word["token"]: word for word in result["words"]}

    def column(name: str, view: str) -> np.ndarray:
        values = [by_word[word][name][space][view] for word in words if word in by_word]
        return np.array([np.nan if value is None else value for value in values], dtype=float)

    views = result["words"][0]["ranks"][space]
    return {view: Standing(*(column(name, view) for name in ("ranks", "overlaps", "related"))) for view in views}


def lines_of(drawn: Mapping[int, Sequence[str]], results: Mapping[str, Result]) -> list[dict[str, Any]]:
    """One line for each baseline, initialiser and objective over all words, each once, and the default by seed."""
    everything = list(dict.fromkeys(word for words in drawn.values() for word in words))
    lines: dict[str, dict[str, Any]] = {}
    for method in sorted(results, key=lambda name: name in OBJECTIVES):  # initial rows before what is made of them
        result = results[method]
        figures, related = _figures(result, everything)
        for view in figures["encoded"]["baselines"]:  # the same for every method
            lines.setdefault(view, _line(view, view, figures, related))
        if method == DEFAULT:
            lines["initial"] = _line("initial row: predictor", INITIAL, figures, related)
        trained = method in OBJECTIVES
        line = _line(method, TRAINED if trained else INITIAL, figures, related)
        lines[method] = {**line, "gain": figures["rows"]["gain"]} if trained else line
    for seed, words in drawn.items():
        figures, related = _figures(results[DEFAULT], words)
        name = f"{DEFAULT}, seed {seed}"
        lines[name] = {**_line(name, TRAINED, figures, related), "gain": figures["rows"]["gain"]}
    return list(lines.values())


def _figures(result: Result, words: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    spaces = {space: standings(result, words, space) for space in ("encoded", "rows")}
    return (
        {space: recovery_figures(views, seed=0) for space, views in spaces.items()},
        {space: related_figures(views, seed=0) for space, views in spaces.items()},
    )


def _line(name: str, view: str, figures: Mapping[str, Any], related: Mapping[str, Any]) -> dict[str, Any]:
    def of(found: Mapping[str, Any]) -> Any:
        return found.get(view) or found["baselines"].get(view)

    return {
        "name": name,
        **{space: of(found) for space, found in figures.items()},
        "related": {space: of(found) for space, found in related.items()},
    }


COLUMNS: dict[str, tuple[tuple[str, ...], str]] = {
    "row MRR": (("rows",), "mrr"),
    "hit@1": (("rows",), "hit@1"),
    "hit@10": (("rows",), "hit@10"),
    "median": (("rows",), "median_rank"),
    "overlap@10": (("rows",), "overlap@10"),
    "gain in MRR": (("gain",), "mrr"),
    "encoded MRR": (("encoded",), "mrr"),
    "related, rows": (("related", "rows"), "hit@10"),
    "related, encoded": (("related", "encoded"), "hit@10"),
}
"""Where the figure of each column lies in a line."""


def markdown(lines: Sequence[Mapping[str, Any]]) -> str:
    """The table for a document."""
    rows = [[line["name"], *(cell(_found(line, path), name) for path, name in COLUMNS.values())] for line in lines]
    return table(["", *COLUMNS], rows)


def _found(line: Mapping[str, Any], path: Sequence[str]) -> Mapping[str, Any]:
    found: Any = line
    for key in path:
        found = (found or {}).get(key)
    return found or {}


def told_and_landed(result: Result) -> tuple[np.ndarray, np.ndarray]:
    """The confidence of each word that has one, and whether its row landed within rank 10; both `[n]`."""
    sure = [word for word in result["words"] if "confidence" in word]
    return (
        np.array([word["confidence"] for word in sure], dtype=float),
        np.array([word["ranks"]["rows"][TRAINED] <= WITHIN for word in sure], dtype=bool),
    )


def reliability_markdown(confidence: np.ndarray, landed: np.ndarray) -> str:
    """Words by confidence against the share that landed, and those that were said to land at about 80 %."""
    rows = [
        [f"{part['confidence']:.3f}", f"{part['landed']:.3f}", f"{part['words']:,}"]
        for part in reliability(confidence, landed)
    ]
    low, high = SAID
    said = (low <= confidence) & (confidence <= high)
    told = f"{said.sum():,} words said to be within rank {WITHIN} with confidence {low:g}-{high:g}"
    if said.any():
        told += f" (mean {confidence[said].mean():.3f}), {landed[said].mean():.3f} landed"
    head = ["mean confidence", f"landed within rank {WITHIN}", "words"]
    return f"{table(head, rows)}\n\nof the {told}"


def main() -> None:
    """Run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--source", choices=SOURCES, default="wordnet")
    parser.add_argument("--words", type=int, default=200)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=[], metavar="NAME", help="beside the default")
    parser.add_argument("--out", type=Path, help="write the figures, and the ranks of all words, to this file")
    parser.add_argument("--quiet", action="store_true")
    arguments = parser.parse_args()
    console = Console(arguments.quiet)
    for drawn, results in run(
        arguments.source, arguments.model, arguments.words, arguments.seeds, console, arguments.methods
    ):
        lines, trained = lines_of(drawn, results), results[DEFAULT]
        confidence, landed = told_and_landed(trained)
        told = list(reliability(confidence, landed)) if len(confidence) else []
        facts = {"source": arguments.source, "seeds": arguments.seeds, "versions": versions(), "table": lines}
        if arguments.out:  # anew after each method: what is done is not lost
            with atomic_file(arguments.out) as partial:
                partial.write_text(to_json({**facts, "words": trained["words"], "reliability": told}), encoding="utf-8")
    print(f"{arguments.source}, {arguments.words} words, seeds {', '.join(map(str, arguments.seeds))}\n")
    print(markdown(lines))
    print(
        f"\nThe seeds draw the words. All {len(trained['words']):,} are hidden at once, and learned from at most "
        f"{MOST} sentences each; pairs and training have seed 0."
    )
    if told:
        print(f"\n{DEFAULT}: confidence of its rows\n\n{reliability_markdown(confidence, landed)}")


if __name__ == "__main__":
    main()
