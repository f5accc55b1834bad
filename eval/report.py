"""The command `report`: where each new token landed, as a table, a page and JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.markup import escape

from contrastok.checkpoint import Checkpoint, load_checkpoint
from contrastok.config import ReportConfig
from contrastok.console import Console, emit_json
from contrastok.files import atomic_file, check_output

SEQUENCES_A_SECOND = 800
"""Isolated tokens and short names that a small encoder takes through two CPU cores in a second, cautiously."""


def report(config: ReportConfig) -> dict[str, Any]:
    """Measure a checkpoint, print the table and write the page.

    Args:
        config: the options; without `out` nothing but the JSON is written.

    Returns:
        The summary that `--json` writes: "tokens", "verdicts", "relations" (held out and all; initial rows,
        trained rows, split word), "index" and "per_token" with everything about each token.

    Raises:
        ConfigError: options are missing or wrong.
        InputError: `config.model` is no checkpoint of contrastok.
        OutputError: `config.out` exists or cannot be written.
    """
    config.validate()
    for option, path in (("--out", config.out), ("--json", config.json)):
        if path is not None and str(path) != "-":
            check_output(path, config.overwrite, inputs=[Path(str(config.model))], option=option)
    console = Console(config.quiet)
    checkpoint = load_checkpoint(Path(str(config.model)))
    summary = _plan(config, checkpoint, console) if config.dry_run else _report(config, checkpoint, console)
    emit_json(summary, config.json)
    return summary


def _report(config: ReportConfig, checkpoint: Checkpoint, console: Console) -> dict[str, Any]:
    from contrastok.eval.data import as_json
    from contrastok.eval.html import render
    from contrastok.eval.measure import measure
    from contrastok.eval.table import summary_lines, token_table

    data = measure(checkpoint, config.neighbors, config.seed, console)
    console.print(token_table(data), "")
    for line in summary_lines(data):
        console.print(line)
    if config.out is not None:
        with atomic_file(config.out) as partial:
            partial.write_text(render(data), encoding="utf-8")
        console.print(f"\nReport: [bold]{escape(str(config.out))}[/bold]")
    return as_json(data)


def _plan(config: ReportConfig, checkpoint: Checkpoint, console: Console) -> dict[str, Any]:
    """What a run would do; nothing is encoded and nothing written."""
    from contrastok.candidates import candidates
    from contrastok.eval.relations import unique_names

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
