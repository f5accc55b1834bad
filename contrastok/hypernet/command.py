"""The command `train-hypernet`: a model in, a folder with a hypernetwork for it out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from contrastok.bank import FrozenEncoder
from contrastok.candidates import candidates
from contrastok.config import TrainHypernetConfig
from contrastok.console import Console, emit_json, nothing_written
from contrastok.data_gen.corpus import read_corpus
from contrastok.data_gen.term_readers import fill_term, open_glossaries
from contrastok.data_gen.terms import Term
from contrastok.errors import InputError
from contrastok.files import atomic_folder, check_output
from contrastok.hypernet.definitions import LEAST, read_definitions
from contrastok.hypernet.lesson import make_lesson
from contrastok.hypernet.store import MANIFEST, base_of, network_key, save_network
from contrastok.hypernet.training import SILENT, HypernetSettings, train_network
from contrastok.loop import state_path
from contrastok.models import input_embedding, load_model
from contrastok.state import RunState

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_WORD = re.compile(r"\w+")
MOST_WORDS = 200_000
"""Different words of the text that are counted; what is rarer decides no score."""


def train_hypernet(config: TrainHypernetConfig) -> dict[str, Any]:
    """Train a hypernetwork on the model's own vocabulary, and save it.

    Args:
        config: the options; `out` appears whole or not at all.

    Returns:
        a summary: the manifest of the hypernetwork, its path, and the tokens it learned from.

    Raises:
        ContrastokError: for every problem that the user can mend.
    """
    config.validate()
    assert config.out is not None  # validate() saw to it
    console = Console(config.quiet)
    check_output(config.out, config.overwrite, marker=MANIFEST, inputs=config.inputs, json=config.json)
    model = load_model(config.model)
    frequencies = _count(model.tokenizer, config)
    definitions = look_up(model.tokenizer, config.glossary)
    lesson = make_lesson(model.tokenizer, frequencies, config.seed, definitions)
    settings = HypernetSettings(config.layers, config.epochs, config.batch_size, config.learning_rate, config.seed)
    base, table = base_of(model, config.model), input_embedding(model).weight
    told = f"{len(lesson.ids):,} tokens of {escape(config.model)} in {config.epochs} epochs"
    if config.glossary:
        told += f", with {len(lesson.definitions):,} definitions"
        _require_definitions(len(lesson.definitions), config.glossary)
    if config.dry_run:
        steps = config.epochs * -(-len(lesson.ids) // config.batch_size)
        summary = {"dry_run": True, "base_model": base, "learned_tokens": len(lesson.ids), "steps": steps}
        summary |= {"definitions": len(lesson.definitions)}
        written = nothing_written(config.json)
        console.print(f"Would learn from {told}, and write {escape(str(config.out))}. {written}")
        emit_json(summary, config.json)
        return summary
    key = network_key(base, settings, frequencies=sorted(frequencies.items()), definitions=sorted(definitions.items()))
    state = RunState(state_path(config.out), key)
    console.print(f"Learning from {told}; {len(lesson.choose) + len(lesson.report):,} words are held out.")
    read = read_definitions(FrozenEncoder(model, model.tokenizer, console=console), lesson)
    trained = train_network(table, lesson, read, settings, state, console)
    with atomic_folder(config.out, config.overwrite) as folder:
        save_network(folder, trained, base)
    state.clear()
    print_recovery(trained.about, console)
    console.print(f"Hypernetwork: [bold]{escape(str(config.out))}[/]")
    summary = {"out": str(config.out), "base_model": base, **trained.about}
    emit_json(summary, config.json)
    return summary


def print_recovery(about: dict[str, Any], console: Console) -> None:
    """Say what held-out words showed, and which epoch was taken."""
    mrr, held = about["recovery_mrr"], about["held_out"]
    console.print(
        f"Recovery of {held['report']:,} known words that it never saw (MRR): hypernet {mrr['hypernet']:.3f}, "
        f"charlen_mean {mrr['charlen_mean']:.3f}"
        + (f", hypernet where no definition was told {mrr[SILENT]:.3f}" if SILENT in mrr else "")
        + f". Epoch {about['epoch']} of {about['settings']['epochs']}, chosen by "
        f"{held['choose']:,} others."
    )
    if mrr["hypernet"] <= mrr["charlen_mean"]:
        console.print("[yellow]warning:[/] it is no better than the mean of the pieces; use --init charlen_mean.")


def _count(tokenizer: PreTrainedTokenizerFast, config: TrainHypernetConfig) -> dict[str, int]:
    """How often words stand in the text of --corpus.

    Raises:
        InputError: it cannot be read; names the option.
    """
    try:
        return count_words(tokenizer, config.corpus, config.text_field, config.split)
    except InputError as error:
        takes = "--corpus takes .txt, .jsonl, .csv, .parquet, a folder of these, or a dataset's name"
        hint = "; ".join(part for part in (error.hint, takes) if part)
        raise InputError(error.what, where=f"--corpus {error.where}", hint=hint) from None


def count_words(
    tokenizer: PreTrainedTokenizerFast, corpus: Sequence[str], text_field: str, split: str
) -> dict[str, int]:
    """How often words stand in a text, as the tokenizer's normaliser writes them; the most frequent ones."""
    normaliser = tokenizer.backend_tokenizer.normalizer
    counts: Counter[str] = Counter()
    for document in read_corpus(corpus, text_field, split) if corpus else ():
        text = document.text if normaliser is None else normaliser.normalize_str(document.text)
        counts.update(_WORD.findall(text))
    return dict(counts.most_common(MOST_WORDS))


def look_up(tokenizer: PreTrainedTokenizerFast, glossary: Sequence[Path]) -> Mapping[str, str]:
    """Definitions of words that a model knows, by word; of those that have one.

    Raises:
        InputError: a glossary cannot be read.
    """
    known = open_glossaries(glossary)
    found = {word: fill_term(Term(word), known).definition for word in candidates(tokenizer).words} if known else {}
    return {word: definition for word, definition in found.items() if definition}


def _require_definitions(count: int, glossary: Sequence[Path]) -> None:
    if count < LEAST:
        raise InputError(
            f"describes {count:,} words that the model knows; to learn to read definitions a network needs {LEAST:,}",
            where=", ".join(map(str, glossary)),
            hint="give a --glossary of everyday words (WordNet, say), or none: the network then reads pieces alone",
        )
