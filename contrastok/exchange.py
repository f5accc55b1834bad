"""Checkpoints to adapters of PEFT, and back."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import torch
from rich.markup import escape

from contrastok.adapter import CONFIG, Adapter, path_of, read_adapter, token_tables, write_adapter
from contrastok.checkpoint import INITIAL_ROWS, MANIFEST, ROWS, read_head_rows, read_manifest, read_rows
from contrastok.config import ExportConfig, ImportConfig
from contrastok.console import Console, emit_json, nothing_written
from contrastok.errors import InputError
from contrastok.export import base_facts, plan_of, read_delta, rebuild, tell_plan
from contrastok.files import atomic_folder, check_output
from contrastok.head_rows import first_head_rows
from contrastok.initializers import FALLBACK
from contrastok.lm_head import load_with_head
from contrastok.models import (
    input_embedding,
    language_head,
    load_architecture,
    load_tokenizer,
    tokenizer_fingerprint,
    transformer,
)
from contrastok.token_modes import NewToken, tokenizer_family
from contrastok.vocabulary import VocabularyPlan, extend_tokenizer

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedTokenizerFast

RULES = ("single_word", "lstrip", "rstrip", "normalized", "special")
"""What decides where an AddedToken matches."""
CARRIED = (MANIFEST, ROWS, INITIAL_ROWS)
"""What lies in an adapter's folder for the way back: PEFT knows neither float32 rows of a bf16 model nor first ones."""


def export_adapter(config: ExportConfig) -> dict[str, Any]:
    """Write the new rows of a checkpoint as an adapter that stock PEFT loads.

    Returns:
        a summary: path, format, number of tokens, their ids, the modules that have rows; `dry_run` in a dry run.

    Raises:
        ContrastokError: see `ExportConfig.validate`; old weights were trained with the rows, or see `token_tables`.
    """
    config.validate()
    assert config.model is not None and config.out is not None  # validate() saw to it
    manifest = read_manifest(config.model)
    check_output(config.out, config.overwrite, marker=MANIFEST, inputs=config.inputs, json=config.json)
    about = read_delta(config.model / ROWS)
    if not about.get("only_rows", True):
        raise InputError(
            "old weights were trained with its rows, and an adapter of rows would leave them behind",
            where=config.model,
            hint="use the checkpoint itself, or train again with --trainable rows and without --two-stage or --lora",
        )
    ids = sorted(plan_of(about).ids)
    model, tokenizer = load_architecture(str(config.model)), load_tokenizer(str(config.model))
    console = Console(config.quiet)
    summary = {"out": str(config.out), "format": config.format, "tokens": len(manifest["tokens"]), "ids": ids}
    summary |= {"modules": list(token_tables(model))}
    if config.dry_run:
        summary |= {"dry_run": True}
        console.print(f"Would write {len(ids)} rows to {escape(str(config.out))}. {nothing_written(config.json)}")
    else:
        with atomic_folder(config.out, config.overwrite) as folder:
            write_adapter(folder, model, ids, about["base_model"]["name"], about)
            tokenizer.save_pretrained(folder)
            for name in CARRIED:
                if (config.model / name).is_file():
                    shutil.copy(config.model / name, folder)
        console.print(f"{len(ids)} rows as an adapter of PEFT: [bold]{escape(str(config.out))}[/]")
    emit_json(summary, config.json)
    return summary


def import_adapter(config: ImportConfig) -> dict[str, Any]:
    """Make a checkpoint of a base model and an adapter that contrastok or PEFT wrote.

    The checkpoint computes what the base model with the adapter does, with the adapter's tokenizer.

    Returns:
        see `contrastok.export.apply`.

    Raises:
        ContrastokError: see `ImportConfig.validate`; the adapter trains rows of old tokens or more than rows, has no
            tokenizer, or was made for another model.
    """
    config.validate()
    assert config.adapter is not None and config.out is not None
    check_output(config.out, config.overwrite, marker=MANIFEST, inputs=config.inputs, json=config.json)
    adapter = read_adapter(config.adapter)
    model = load_with_head(config.model)
    rows, classes = token_rows(adapter, model)
    about = adapter.about or foreign_about(adapter, model, config.model)
    plan = plan_of(about)
    rows = by_row(adapter, plan, rows)
    classes = first_head_rows(model, plan, FALLBACK) if classes is None else by_id(adapter, plan, classes)
    rows, classes = unrounded(adapter, rows, classes)
    return rebuild(config, adapter.file, model, rows, about, classes)


def token_rows(adapter: Adapter, model: SentenceTransformer) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The rows `[n, d]` that an adapter has for a model's input embedding, and for its head if that is not tied.

    Raises:
        InputError: there are none, others that are not theirs, or old rows that are not the model's.
    """
    body, table, head = transformer(model), input_embedding(model).weight, language_head(model)
    own = path_of(body, input_embedding(model))
    # the adapter's model may hold ours (`model.embed_tokens` of a causal LM), or ours the adapter's
    named = next((p for p in adapter.rows if f".{p}".endswith(f".{own}") or f".{own}".endswith(f".{p}")), None)
    if named is None or adapter.rows[named].shape[1] != table.shape[1]:
        raise InputError(
            f"has rows for {', '.join(adapter.rows)}, and none of {table.shape[1]} coordinates for {own}",
            where=adapter.file,
            hint="give --model the base model of the adapter",
        )
    rows = adapter.rows[named]
    others = [path for path, values in adapter.rows.items() if not torch.equal(values, rows)]
    untied = head is not None and not head.tied
    if len(others) > untied:
        raise InputError(
            f"has rows of their own for {others[0]}, and the model has no such table",
            where=adapter.file,
            hint="give --model the base model of the adapter; merge adapters of other kinds with PEFT",
        )
    new = set(adapter.ids)
    old = [i for i in range(len(table)) if i not in new] if adapter.tables else []
    for path, stored in adapter.tables.items():
        known = head.linear.weight if untied and path != named else table
        if len(stored) < len(known) or not torch.equal(stored[old].to(known), known[old]):
            raise InputError(
                f"holds a table for {path} whose old rows are not those of the model",
                where=adapter.file,
                hint="give --model the base model of the adapter; old rows that were trained cannot be imported",
            )
    return rows, adapter.rows[others[0]] if others else None


def unrounded(
    adapter: Adapter, rows: torch.Tensor, classes: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Rows `[n, d]` and classes `[m, d]` as they were trained, where those lie beside an adapter that rounded them."""
    file, dtype = adapter.folder / ROWS, next(iter(adapter.rows.values())).dtype
    if not file.is_file():
        return rows, classes

    def same(full: torch.Tensor | None, own: torch.Tensor | None) -> bool:  # else PEFT went on training
        return full is not None and own is not None and torch.equal(full.to(dtype), own.to(dtype))

    trained, heads = torch.from_numpy(read_rows(file)), read_head_rows(file)
    return trained if same(trained, rows) else rows, heads if same(heads, classes) else classes


def by_row(adapter: Adapter, plan: VocabularyPlan, rows: torch.Tensor) -> torch.Tensor:
    """An adapter's rows in the order of a plan's, float32 `[n, d]`; forms of a term share one.

    Raises:
        InputError: the plan has other tokens than the adapter.
    """
    if sorted(plan.ids) != sorted(adapter.ids):
        raise InputError("its token_indices are not the ids of its tokens", where=adapter.folder / CONFIG)
    place = {id: at for at, id in enumerate(plan.ids)}
    return by_id(adapter, plan, rows)[[place[plan.ids_of(term)[0]] for term in plan.terms]]


def by_id(adapter: Adapter, plan: VocabularyPlan, rows: torch.Tensor) -> torch.Tensor:
    """An adapter's rows in the order of a plan's ids, float32 `[m, d]`."""
    place = {id: at for at, id in enumerate(adapter.ids)}
    return rows[[place[id] for id in plan.ids]].float()


def foreign_about(adapter: Adapter, model: SentenceTransformer, name: str) -> dict[str, Any]:
    """What contrastok would have noted about an adapter that PEFT wrote.

    Raises:
        InputError: see `foreign_plan`.
    """
    plan = foreign_plan(adapter, model.tokenizer)
    return tell_plan(plan) | {"base_model": base_facts(model, name, plan), "init": "peft", "seed": 0}


def foreign_plan(adapter: Adapter, base: PreTrainedTokenizerFast) -> VocabularyPlan:
    """The tokens of an adapter that PEFT wrote, from the tokenizer that lies beside it.

    Raises:
        InputError: there is no tokenizer, rows belong to old tokens or to none, new tokens have no row, or the
            tokenizer differs from the base model's in more than new tokens.
    """
    where = adapter.folder / "tokenizer.json"
    if not where.is_file():
        raise InputError("no such file", where=where, hint="tokenizer.save_pretrained(folder of the adapter)")
    tokenizer = load_tokenizer(str(adapter.folder))
    old = {i: token for token, i in base.get_vocab().items()}
    if found := [i for i in adapter.ids if i in old]:
        raise InputError(
            f"trains rows of {len(found)} old tokens, {old[found[0]]!r} (id {found[0]}) for one; old rows stay frozen",
            where=adapter.folder / CONFIG,
            hint="only adapters whose token_indices are new tokens can be imported",
        )
    new = {i: token for i, token in tokenizer.added_tokens_decoder.items() if i not in old}
    if set(new) != set(adapter.ids):
        raise InputError(
            f"its new tokens have the ids {_few(new)}, and the rows are of {_few(adapter.ids)}",
            where=where,
            hint="give every new token a row, and add no other",
        )
    tokens = [
        NewToken(new[i].content, new[i].content, i, row, True, {rule: getattr(new[i], rule) for rule in RULES})
        for row, i in enumerate(sorted(new))
    ]
    plan = VocabularyPlan(tokenizer_family(base.backend_tokenizer), "added", tuple(tokens), (), {})
    if tokenizer_fingerprint(extend_tokenizer(base, plan)) != tokenizer_fingerprint(tokenizer):
        raise InputError(
            "differs from the base model's tokenizer in more than its new tokens",
            where=where,
            hint="give --model the base model of the adapter",
        )
    return plan


def _few(ids: Any) -> str:
    shown = [str(i) for i in sorted(ids)[:5]]
    return ", ".join(shown) + (", ..." if len(ids) > 5 else "") or "none"
