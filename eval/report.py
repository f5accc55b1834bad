"""The command `report`: where each new token landed, as a table, a page, CSV and JSON; or what two runs made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from contrastok.checkpoint import load_checkpoint, read_manifest
from contrastok.console import Console, emit_json
from contrastok.files import atomic_file, check_output
from contrastok.report_config import ReportConfig

SEQUENCES_A_SECOND = 800
"""Isolated tokens and short names that a small encoder takes through two CPU cores in a second, cautiously."""


def report(config: ReportConfig) -> dict[str, Any]:
    """Measure a checkpoint, or two and compare them; print the table and write page, CSV and JSON.

    Args:
        config: the options; without `out` and `csv` nothing but the JSON is written.

    Returns:
        The summary that `--json` writes. Of one run: "tokens", "verdicts", "relations" (held out and all; initial rows,
        trained rows, split word), "index" and "per_token" with everything about each token. Of two: "models",
        "changes", "relations" (held out of both), "options" that differ, and "per_token".

    Raises:
        ConfigError: options are missing or wrong.
        InputError: a folder is no checkpoint of contrastok.
        OutputError: an output exists or cannot be written.
    """
    config.validate()
    for option, path in (("--out", config.out), ("--csv", config.csv), ("--json", config.json)):
        if path is not None and str(path) != "-":
            check_output(path, config.overwrite, inputs=config.inputs, option=option)
    for folder in config.checkpoints:
        read_manifest(folder)  # what is wrong with the second one is told before the first is measured
    console = Console(config.quiet)
    if config.dry_run:
        plans = [_plan(folder, config, console) for folder in config.checkpoints]
        summary = plans[0] if len(plans) == 1 else {"dry_run": True, "runs": plans}
    else:
        made = _one_run(config, console) if len(config.checkpoints) == 1 else _two_runs(config, console)
        _show(made, console)
        page = None if config.out is None else made.page()
        _publish(made, page, config, console)
        summary = made.summary
    emit_json(summary, config.json)
    return summary


@dataclass(frozen=True)
class _Made:
    """What a report comes to, in all its forms.

    Attributes:
        summary: for `--json`.
        table: for the terminal.
        lines: the sentences below it.
        csv: one mapping a token.
        page: makes the HTML page, which takes a while.
    """

    summary: dict[str, Any]
    table: Table
    lines: Sequence[Text]
    csv: Sequence[Mapping[str, Any]]
    page: Callable[[], str]


def _one_run(config: ReportConfig, console: Console) -> _Made:
    from contrastok.eval.csv_table import token_lines
    from contrastok.eval.data import as_json
    from contrastok.eval.html import render
    from contrastok.eval.measure import measure
    from contrastok.eval.table import summary_lines, token_table

    data = measure(load_checkpoint(config.checkpoints[0]), config.neighbors, config.seed, console)
    return _Made(as_json(data), token_table(data), summary_lines(data), token_lines(data), lambda: render(data))


def _two_runs(config: ReportConfig, console: Console) -> _Made:
    from contrastok.eval.csv_table import pair_lines
    from contrastok.eval.html import render_two
    from contrastok.eval.measure import measure
    from contrastok.eval.table import told_lines
    from contrastok.eval.two_runs import as_json, compare_runs, headline, sections
    from contrastok.eval.two_runs_rows import pair_table

    first, second = (
        measure(load_checkpoint(path), config.neighbors, config.seed, console, mapped=False)
        for path in config.checkpoints
    )
    runs = compare_runs(first, second, config.seed)
    lines = told_lines(headline(runs), sections(runs))
    return _Made(as_json(runs), pair_table(runs), lines, pair_lines(runs), lambda: render_two(runs))


def _show(made: _Made, console: Console) -> None:
    console.print(made.table, "")
    for line in made.lines:
        console.print(line)


def _publish(made: _Made, page: str | None, config: ReportConfig, console: Console) -> None:
    """Write page and CSV once all is made: a run killed before that leaves nothing that the next one would refuse."""
    from contrastok.eval.csv_table import emit_csv

    if config.out is not None and page is not None:
        with atomic_file(config.out) as partial:
            partial.write_text(page, encoding="utf-8")
        console.print(f"\nReport: [bold]{escape(str(config.out))}[/bold]")
    emit_csv(made.csv, config.csv)


def _plan(folder: Path, config: ReportConfig, console: Console) -> dict[str, Any]:
    """What a run would do; nothing is encoded and nothing written."""
    from contrastok.candidates import candidates
    from contrastok.eval.relations import unique_names

    checkpoint = load_checkpoint(folder)
    tokens = checkpoint.manifest["tokens"]
    counts = {
        "tokens": len(tokens),
        "vocabulary_words": len(candidates(checkpoint.base_tokenizer).ids),
        "glossary_names": len(unique_names(tokens)),
        "relations": sum(len(token["relations"]) for token in tokens),
        "held_out_relations": sum(r["held_out"] for token in tokens for r in token["relations"]),
    }
    sequences = counts["vocabulary_words"] + counts["glossary_names"] + 3 * counts["tokens"]
    seconds = round(sequences / SEQUENCES_A_SECOND)
    weights = sum(p.numel() * p.element_size() for p in checkpoint.model.parameters())
    vectors = (3 * counts["vocabulary_words"] + counts["glossary_names"]) * checkpoint.rows.shape[1] * 4
    memory = round((2 * weights + 2 * vectors) / 2**20)  # the base model stands beside the checkpoint
    console.print(
        f"[bold]{counts['tokens']:,}[/bold] new tokens against {counts['vocabulary_words']:,} vocabulary "
        f"words, {counts['glossary_names']:,} glossary names, {counts['relations']:,} relations "
        f"({counts['held_out_relations']:,} held out)"
    )
    console.print(
        f"about {seconds:,} s of encoding on two CPU cores and {memory:,} MB; "
        f"{'no page (--out is missing)' if config.out is None else f'the page would be {escape(str(config.out))}'}"
    )
    return {"dry_run": True, **counts, "seconds": seconds, "memory_mb": memory}
