"""The command `transfer`: a model and another tokenizer in, the model with that tokenizer out."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.markup import escape
from rich.table import Table

from contrastok import __version__
from contrastok.bank import FrozenEncoder
from contrastok.config import TransferConfig, as_json
from contrastok.console import Console, emit_json, nothing_written
from contrastok.data_gen.corpus import read_corpus
from contrastok.data_gen.text_files import require
from contrastok.errors import ModelError, OutputError
from contrastok.files import atomic_folder, check_output, to_json
from contrastok.hypernet.store import NETWORK
from contrastok.initializers import INITIALIZERS, InitContext, InitOptions, initial_rows
from contrastok.lm_head import load_with_head
from contrastok.models import (
    frozen_hash,
    input_embedding,
    load_model,
    load_tokenizer,
    tensor_hash,
    tokenizer_fingerprint,
)
from contrastok.transplant import TransferPlan, plan_transfer, replace_tokenizer, require_replaceable

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedTokenizerFast

MANIFEST = "transfer.json"
TOKENIZER_FILES = ("tokenizer.json", "config.json", "modules.json")
"""One of these is in a folder that holds a tokenizer, or a model with one."""
TEXTS = 500
"""Texts on which two models are compared."""


@dataclass(frozen=True)
class Before:
    """What is known of a model before its tokenizer is replaced.

    Attributes:
        body: hash of all tensors but the table.
        tokenizer: hash of the tokenizer.
        texts: what the two models are compared on.
        outputs: of these, float32 `[n, dim]`, norm 1.
        tokens: of these, in the old tokenizer.
    """

    body: str
    tokenizer: str
    texts: tuple[str, ...]
    outputs: np.ndarray
    tokens: int


def transfer(config: TransferConfig) -> dict[str, Any]:
    """Replace a model's tokenizer: rows that exist are copied, all others are predicted.

    Args:
        config: the options; `out` appears whole or not at all.

    Returns:
        a summary: counts of rows by where they come from, hashes of the body, fidelity on the texts.

    Raises:
        ContrastokError: for every problem that the user can mend.
    """
    config.validate()
    assert config.out is not None and config.tokenizer is not None  # validate() saw to it
    console = Console(config.quiet)
    check_output(config.out, config.overwrite, marker=MANIFEST, inputs=config.inputs, json=config.json)
    if config.hypernet is not None:
        require(config.hypernet, "--hypernet", NETWORK)
    new, model = _new_tokenizer(config.tokenizer), load_with_head(config.model)
    require_replaceable(model, new)
    model[0].language_head = None  # a tied one is the table itself
    plan = plan_transfer(model.tokenizer, new)
    context = _context(model, plan, config, console)
    INITIALIZERS[config.init].check(context)
    summary: dict[str, Any] = {"tokens": plan.size, **counts(plan), "same_frame": plan.same_frame}
    if config.dry_run:
        console.print(counts_table(plan, config.init))
        console.print(f"Would write {escape(str(config.out))}. {nothing_written(config.json)}")
        emit_json({"dry_run": True, **summary}, config.json)
        return {"dry_run": True, **summary}
    encoder = FrozenEncoder(model, model.tokenizer, console=console)
    rows = initial_rows(config.init, dataclasses.replace(context, encoder=encoder))
    before = _look(model, config)
    table = plan.table(input_embedding(model).weight, rows)
    replace_tokenizer(model, new, table)
    with atomic_folder(config.out, config.overwrite) as folder:
        model.save_pretrained(str(folder), create_model_card=False)
        saved = load_model(str(folder))
        summary |= {"frozen": _proof(saved, before, table, new, folder), "fidelity": _fidelity(saved, before)}
        (folder / MANIFEST).write_text(to_json(_manifest(config, before, summary)), encoding="utf-8")
    _print(plan, summary, config, console)
    emit_json({"out": str(config.out), **summary}, config.json)
    return {"out": str(config.out), **summary}


def _new_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """The tokenizer that `--tokenizer` names.

    Raises:
        ModelError: there is none.
    """
    folder = Path(name).expanduser()
    if folder.is_dir() and not any((folder / file).is_file() for file in TOKENIZER_FILES):
        raise ModelError(
            "holds no tokenizer (no tokenizer.json)",
            where=f"--tokenizer {name}",
            hint="--tokenizer takes a folder with a tokenizer.json, or a model with its tokenizer",
        )
    return load_tokenizer(name)


def counts(plan: TransferPlan) -> dict[str, int]:
    """How many rows come from where."""
    return {"copied": len(plan.copied), "predicted": len(plan.predicted), "fallen_back": len(plan.lost)}


def _context(model: SentenceTransformer, plan: TransferPlan, config: TransferConfig, console: Console) -> InitContext:
    """What an initialiser may look at; its encoder keeps nothing yet, for which all weights are hashed."""
    return InitContext(
        table=input_embedding(model).weight,
        terms=plan.texts,
        pieces=plan.pieces,
        lengths=plan.lengths,
        seed=config.seed,
        options=InitOptions(hypernet=config.hypernet),
        tokenizer=model.tokenizer,
        encoder=FrozenEncoder(model, model.tokenizer, cache=False),
        tell=lambda sentence: console.print(escape(sentence)),
    )


def _look(model: SentenceTransformer, config: TransferConfig) -> Before:
    texts: tuple[str, ...] = ()
    if config.texts:
        documents = read_corpus(config.texts, config.text_field, config.split)
        texts = tuple(document.text for document in islice(documents, TEXTS))
    return Before(
        frozen_hash(model, [], 0)[0],
        tokenizer_fingerprint(model.tokenizer),
        texts,
        _encode(model, texts),
        _count(model.tokenizer, texts),
    )


def _encode(model: SentenceTransformer, texts: tuple[str, ...]) -> np.ndarray:
    """Sentence embeddings of norm 1, float32 `[n, dim]`."""
    found: np.ndarray = model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
    return found


def _count(tokenizer: PreTrainedTokenizerFast, texts: tuple[str, ...]) -> int:
    """Tokens of some texts, special ones left out."""
    if not texts:
        return 0
    return sum(map(len, tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]))


def _proof(
    saved: SentenceTransformer, before: Before, table: torch.Tensor, new: PreTrainedTokenizerFast, folder: Path
) -> dict[str, str]:
    """Hashes of the body before and after.

    Raises:
        OutputError: what stands on disk is not what was to be written. It never should be.
    """
    after, _ = frozen_hash(saved, [], 0)
    same_table = tensor_hash(input_embedding(saved).weight) == tensor_hash(table)
    if after != before.body or not same_table or tokenizer_fingerprint(saved.tokenizer) != tokenizer_fingerprint(new):
        raise OutputError(
            "the saved model's body, table or tokenizer is not what was to be written",
            where=folder,
            hint="this is a defect of contrastok; nothing was written",
        )
    return {"sha256_before": before.body, "sha256_after": after}


def _fidelity(saved: SentenceTransformer, before: Before) -> dict[str, Any] | None:
    """Cosines between what the old and the new model make of the texts; None without texts."""
    if not before.texts:
        return None
    cosines = (_encode(saved, before.texts) * before.outputs).sum(1)
    return {
        "texts": len(before.texts),
        "mean": float(cosines.mean()),
        "p5": float(np.quantile(cosines, 0.05)),
        "tokens_before": before.tokens,
        "tokens_after": _count(saved.tokenizer, before.texts),
    }


def _manifest(config: TransferConfig, before: Before, summary: dict[str, Any]) -> dict[str, Any]:
    base = {"name": config.model, "tokenizer_sha256": before.tokenizer, "body_sha256": before.body}
    return {"format": 1, "contrastok": __version__, "base_model": base, "options": as_json(config), **summary}


def counts_table(plan: TransferPlan, init: str) -> Table:
    """Where the rows come from, for people."""
    table = Table("rows", "tokens", "share", title=f"New tokenizer: {plan.size:,} tokens")
    told = {"copied": "copied", "predicted": f"predicted ({init})", "fallen_back": "fallen back (mean row)"}
    for name, count in counts(plan).items():
        table.add_row(told[name], f"{count:,}", f"{count / plan.size:.1%}")
    return table


def _print(plan: TransferPlan, summary: dict[str, Any], config: TransferConfig, console: Console) -> None:
    console.print(counts_table(plan, config.init))
    if not plan.same_frame:
        console.print(
            "[yellow]warning:[/] the new tokenizer puts other special tokens around a text than the old one did, which "
            "the model was not trained on."
        )
    found = summary["fidelity"]
    if found:
        console.print(
            f"Fidelity on {found['texts']:,} texts: mean cosine {found['mean']:.3f}, 5 % are below {found['p5']:.3f}. "
            f"Their tokens: {found['tokens_before']:,} before, {found['tokens_after']:,} now."
        )
    console.print(f"Body unchanged ({summary['frozen']['sha256_after'][:12]}): [bold]{escape(str(config.out))}[/]")
