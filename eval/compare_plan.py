"""What a comparison would do, without doing it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from contrastok.body_lora import linear_layers
from contrastok.config import GenPairsConfig, TrainConfig
from contrastok.console import Console, emit_json
from contrastok.data_gen.corpus import read_corpus
from contrastok.data_gen.estimate import head
from contrastok.data_gen.evidence import mine
from contrastok.data_gen.negatives import NegativeSource
from contrastok.data_gen.pair_kinds import choose_kinds
from contrastok.data_gen.pair_kinds.template import ABOUT
from contrastok.data_gen.pipeline import Words, build_term, gen_pairs, mining_job, read_words
from contrastok.data_gen.text_sample import TextSample
from contrastok.errors import ContrastokError
from contrastok.eval.compare_inputs import Inner
from contrastok.eval.compare_methods import Method
from contrastok.eval.compare_told import in_compare
from contrastok.eval.recovery import recovery
from contrastok.eval_config import CompareConfig
from contrastok.lm_head import load_with_head
from contrastok.objectives import OBJECTIVES
from contrastok.objectives.one_token import CONTEXTS
from contrastok.reads import without_unread
from contrastok.second_stage import second_epochs
from contrastok.shallow import cut
from contrastok.trainables import TRAINABLES

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def show_plan(config: CompareConfig, inner: Inner, methods: Sequence[Method], console: Console) -> dict[str, Any]:
    """Show tokens, text, and for each method its steps or why it does not apply; write nothing but the summary.

    Args:
        config: of the comparison.
        inner: its commands.
        methods: that are asked for.
        console: where it is shown.

    Returns:
        What gen-pairs plans, and "methods", "steps" and "refused" by method, and the "hidden" words.

    Raises:
        ContrastokError: as a real run would.
    """
    pairs = gen_pairs(dataclasses.replace(inner.generate, dry_run=True, quiet=config.quiet))
    hidden = recovery(dataclasses.replace(inner.recovery, dry_run=True))["words"] if config.hidden else []
    words, anchors = _anchors(inner.generate)
    model = load_with_head(config.model)
    runs = {method.name: without_unread(dataclasses.replace(inner.train, **method.options)) for method in methods}
    refused = {name: why for name, run in runs.items() if (why := refusal(run, model))}
    steps = {name: _steps(run, words, anchors) for name, run in runs.items() if name not in refused}
    told = {"methods": list(runs), "steps": steps, "refused": refused}
    summary = {**pairs, **told, "hidden": [word["token"] for word in hidden]}
    _print(summary, console)
    emit_json(summary, config.json)
    return summary


def refusal(config: TrainConfig, model: SentenceTransformer) -> str:
    """Why a run of train would not begin, as far as options and model tell; "" where they do not.

    Args:
        config: of the run.
        model: its base model, with its head.
    """
    try:
        config.validate()
        TRAINABLES[config.trainable].check()
        OBJECTIVES[config.objective].build.check(model, config)
        with cut(model, config.layers):
            pass
        if config.moves_body:
            linear_layers(model)
    except ContrastokError as error:
        return in_compare(error)
    return ""


def _anchors(config: GenPairsConfig) -> tuple[Words, int]:
    """The terms, and the different anchors of the pairs that the beginning of the corpus makes."""
    config = dataclasses.replace(config, known_sentences=0, negatives=0)
    words = read_words(config)
    job, documents = mining_job(words, config), read_corpus(config.corpus, config.text_field, config.split)
    mined = mine(head(documents), job.terms, job.matcher(), words.confirm, job.options, TextSample(config.seed, 0))
    kinds, none = choose_kinds(config.kinds), NegativeSource(())
    made = [build_term(row, mined.evidence[name], none, kinds, words, config)[0] for row, name in enumerate(job.terms)]
    return words, len({pair.anchor for pairs in made for pair in pairs})


def _steps(config: TrainConfig, words: Words, anchors: int) -> int:
    """Optimiser steps of a run, of both its stages. Some objectives read texts of their own in place of the pairs."""
    chosen, batch = OBJECTIVES[config.objective], config.batch_size * config.gradient_accumulation
    if chosen.random_contexts:
        anchors = CONTEXTS * len(words.terms)
    elif chosen.definitions:
        anchors = len(ABOUT) * sum(bool(term.definition) for term in words.terms)
    total = 0
    for epochs, share in ((config.epochs, 1), (second_epochs(config), 2)):
        steps = epochs * -(-anchors // batch)
        total += steps if config.max_steps is None else min(steps, max(1, config.max_steps // share))
    return total


def _print(summary: Mapping[str, Any], console: Console) -> None:
    count, no = len(summary["methods"]), len(summary["refused"])
    but = f"; {no} {'does' if no == 1 else 'do'} not apply" if no else ""
    console.print(f"Would train {count - no} of {count} {'method' if count == 1 else 'methods'}{but}")
    table = Table(box=None, pad_edge=False)
    table.add_column("method", no_wrap=True)
    table.add_column("steps" if summary["complete"] else "steps, or more", justify="right")
    table.add_column("")
    for name in summary["methods"]:
        steps, why = summary["steps"].get(name), summary["refused"].get(name)
        table.add_row(
            escape(name), "" if steps is None else f"{steps:,}", escape(f"does not apply: {why}" if why else "")
        )
    console.print(table)
    if hidden := summary["hidden"]:
        console.print(f"Would also hide {len(hidden)} words that the model knows: {escape(', '.join(hidden[:5]))} ...")
