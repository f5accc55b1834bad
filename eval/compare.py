"""The command `compare`: every method on the same pairs, under one budget, in one table."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from rich.markup import escape

from contrastok.checkpoint import load_checkpoint
from contrastok.config import TrainConfig, as_json
from contrastok.console import Console, emit_json, hush_libraries
from contrastok.data_gen.corpus import read_corpus
from contrastok.data_gen.engines import die_with_parent
from contrastok.data_gen.pipeline import gen_pairs
from contrastok.data_gen.sentences import blocks, split_sentences
from contrastok.data_gen.text_sample import TextSample
from contrastok.errors import ContrastokError
from contrastok.eval.baselines import INITIAL, TRAINED
from contrastok.eval.compare_folder import MARKER, READY, barren, claim, goes_on
from contrastok.eval.compare_inputs import Inner, check_inputs, hashes, inner_commands
from contrastok.eval.compare_methods import Method, chosen_methods
from contrastok.eval.compare_plan import show_plan
from contrastok.eval.compare_run import SHORT_OF_MEMORY, LostError, Refused, train_apart
from contrastok.eval.compare_table import compare_chart, compare_table, to_markdown
from contrastok.eval.no_harm import no_harm
from contrastok.eval.recovery import own_cache, prepare, train_config
from contrastok.eval.recovery_measure import Prepared, measure
from contrastok.eval.relatedness import relatedness
from contrastok.eval.retrieval import retrieval
from contrastok.eval_config import CompareConfig, NoHarmConfig, RecoveryConfig, RelatednessConfig, RetrievalConfig
from contrastok.files import atomic_file, to_json
from contrastok.models import trusting
from contrastok.reads import without_unread
from contrastok.story import versions

SAMPLE = 100_000
"""Characters of the corpus whose sentences no-harm reads."""
ROWS = (INITIAL, TRAINED)
"""Views with a row: the other baselines are the same for every method."""

FREE = ("methods", "num_proc")
"""Options that change no line: a run that was stopped goes on with others."""

Line = dict[str, Any]


def compare(config: CompareConfig) -> dict[str, Any]:
    """Train and evaluate every method that was asked for, print and plot the table.

    A run that was killed goes on with the methods that it was at, or with others.

    Args:
        config: the options; `out` gets compare.json, compare.md and compare.png.

    Returns:
        What `--json` writes: "lines", one a method, with figures and intervals, or why it does not apply.

    Raises:
        ContrastokError: for every problem that the user can mend.
        LostError: a process ended before its method was measured; the others are kept for the next run.
    """
    config.validate()
    assert config.out is not None  # validate() saw to it
    console, work = Console(config.quiet), config.out / "work"
    methods, inner = chosen_methods(config.methods), inner_commands(config, work)
    check_inputs(config, inner)
    asked = {name: value for name, value in as_json(config).items() if name not in FREE}
    facts = {"options": asked, "versions": versions(), "inputs": hashes(config, inner)}
    going_on = goes_on(config, facts)
    if config.dry_run:
        return show_plan(config, inner, methods, console)
    if not going_on:
        claim(config.out, facts)
    work.mkdir(parents=True, exist_ok=True)
    try:
        with own_cache(work):
            lesson = _lesson(config, inner, work, console)
            lines = _against_first(_lines(methods, config, lesson, work))
    except ContrastokError:
        if barren(config.out):  # nothing is kept for a command that would end the same way
            shutil.rmtree(config.out)
        raise
    _require_all(lines, console)
    summary = {**facts, "lines": lines}
    _write(config.out, summary)
    console.print(compare_table(lines), f"[bold]{escape(str(config.out))}[/]")
    emit_json(summary, config.json)
    return summary


def _write(out: Path, summary: Mapping[str, Any]) -> None:
    """Put the results into the folder, in place of what a run that is stopped would go on from."""
    with atomic_file(out / "compare.md") as partial:
        partial.write_text(to_markdown(summary["lines"]), encoding="utf-8")
    with atomic_file(out / "compare.png") as partial:
        partial.write_bytes(compare_chart(summary["lines"]))
    with atomic_file(out / MARKER) as partial:  # last: a folder whose marker has lines is complete
        partial.write_text(to_json(summary), encoding="utf-8")
    shutil.rmtree(out / "work")


def _require_all(lines: Sequence[Line], console: Console) -> None:
    """Show what is known where some method was not measured.

    Raises:
        LostError: names those methods.
    """
    lost = [f"{line['method']}: {line['lost']}" for line in lines if "lost" in line]
    if lost:
        console.print(compare_table(lines))
        raise LostError(
            f"{len(lost)} of {len(lines)} methods were not measured\n  " + "\n  ".join(lost),
            hint="give the same command again, with fewer --num-proc perhaps: it goes on with these alone. "
            "In a script, call compare below if __name__ == '__main__'",
        )


def _against_first(lines: list[Line]) -> list[Line]:
    """The lines, with each method's seconds divided by those of the first one that ran: machines differ, and days."""
    costs = [line["cost"] for line in lines if "cost" in line]
    for cost in costs:
        cost["times_first"] = cost["cpu_seconds"] / costs[0]["cpu_seconds"]
    return lines


@dataclasses.dataclass(frozen=True)
class Lesson:
    """What every method gets.

    Attributes:
        train: the options that all methods share.
        texts: a sample of the corpus, for no-harm.
        hidden: words that the model knows, hidden; None where no recovery is asked for.
        recovery: how they are taught.
    """

    train: TrainConfig
    texts: Path
    hidden: Prepared | None
    recovery: RecoveryConfig


def _lesson(config: CompareConfig, inner: Inner, work: Path, console: Console) -> Lesson:
    """Pairs for the terms, words to recover, a sample of text, and the encodings that all methods share."""
    texts, kept, ready = work / "texts.jsonl", work / "hidden", work / READY
    if not ready.exists():
        console.print("Pairs for all methods")
        gen_pairs(inner.generate)
        sample = TextSample(config.seed, SAMPLE)
        for document in read_corpus(config.corpus, config.text_field, config.split):
            for block in blocks(document.text):
                sample.offer(block)
        sentences = (sentence for block in sample.blocks() for sentence in split_sentences(block))
        texts.write_text("".join(json.dumps({"text": one}) + "\n" for one in sentences), encoding="utf-8")
        _prepare(inner.train, work)
    kept.mkdir(exist_ok=True)
    hidden = prepare(inner.recovery, kept, Console(quiet=True)) if config.hidden else None
    if hidden and not ready.exists():
        _prepare(train_config(inner.recovery, kept), work)
    ready.touch()
    return Lesson(inner.train, texts, hidden, inner.recovery)


def _prepare(config: TrainConfig, work: Path) -> None:
    """Put what the frozen model says of some pairs and of the words it knows, and the prior, into the shared cache.

    A user's second run finds it there, too; what a method costs is what comes on top.
    """
    from contrastok.trainer import train

    train(without_unread(dataclasses.replace(config, epochs=0, out=work / "model")))


def _lines(methods: Sequence[Method], config: CompareConfig, lesson: Lesson, work: Path) -> list[Line]:
    """A line for each method, `num_proc` of them at a time, each with its share of the cores."""
    make = partial(_line, config=config, lesson=lesson, work=work)
    if config.num_proc == 1:
        return list(map(make, methods))
    share = max(1, (os.cpu_count() or 1) // config.num_proc)
    with ProcessPoolExecutor(config.num_proc, get_context("spawn"), _begin, (share,)) as pool:
        try:
            coming = [pool.submit(make, method) for method in methods]
            return [_come(method, line) for method, line in zip(methods, coming, strict=True)]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _come(method: Method, coming: Future[Line]) -> Line:
    """The line of a method; one that says so where a worker ended, which takes the others with it."""
    try:
        return coming.result()
    except BrokenExecutor:
        return _lost(method, f"a worker ended before it was done; {SHORT_OF_MEMORY}")


def _lost(method: Method, why: str) -> Line:
    """The line of a method that was not measured; it is kept nowhere, so that the next run measures it."""
    return {"method": method.name, "source": method.source, "lost": why}


def _begin(threads: int) -> None:
    """In a worker: so many threads for it and for what it starts."""
    die_with_parent()
    hush_libraries()
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)


def _line(method: Method, config: CompareConfig, lesson: Lesson, work: Path) -> Line:
    """What is known of a method; from an earlier run where that got so far."""
    console, name = Console(config.quiet), hashlib.sha256(method.name.encode()).hexdigest()[:16]
    file, own = work / "lines" / f"{name}.json", work / "models" / name
    if file.is_file():
        kept: Line = json.loads(file.read_text(encoding="utf-8"))
        return kept
    shutil.rmtree(own, ignore_errors=True)  # what a run that was killed had trained would come for nothing
    console.print(f"Training {escape(method.name)}")
    try:
        with trusting(config.trust_remote_code):  # a worker knows nothing of where it was asked
            line = _trained(method, config, lesson, work, own)
    except LostError as error:
        console.print(f"  not measured: {escape(error.what)}")
        shutil.rmtree(own, ignore_errors=True)
        return _lost(method, error.what)
    shutil.rmtree(own, ignore_errors=True)
    if "refused" in line:
        console.print(f"  does not apply: {escape(line['refused'])}")
    with atomic_file(file) as partial:
        partial.write_text(to_json(line), encoding="utf-8")
    return line


def _trained(method: Method, config: CompareConfig, lesson: Lesson, work: Path, own: Path) -> Line:
    """Train in the folder `own`, and measure.

    Raises:
        LostError: a process ended before it was done.
    """
    line: Line = {"method": method.name, "source": method.source}
    trained = without_unread(dataclasses.replace(lesson.train, **method.options, out=own / "model"))
    cost = train_apart(trained, work / "cache")
    if isinstance(cost, Refused):
        return {**line, "refused": cost.why}
    told = {"cpu_seconds": cost.cpu_seconds, "peak_mb": cost.peak_bytes / 2**20, "steps": cost.steps}
    return {**line, "cost": told, **_measured(method, config, dataclasses.replace(lesson, train=trained), work)}


def _measured(method: Method, config: CompareConfig, lesson: Lesson, work: Path) -> Line:
    """Every evaluation of what was just trained; under "missing" those that cannot be made, and why.

    Raises:
        LostError: a process ended before it was done.
    """
    options: dict[str, Any] = {"model": lesson.train.out, "seed": config.seed, "quiet": True}
    files = ("queries", "passages", "pairs_file", "query_field", "passage_field", "limit")
    search = {name: getattr(config, name) for name in files}
    related = RelatednessConfig(**options, views=ROWS, pairs=lesson.train.pairs)
    searched = RetrievalConfig(**options, views=(TRAINED,), **search)
    harm = NoHarmConfig(**options, views=(TRAINED,), texts=(str(lesson.texts),), sts=config.sts)
    evaluations: dict[str, Callable[[], Line]] = {
        "relatedness": lambda: {
            label: field["kinds"]["all"]["views"] for label, field in relatedness(related)["fields"].items()
        },
        "retrieval": lambda: retrieval(searched)["groups"]["all"]["views"],
        "no_harm": lambda: no_harm(harm),
    }
    if lesson.hidden is not None:
        evaluations["recovery"] = lambda: _recovery(method, config, lesson, work)
    found: Line = {"missing": {}}
    for name, evaluate in evaluations.items():
        try:
            found[name] = evaluate()
        except LostError:
            raise
        except ContrastokError as error:
            found["missing"][name] = error.what
    return found


def _recovery(method: Method, config: CompareConfig, lesson: Lesson, work: Path) -> Line:
    """The same method on words that the model knew.

    Raises:
        ContrastokError: it does not apply to them.
        LostError: its process ended before it was done.
    """
    assert lesson.hidden is not None
    assert lesson.train.out is not None  # that of this method
    hidden = lesson.train.out.with_name("hidden")
    cost = train_apart(train_config(lesson.recovery, work / "hidden", **method.options, out=hidden), work / "cache")
    if isinstance(cost, Refused):
        raise ContrastokError(cost.why)
    checkpoint, console = load_checkpoint(hidden), Console(quiet=True)
    result = measure(checkpoint, lesson.hidden, config.seed, console, (*ROWS, "oracle"))
    return {name: value for name, value in result.items() if name not in ("words", "skipped", "training")}
