"""The command `eval recovery`: hide words that the model knows, teach them as new, and look whether they come back.

The model itself is the ground truth, nobody labelled anything: each hidden word has an old row (its *gold* row), and
the question is where that row ranks, seen from the row that was learned. Everything between hiding and measuring is the
ordinary gen-pairs and train on an ordinary model folder from which the gold rows are gone, so no fit can see them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from contrastok.checkpoint import load_checkpoint
from contrastok.config import GenPairsConfig, TrainConfig
from contrastok.config_file import from_toml
from contrastok.console import Console, emit_json, nothing_written
from contrastok.data_gen.pipeline import gen_pairs
from contrastok.data_gen.term_readers import read_terms
from contrastok.data_gen.terms import Term
from contrastok.errors import ContrastokError, InputError
from contrastok.eval.recovery_corpus import without_own_texts
from contrastok.eval.recovery_measure import Prepared, measure
from contrastok.eval.recovery_sample import draw_sample
from contrastok.eval.recovery_table import recovery_tables
from contrastok.eval_config import RecoveryConfig
from contrastok.files import atomic_file, atomic_folder, check_json, check_output, to_json
from contrastok.hiding import Hidden, hide_in_model, hide_words
from contrastok.lm_head import load_with_head, save_with_head
from contrastok.models import load_tokenizer
from contrastok.reads import without_unread
from contrastok.trainer import train

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MARKER = "hidden.json"
"""The file by which a --work folder is known; it names the words."""
SHOWN = 5
"""Words named in a line; the JSON has all of them."""


def recovery(config: RecoveryConfig) -> dict[str, Any]:
    """Hide words, relearn them through gen-pairs and train, and rank their old rows.

    Args:
        config: the options.

    Returns:
        what `--json` writes: "initial", "trained", "gain", "baselines" (input rows), "encoded" (the same of the
        isolated token's output), "related" and the rank of every word. Intervals are 95 %, by bootstrap over words.

    Raises:
        ContrastokError: for every problem that the user can mend.
    """
    config.validate()
    console = Console(config.quiet)
    _check_outputs(config)
    if config.dry_run:
        return _dry_run(config, console)
    with _workspace(config) as work:
        with own_cache(work):
            prepared = prepare(config, work, console)
            train(train_config(config, work))
        result = measure(load_checkpoint(work / "model"), prepared, config.seed, console)
    for table in recovery_tables(result):
        console.print(table, "")
    emit_json(result, config.json)
    return result


def prepare(config: RecoveryConfig, work: Path, console: Console) -> Prepared:
    """Choose the words, hide them, and generate pairs for them.

    Args:
        config: the options.
        work: an existing folder; base/, terms.jsonl, pairs/ and what is mined of a WordNet folder are written into it.
        console: says what is hidden.

    Raises:
        ContrastokError: an option of gen-pairs or train is wrong, no word is left, or nothing is said of the words.
    """
    generate = gen_pairs_config(config, work)
    for inner in (generate, train_config(config, work)):
        inner.validate()  # what is wrong with them is told before anything is read
    model = load_with_head(config.model)
    terms = choose_terms(config, model.tokenizer, console)
    hidden, gold = hide_in_model(model, [term.token for term in terms])
    _tell(hidden, console)
    words = [word.word for word in hidden.words]
    with atomic_file(work / MARKER) as partial:
        partial.write_text(to_json({"model": config.model, "seed": config.seed, "words": words}), encoding="utf-8")
    with atomic_folder(Path(generate.model), overwrite=True) as folder:
        save_with_head(model, folder)
    corpus = without_own_texts(config.corpus, words, model.tokenizer, work, config.text_field)
    del model
    _write_terms(generate.terms[0], [term for term in terms if term.token in set(words)])
    gen_pairs(dataclasses.replace(generate, corpus=corpus))
    rows = dict(zip(words, gold, strict=True))
    return Prepared(
        config.model, Path(generate.model), generate.terms[0], config.glossary, work / "pairs", hidden, rows
    )


def choose_terms(config: RecoveryConfig, tokenizer: PreTrainedTokenizerFast, console: Console) -> list[Term]:
    """The words of --terms, or those that --sample draws."""
    if config.terms:
        return read_terms(config.terms)
    return [Term(word) for word in draw_sample(config, tokenizer, console)]


def gen_pairs_config(config: RecoveryConfig, work: Path) -> GenPairsConfig:
    """The options of gen-pairs for the words in `work`: those of --config's table [gen-pairs] but for the inputs."""
    base = from_toml(GenPairsConfig, config.config) if config.config else GenPairsConfig()
    given = {name: getattr(config, name) for name in ("corpus", "glossary", "text_field", "split")}
    return dataclasses.replace(base, out=work / "pairs", **given, **_shared(config, work))


def train_config(config: RecoveryConfig, work: Path, **options: Any) -> TrainConfig:
    """The options of a training run on the pairs in `work`.

    Args:
        config: its own options go before --config's table [train].
        work: where `prepare` wrote.
        options: go before both.
    """
    base = from_toml(TrainConfig, config.config) if config.config else TrainConfig()
    given = {name: value for name in ("init", "epochs") if (value := getattr(config, name)) is not None}
    fixed = {"pairs": work / "pairs", "out": work / "model", **_shared(config, work)}
    return without_unread(dataclasses.replace(base, **{**given, **fixed, **options}))  # the base may be of another init


def _shared(config: RecoveryConfig, work: Path) -> dict[str, Any]:
    """What the inner commands have in common. Their summaries go nowhere, and they replace what an earlier run left."""
    return {
        "terms": (work / "terms.jsonl",),
        "model": str(work / "base"),
        "seed": config.seed,
        "trust_remote_code": config.trust_remote_code,
        "quiet": config.quiet,
        "overwrite": True,
        "dry_run": False,
        "config": None,
        "json": None,
    }


def _check_outputs(config: RecoveryConfig) -> None:
    if config.work is None:
        check_json(config.json, config.overwrite, config.inputs)
        return
    check_output(config.work, config.overwrite, marker=MARKER, inputs=config.inputs, json=config.json, option="--work")


@contextlib.contextmanager
def _workspace(config: RecoveryConfig) -> Iterator[Path]:
    """The folder --work, or one that is removed. Where a run ends in an error, nothing is left in a user's way."""
    if config.work is None:
        with tempfile.TemporaryDirectory(prefix="contrastok-recovery-") as folder:
            yield Path(folder)
        return
    there = config.work.exists()
    config.work.mkdir(parents=True, exist_ok=True)
    try:
        yield config.work
    except ContrastokError:
        if not there:
            shutil.rmtree(config.work)
        raise


@contextlib.contextmanager
def own_cache(work: Path) -> Iterator[None]:
    """Keep encodings beside the model without the words, for which nobody will ask again.

    The folders of gen-pairs and train are the user's; this one comes and goes with `work`.
    """
    before = os.environ.get("CONTRASTOK_CACHE")
    os.environ["CONTRASTOK_CACHE"] = str(work / "cache")
    try:
        yield
    finally:
        os.environ.pop("CONTRASTOK_CACHE")
        if before is not None:
            os.environ["CONTRASTOK_CACHE"] = before


def _write_terms(file: Path, terms: Sequence[Term]) -> None:
    with atomic_file(file) as partial, partial.open("w", encoding="utf-8") as handle:
        for term in terms:
            entry = {name: value for name, value in dataclasses.asdict(term).items() if name != "source"}
            handle.write(json.dumps(entry, ensure_ascii=False) + "\n")


def _tell(hidden: Hidden, console: Console) -> None:
    """Say which words are hidden and which are not.

    Raises:
        InputError: none is.
    """
    reasons = [f"{item.term!r} {item.reason}" for item in hidden.skipped]
    if not hidden.words:
        raise InputError(
            "no word can be hidden: " + "; ".join(reasons[:SHOWN]),
            hint="give words that are one token of the model already, or let --sample draw them",
        )
    names = ", ".join(word.word for word in hidden.words[:SHOWN]) + (", ..." if len(hidden.words) > SHOWN else "")
    console.print(f"{len(hidden.words)} words hidden: {escape(names)}")
    for reason in reasons[:SHOWN]:
        console.print(f"[yellow]left out:[/] {escape(reason)}")
    if len(reasons) > SHOWN:
        console.print(f"[yellow]left out:[/] {len(reasons) - SHOWN} more")


def _dry_run(config: RecoveryConfig, console: Console) -> dict[str, Any]:
    """Which words would be hidden; nothing is written but the summary that was asked for."""
    for inner in (gen_pairs_config(config, Path("work")), train_config(config, Path("work"))):
        inner.validate()
    tokenizer = load_tokenizer(config.model)
    _, hidden = hide_words(tokenizer, [term.token for term in choose_terms(config, tokenizer, console)])
    _tell(hidden, console)
    told = "Would teach them to the model without them and rank their old rows."
    console.print(f"{told} {nothing_written(config.json)}")
    words = [
        {"token": word.word, "id": word.id, "pieces": tokenizer.convert_ids_to_tokens(word.pieces)}
        for word in hidden.words
    ]
    summary = {"dry_run": True, "words": words, "skipped": [dataclasses.asdict(item) for item in hidden.skipped]}
    emit_json(summary, config.json)
    return summary
