"""What a comparison reads, and the commands that it is made of."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contrastok.config import GenPairsConfig, TrainConfig
from contrastok.config_file import from_toml
from contrastok.data_gen.corpus import whole_shards
from contrastok.data_gen.term_readers import read_terms
from contrastok.data_gen.text_files import missing
from contrastok.eval.retrieval_data import read_pairs_file, read_search
from contrastok.eval.sts import read_sts
from contrastok.eval_config import CompareConfig, RecoveryConfig
from contrastok.files import sha256_file
from contrastok.models import load_tokenizer, resolve
from contrastok.reads import without_unread
from contrastok.vocabulary import plan_terms


@dataclass(frozen=True)
class Inner:
    """The commands inside a comparison.

    Attributes:
        generate: makes the pairs of all methods.
        train: what all methods share.
        recovery: hides words that the model knows, where that is asked for, and teaches them.
    """

    generate: GenPairsConfig
    train: TrainConfig
    recovery: RecoveryConfig


def inner_commands(config: CompareConfig, work: Path) -> Inner:
    """The options of the commands inside: those of --config's tables, but for what compare itself says.

    Args:
        config: of the comparison.
        work: where they write.

    Raises:
        ContrastokError: the file of --config cannot be used.
    """
    same = ("model", "seed", "trust_remote_code")
    shared: dict[str, Any] = {**{name: getattr(config, name) for name in same}, "quiet": True}
    given = {name: getattr(config, name) for name in ("corpus", "glossary", "text_field", "split")}
    options = {**shared, "terms": config.terms, "overwrite": True, "dry_run": False, "config": None, "json": None}
    ours = from_toml(TrainConfig, config.config) if config.config else TrainConfig()
    theirs = from_toml(GenPairsConfig, config.config) if config.config else GenPairsConfig()
    hidden: dict[str, Any] = {"config": config.config, "sample": config.hidden, "epochs": config.epochs}
    return Inner(
        dataclasses.replace(theirs, **options, **given, out=work / "pairs"),
        dataclasses.replace(ours, **options, pairs=work / "pairs", out=work / "model", epochs=config.epochs),
        RecoveryConfig(**hidden, **shared, **given),
    )


def check_inputs(config: CompareConfig, inner: Inner) -> None:
    """Look at every input before anything is written.

    Args:
        config: of the comparison.
        inner: its commands.

    Raises:
        ContrastokError: options of an inner command are wrong, or an input cannot be used.
    """
    inner.generate.validate()
    without_unread(inner.train).validate()
    terms = read_terms(config.terms, config.glossary)
    whole_shards(config.corpus, config.text_field, config.split)
    plan_terms(load_tokenizer(config.model), terms, inner.train.token_mode).require_terms(inner.train.strict)
    for path in (inner.train.init_vectors, inner.train.init_hypernet):
        if path is not None and not path.exists():
            raise missing(path)
    if inner.train.init_model is not None:
        resolve(inner.train.init_model)
    if config.queries is not None and config.passages is not None:
        read_search(config.queries, config.passages)
    if config.pairs_file is not None:
        read_pairs_file(config.pairs_file, config.query_field, config.passage_field)
    if config.sts is not None:
        read_sts(config.sts)


def hashes(config: CompareConfig, inner: Inner) -> list[str]:
    """SHA-256 of every input file and of what input folders hold, models among them.

    What is no path (the name of a dataset, or of a model on a hub) has none.

    Args:
        config: of the comparison.
        inner: its commands, whose options may name files and folders too.
    """
    asked = (config.config, config.queries, config.passages, config.pairs_file, config.sts)
    starts = (inner.train.init_vectors, inner.train.init_hypernet, inner.generate.wordnet)
    models = [resolve(name) for name in (config.model, inner.train.init_model) if name is not None]
    named: list[str | Path | None] = [*config.terms, *config.corpus, *config.glossary, *asked, *starts, *models]
    paths = [Path(name) for name in named if name is not None]
    files = [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    return [sha256_file(file) for file in files if file.is_file()]
