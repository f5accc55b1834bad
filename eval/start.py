"""What every evaluation of a checkpoint starts with: options and outputs checked, the model, the training texts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from contrastok.checkpoint import Checkpoint, load_checkpoint
from contrastok.console import Console
from contrastok.errors import InputError
from contrastok.eval_config import OfCheckpoint
from contrastok.evidence import read_evidence
from contrastok.files import check_json
from contrastok.models import tokenizer_fingerprint
from contrastok.pairs import read_pairs


def start(config: OfCheckpoint) -> tuple[Checkpoint, Console]:
    """Check the options and load the checkpoint; says so where its initial rows are not known.

    Args:
        config: the options.

    Raises:
        ConfigError: options are missing or wrong.
        InputError: `config.model` is no checkpoint of contrastok.
        OutputError: `config.json` exists or cannot be written.
    """
    config.validate()
    check_json(config.json, config.overwrite, config.inputs)
    checkpoint, console = load_checkpoint(Path(str(config.model))), Console(config.quiet)
    if checkpoint.initial_rows is None:
        console.print("[yellow]note:[/] the initial rows are not known, so nothing shows what training gained")
    return checkpoint, console


def training_texts(checkpoint: Checkpoint, pairs: Path | None) -> Mapping[str, tuple[str, ...]]:
    """Every text that a token's row may have learned from: its definition, and what stands in its pairs and evidence.

    Args:
        checkpoint: the trained model.
        pairs: the folder that gen-pairs wrote for it. Without it the definitions are all that is known.

    Returns:
        The texts of each token, each text once.

    Raises:
        InputError: there are no such pairs, or the checkpoint was trained with others.
    """
    texts = {
        t["token"]: dict.fromkeys([t["definition"]] if t["definition"] else []) for t in checkpoint.manifest["tokens"]
    }
    if pairs is None:
        return {token: tuple(own) for token, own in texts.items()}
    table = read_pairs(pairs, tokenizer_fingerprint(checkpoint.base_tokenizer))
    if checkpoint.manifest["training"].get("pairs_sha256") != table.sha256:
        raise InputError(
            f"the checkpoint {checkpoint.path} was trained with other pairs", where=pairs, hint="give it those"
        )
    for token, anchor, positive in zip(table.token, table.anchor, table.positive, strict=True):
        texts.setdefault(token, {}).update({anchor: None, positive: None})
    for word in read_evidence(pairs) or ():
        if not word.known:
            told = (word.definition, *word.synonyms, *word.broader, *word.sentences)
            texts.setdefault(word.token, {}).update(dict.fromkeys(filter(None, told)))
    return {token: tuple(own) for token, own in texts.items()}
