"""The command `eval relatedness`: do new tokens lie near words that a glossary relates to them?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.markup import escape

from contrastok.console import Console, emit_json
from contrastok.data_gen.fold import Fold
from contrastok.errors import InputError
from contrastok.eval.data import rounded
from contrastok.eval.figure_table import add_section, figure_table
from contrastok.eval.questions import ask
from contrastok.eval.relatedness_measure import FIGURES, measure_relatedness
from contrastok.eval.start import start, training_texts
from contrastok.eval_config import RelatednessConfig

FEW = 5
"""A kind of relation that fewer tokens have is not printed: its interval would be the whole range."""


def relatedness(config: RelatednessConfig) -> dict[str, Any]:
    """Measure where the related words of each token rank, print a table.

    Args:
        config: the options.

    Returns:
        What `--json` writes: "fields" with figures for each kind of relation and each view, "missing" (tokens that a
        view has nothing for), "per_token" with every rank.

    Raises:
        ContrastokError: for every problem that the user can mend.
    """
    checkpoint, console = start(config)
    fold = Fold(checkpoint.base_tokenizer)
    shown = training_texts(checkpoint, config.pairs)
    questions, names = ask(checkpoint, config.glossary, shown, fold)
    counted = sum(answer.counts for question in questions for answer in question.answers)
    if config.dry_run:
        summary = {"dry_run": True, "tokens": len(questions), "names": len(names.names), "answers": counted}
        console.print(f"{len(questions):,} tokens, {counted:,} related words that no training text shows")
    elif not counted:
        raise InputError(
            "no related word is left to ask for: training texts show every one, or there was none",
            where=config.model,
            hint="gen-pairs --hold-out keeps a share of them out; --glossary asks another glossary",
        )
    else:
        summary = rounded(measure_relatedness(checkpoint, questions, names, fold, config.seed, console, config.views))
        _print(summary, console)
    emit_json(summary, config.json)
    return summary


def _print(summary: Mapping[str, Any], console: Console) -> None:
    for field in summary["fields"].values():
        among = f"{field['of']:,} {field['among']}; space: {field['space']}"
        title = f"Related words that no training text shows, among {among}"
        table = figure_table(title, "relation", FIGURES)
        for kind, found in _telling(field["kinds"]).items():
            add_section(table, kind, FIGURES, found["views"], found["differences"])
        if table.row_count:
            console.print(table, "")
    for view, count in summary["missing"].items():
        console.print(f"{escape(view)} has nothing for {count:,} of {summary['tokens']:,} tokens (no definition)")
    console.print(
        f"{summary['leaked']:,} related words were given to training or stand in its texts, and do not count. "
        f"Kinds of fewer than {FEW} tokens, and those that repeat another, are in the JSON only."
    )


def _telling(kinds: Mapping[str, Any]) -> dict[str, Any]:
    """The kinds worth a section: not those of a handful of tokens, nor those that are about the same answers."""
    shown: dict[str, Any] = {}
    for kind, found in kinds.items():
        units = max(figures["units"] for figures in found["views"].values())
        if (units >= FEW or kind == "all") and found not in shown.values():
            shown[kind] = found
    return shown
