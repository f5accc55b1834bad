"""The command `eval no-harm`: is everything else the same, and how near do texts with a new token stay?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.markup import escape

from contrastok.checkpoint import given_up_sentence
from contrastok.console import Console, emit_json
from contrastok.data_gen.corpus import describe_corpus, read_corpus
from contrastok.errors import InputError
from contrastok.eval.data import rounded
from contrastok.eval.figure_table import add_section, figure_table
from contrastok.eval.harm import FIGURES, load_base, measure_harm
from contrastok.eval.start import start
from contrastok.eval.sts import read_sts
from contrastok.eval_config import NoHarmConfig


def no_harm(config: NoHarmConfig) -> dict[str, Any]:
    """Compare a checkpoint with its base model on texts and rated pairs, print what differs.

    Args:
        config: the options.

    Returns:
        What `--json` writes: "identical" (None when no text without a new token was given), how many texts changed,
        "fidelity" of texts with a new token for each view, and "sts".

    Raises:
        ContrastokError: for every problem that the user can mend, a base model that cannot be found among them.
    """
    checkpoint, console = start(config)
    documents = (document.text for document in read_corpus(config.texts, config.text_field))
    rated = read_sts(config.sts) if config.sts else None
    base = load_base(checkpoint, config.base)
    if config.dry_run:
        (files, size), pairs = describe_corpus(config.texts), len(rated.scores) if rated else 0
        summary = {"dry_run": True, "files": files, "bytes": size, "rated_pairs": pairs}
        console.print(f"would encode {files:,} files of {size:,} bytes with both models, and {pairs:,} rated pairs")
    else:
        summary = rounded(measure_harm(checkpoint, base, documents, rated, config.seed, console, config.views))
        if not summary["texts"]:
            raise InputError("there is no text", where=", ".join(config.texts), hint="look at --texts and --text-field")
        if given_up := checkpoint.manifest.get("frozen", {}).get("given_up"):
            summary["given_up"] = dict(given_up)
            console.print(f"[yellow]note:[/] frozen rows were given up: {given_up_sentence(given_up)}")
        _print(summary, console)
    emit_json(summary, config.json)
    return summary


def _print(summary: Mapping[str, Any], console: Console) -> None:
    console.print(_headline(summary))
    for text in summary["changed_examples"]:
        console.print(f"  changed: {escape(text[:100])}")
    if fidelity := summary["fidelity"]:
        title = "Texts with a new token: cosine to the base model on the original tokens"
        table = figure_table(title, "texts", FIGURES)
        add_section(table, "with a new token", FIGURES, fidelity["views"], fidelity["differences"])
        console.print("", table)
    else:
        console.print("[yellow]note:[/] no text holds a new token, so fidelity was not measured")
    for view, count in summary["filled"].items():
        console.print(f"{escape(view)}: {count:,} tokens without a definition have the mean of their pieces")
    if sts := summary["sts"]:
        bits = "all embeddings" if sts["same_bits"] else "not all embeddings"
        console.print(
            f"Rated pairs ({sts['pairs']:,}): Spearman {sts['base']:.4f} (base), {sts['result']:.4f} (result); "
            f"{sts['sentences_with_new_token']:,} sentences hold a new token, {bits} are the same bits"
        )


def _headline(summary: Mapping[str, Any]) -> str:
    without = f"{summary['without_new_token']:,} texts without a new token"
    if summary["identical"] is None:
        return "[yellow]No text without a new token was given, so nothing is shown about them.[/]"
    if summary["identical"]:
        return f"[green]Identical:[/] {without} have the same ids and the same embeddings, bit for bit."
    changed = summary["sts"]["changed"] if summary["sts"] else 0
    return (
        f"[bold red]NOT identical:[/] of {without}, {summary['ids_changed']:,} have other ids and "
        f"{summary['embeddings_changed']:,} other embeddings; of the rated sentences {changed:,} changed."
    )
