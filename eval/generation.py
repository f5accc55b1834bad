"""The command `eval generation`: can a language model say its new tokens, and is all else as it was?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from contrastok.checkpoint import Checkpoint
from contrastok.console import Console, emit_json
from contrastok.data_gen.corpus import describe_corpus, read_corpus
from contrastok.errors import InputError
from contrastok.eval.data import rounded
from contrastok.eval.figure_table import add_section, figure_table
from contrastok.eval.generation_measure import FIGURES, measure_generation
from contrastok.eval.harm import load_base
from contrastok.eval.start import start, training_texts
from contrastok.eval.told import TOKENS, Text, read_text
from contrastok.eval_config import GenerationConfig
from contrastok.lm_head import LanguageHead, require_head

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

LEAK_WORDS = 4
"""A training text of so many words that stands in a text makes it no held-out one."""


def generation(config: GenerationConfig) -> dict[str, Any]:
    """Read texts with a checkpoint and its base model, print what they say of them.

    Args:
        config: the options.

    Returns:
        What `--json` writes: "ranks" of the new tokens where they stand, "perplexity_per_byte" of texts with and
        without them, "tokens" saved, and "identical": whether texts without them have the logits that they had, to the
        bit.

    Raises:
        ContrastokError: for every problem that the user can mend, a model without a language-model head among them.
    """
    checkpoint, console = start(config)
    require_head(checkpoint.model, "eval generation", LanguageHead)
    shown = training_texts(checkpoint, config.pairs)
    documents = (document.text for document in read_corpus(config.texts, config.text_field))
    base = load_base(checkpoint, config.base)
    if config.dry_run:
        files, size = describe_corpus(config.texts)
        summary: dict[str, Any] = {"dry_run": True, "files": files, "bytes": size}
        console.print(f"would read {files:,} files of {size:,} bytes with both models")
    else:
        chosen = _Chosen(checkpoint, base, shown, config.limit)
        texts = list(chosen.of(documents))
        if not texts:
            raise InputError(
                "there is no text that training did not show, of two tokens or more", where=", ".join(config.texts),
                hint="look at --texts and --text-field",
            )  # fmt: skip
        summary = rounded(measure_generation(checkpoint, base, texts, config.seed, console))
        summary["leaked"] = chosen.leaked
        _print(summary, config, console)
    emit_json(summary, config.json)
    return summary


class _Chosen:
    """Picks held-out texts from a stream, the first `limit` with a new token and the first without one; 0 for all."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        base: SentenceTransformer,
        shown: Mapping[str, Sequence[str]],
        limit: int,
    ) -> None:
        self.checkpoint, self.base, self.limit, self.leaked = checkpoint, base, limit, 0
        tokens = checkpoint.manifest["tokens"]
        told = {t["token"]: [text for text in shown[t["token"]] if len(text.split()) >= LEAK_WORDS] for t in tokens}
        self.shown = {i: told[token["token"]] for token in tokens for i in token["ids"]}

    def of(self, documents: Iterator[str]) -> Iterator[Text]:
        """The texts, in their order."""
        most = min(self.base.max_seq_length or TOKENS, TOKENS)
        found = {True: 0, False: 0}
        for document in documents:
            text = read_text(document, self.base.tokenizer, self.checkpoint.tokenizer, most)
            held = self.shown.keys() & set(text.new.ids)
            if text.bytes <= 0 or (self.limit and found[bool(held)] >= self.limit):
                continue
            if any(own in document for i in held for own in self.shown[i]):
                self.leaked += 1
                continue
            found[bool(held)] += 1
            yield text
            if self.limit and min(found.values()) >= self.limit:
                return


def _print(summary: Mapping[str, Any], config: GenerationConfig, console: Console) -> None:
    console.print(_headline(summary))
    for text in summary["changed_examples"]:
        console.print(f"  changed: {escape(text[:100])}")
    if ranks := summary["ranks"]:
        title = (
            f"Rank of the new token where it stands ({ranks['occurrences']:,} places), of the split word's first piece"
        )
        table = figure_table(title, "tokens", FIGURES)
        add_section(table, "next token", FIGURES, ranks["views"], ranks["differences"])
        console.print("", table)
    else:
        console.print("[yellow]note:[/] no text holds a new token, so nothing shows whether it can be said")
    console.print("", _perplexities(summary["perplexity_per_byte"]))
    tokens = summary["tokens"]
    left_out = f"{summary['leaked']:,} texts hold a training text and do not count."
    if not config.pairs:
        left_out += " [yellow]Without --pairs the definitions alone are known to be such.[/]"
    console.print(
        f"Texts with a new token take {tokens['result']:,} tokens, {tokens['saved']:,} ({tokens['share']:.1%}) less "
        f"than before. {left_out}"
    )


def _perplexities(groups: Mapping[str, Any]) -> Table:
    table = Table(title="Perplexity per byte", title_justify="left", title_style="bold", box=None, pad_edge=False)
    for name in ("texts", "of", "bytes", "base", "result", "log result / base"):
        table.add_column(name, no_wrap=True, justify="left" if name == "texts" else "right")
    for name, own in groups.items():
        if own["bytes"]:
            low, high = own["log_ratio_interval"]
            away = f"{own['log_ratio']:+.4f} [{low:+.4f}, {high:+.4f}]"
            figures = f"{own['base']:.4f}", f"{own['result']:.4f}", away
            table.add_row(name.replace("_", " "), f"{own['texts']:,}", f"{own['bytes']:,}", *figures)
    return table


def _headline(summary: Mapping[str, Any]) -> str:
    texts = summary["perplexity_per_byte"]["without_new_token"]["texts"] + summary["ids_changed"]
    if summary["identical"] is None:
        return "[yellow]No text without a new token was given, so nothing is shown about them.[/]"
    if summary["identical"]:
        return f"[green]Identical:[/] {texts:,} texts without a new token have the logits that they had, to the bit."
    return (
        f"[bold red]NOT identical:[/] of {texts:,} texts without a new token, {summary['ids_changed']:,} have other "
        f"ids and {summary['logits_changed']:,} other logits of old tokens."
    )
