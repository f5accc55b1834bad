"""Write the checkpoint that stock libraries load, prove it, and rebuild it from its compact delta."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.markup import escape

from contrastok import __version__
from contrastok.card import model_card
from contrastok.checkpoint import (
    HEAD_ROWS,
    INITIAL_ROWS,
    MANIFEST,
    ROWS,
    ROWS_HINT,
    hash_weights,
    read_head_rows,
    read_manifest,
    read_rows,
)
from contrastok.config import ApplyConfig, ImportConfig
from contrastok.console import Console, emit_json, nothing_written
from contrastok.errors import InputError, OutputError
from contrastok.files import atomic_folder, check_output, to_json
from contrastok.initializers import INITIALIZERS, InitOptions, initial_rows
from contrastok.json_file import COUNT, OBJECT, TEXT, check_shape, fields, list_of
from contrastok.lm_head import load_with_head, save_with_head
from contrastok.models import frozen_hash, input_embedding, tokenizer_fingerprint
from contrastok.overlay import merge
from contrastok.tensor_file import read_tensors, write_tensors
from contrastok.token_modes import NewToken
from contrastok.vocabulary import VocabularyPlan, extend_tokenizer

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedTokenizerFast


DELTA_SHAPE = fields(
    family=TEXT,
    mode=TEXT,
    edits=OBJECT,
    tokens=list_of(
        {"type": "array", "minItems": 5, "maxItems": 6, "items": [TEXT, TEXT, COUNT, COUNT, {"type": "boolean"}]}
    ),
    version=TEXT,
    base_model=fields(name=TEXT, frozen_sha256=TEXT, tokenizer_sha256=TEXT),
    init=TEXT,
)
"""What a new_rows.safetensors tells about its rows."""


def base_facts(model: SentenceTransformer, name: str, plan: VocabularyPlan) -> dict[str, Any]:
    """What the manifest says about the base model, taken before anything is attached to it."""
    table = input_embedding(model).weight
    sha256, tensors = frozen_hash(model, list(plan.ids), table.shape[0])
    return {
        "name": name,
        "frozen_sha256": sha256,
        "frozen_tensors": tensors,
        "tokenizer_sha256": tokenizer_fingerprint(model.tokenizer),
        "table_rows": table.shape[0],
        "dim": table.shape[1],
        "dtype": str(table.dtype).removeprefix("torch."),
    }


def write_checkpoint(
    folder: Path,
    model: SentenceTransformer,
    extended: PreTrainedTokenizerFast,
    plan: VocabularyPlan,
    rows: torch.Tensor,
    initial: torch.Tensor | None,
    manifest: dict[str, Any],
    given_up: Mapping[str, Any] | None = None,
    head_rows: torch.Tensor | None = None,
) -> dict[str, Any]:
    """Merge rows into the model, save it as stock libraries do, reload it from disk and check that nothing else moved.

    Args:
        folder: an empty folder.
        model: the base model, with or without overlay; afterwards it is merged.
        extended: the extended tokenizer.
        plan: the new tokens.
        rows: trained rows `[n, d]`.
        initial: initial rows `[n, d]`; without them no file of them is written.
        manifest: the content of contrastok.json; `frozen` is added here.
        given_up: what old weights were trained, see `TrainedRows`.
        head_rows: classes of the new ids in a head that is not tied, `[m, d]`.

    Returns:
        the manifest as written.

    Raises:
        OutputError: a frozen tensor on disk differs from the base model's. It never should.
    """
    base = manifest["base_model"]
    merge(model, plan, rows.detach().cpu(), extended, head_rows)
    save_with_head(model, folder)
    told = {
        "base_model": base,
        "init": manifest["init"],
        "init_norm": manifest.get("init_norm", "keep"),  # older manifests say nothing
        "seed": manifest["seed"],
        **({"only_rows": False} if given_up else {}),
    }
    write_rows(folder / ROWS, plan, rows, head_rows, told)
    if initial is not None:
        write_tensors(folder / INITIAL_ROWS, {"rows": initial.float()})
    after, tensors = frozen_hash(load_with_head(str(folder)), list(plan.ids), base["table_rows"])
    manifest["frozen"] = {"tensors": tensors, "sha256_before": base["frozen_sha256"], "sha256_after": after}
    if given_up:
        manifest["frozen"]["given_up"] = {name: value for name, value in given_up.items() if name != "sha256"}
    wanted, model_then = base["frozen_sha256"], "the base model's"
    if given_up:
        wanted, model_then = given_up["sha256"], "what it was when training ended"
    if after != wanted:
        raise OutputError(
            f"a frozen tensor of the saved model differs from {model_then}",
            where=folder,
            hint="this is a defect of contrastok; nothing was written",
        )
    manifest["files"] = hash_weights(folder)
    (folder / MANIFEST).write_text(to_json(manifest), encoding="utf-8")
    (folder / "README.md").write_text(model_card(manifest), encoding="utf-8")
    return manifest


def write_rows(
    file: Path, plan: VocabularyPlan, rows: torch.Tensor, head_rows: torch.Tensor | None, told: Mapping[str, Any]
) -> None:
    """Write rows `[n, d]`, and classes `[m, d]` if there are any, as `contrastok apply` reads them.

    Args:
        file: where to.
        plan: the new tokens.
        rows, head_rows: see `write_checkpoint`.
        told: base_model, init, init_norm and seed of the rows.
    """
    new = {"rows": rows.float()} if head_rows is None else {"rows": rows.float(), HEAD_ROWS: head_rows.float()}
    write_tensors(file, new, {**tell_plan(plan), **told})


def apply(config: ApplyConfig) -> dict[str, Any]:
    """Rebuild a checkpoint from its base model and new_rows.safetensors.

    Returns:
        a summary: path, tokens, frozen hashes, and whether the initial rows are known.

    Raises:
        ContrastokError: see `ApplyConfig.validate`, or the rows were trained for another model.
    """
    config.validate()
    assert config.rows is not None and config.out is not None  # validate() saw to it
    check_output(config.out, config.overwrite, marker=MANIFEST, inputs=config.inputs, json=config.json)
    rows, about = torch.from_numpy(read_rows(config.rows)), read_delta(config.rows)
    if not about.get("only_rows", True):
        raise InputError(
            "these rows were trained together with old weights, which are not in the file",
            where=config.rows,
            hint="use the whole checkpoint folder, or train again with --trainable rows, without --two-stage or --lora",
        )
    return rebuild(config, config.rows, load_with_head(config.model), rows, about, read_head_rows(config.rows))


def rebuild(
    config: ApplyConfig | ImportConfig,
    file: Path,
    model: SentenceTransformer,
    rows: torch.Tensor,
    about: Mapping[str, Any],
    head_rows: torch.Tensor | None,
) -> dict[str, Any]:
    """Write the checkpoint that rows and a base model make.

    Args:
        config: which model, and where to.
        file: where the rows come from; what lies beside it tells the rest of the manifest.
        model: the base model.
        rows: `[n, d]`.
        about: what the rows' file says of them, see `read_delta`.
        head_rows: classes of the new ids in a head that is not tied, `[m, d]`.

    Returns:
        see `apply`.

    Raises:
        InputError: the rows were trained for another model.
    """
    assert config.out is not None
    console, plan = Console(config.quiet), plan_of(about)
    facts = base_facts(model, config.model, plan)
    for what, key in (("weights", "frozen_sha256"), ("tokenizer", "tokenizer_sha256")):
        if facts[key] != about["base_model"][key]:
            raise InputError(
                f"the rows were trained for {about['base_model']['name']!r}, whose {what} are not those of "
                f"{config.model!r}",
                where=file,
                hint="give --model the base model of the checkpoint",
            )
    summary = {"out": str(config.out), "tokens": len(plan.terms), "base_model": facts}
    if config.dry_run:
        weights = sum(p.numel() * p.element_size() for p in model.parameters()) + rows.numel() * 4
        summary |= {"dry_run": True, "memory_mb": round(2 * weights / 2**20)}
        shown = ", ".join(plan.terms[:10]) + (", ..." if len(plan.terms) > 10 else "")
        console.print(
            f"Would add {len(plan.terms)} tokens ({escape(shown)}) to {escape(config.model)} in a few seconds with "
            f"{summary['memory_mb']} MB, and write {weights / 2**20:.0f} MB to {escape(str(config.out))}. "
            f"{nothing_written(config.json)}"
        )
    else:
        extended = extend_tokenizer(model.tokenizer, plan)
        manifest = _manifest(file, about, facts, plan)
        start = _first_rows(file, about, model, plan)
        if start is None:
            console.print(
                f"[yellow]note:[/] the initial rows are not known: no {INITIAL_ROWS} lies beside the rows, and what "
                f"{about['init']} made of the evidence cannot be made again. Nothing can say what training gained."
            )
        summary["initial_rows_known"] = start is not None
        with atomic_folder(config.out, config.overwrite) as folder:
            written = write_checkpoint(folder, model, extended, plan, rows, start, manifest, head_rows=head_rows)
            summary["frozen"] = written["frozen"]
        console.print(f"{len(plan.terms)} tokens added to {escape(config.model)}: [bold]{escape(str(config.out))}[/]")
    emit_json(summary, config.json)
    return summary


def tell_plan(plan: VocabularyPlan) -> dict[str, Any]:
    """What a file of rows says of their tokens; `plan_of` reads it."""
    return {
        "format": 1,
        "version": __version__,
        "family": plan.family,
        "mode": plan.mode,
        "edits": dict(plan.edits),
        "tokens": [dataclasses.astuple(token) for token in plan.tokens],
    }


def plan_of(about: Mapping[str, Any]) -> VocabularyPlan:
    """The plan that a file of rows tells, see `read_delta`."""
    tokens = tuple(NewToken(*token) for token in about["tokens"])
    return VocabularyPlan(about["family"], about["mode"], tokens, (), about["edits"])


def _first_rows(
    rows: Path, about: Mapping[str, Any], model: SentenceTransformer, plan: VocabularyPlan
) -> torch.Tensor | None:
    """The initialiser's rows: those that lie beside `rows`, or else made again; None where only evidence could tell."""
    beside = rows.with_name(INITIAL_ROWS)
    if beside.is_file() and len(first := torch.from_numpy(read_rows(beside))) == len(plan.terms):
        return first
    known = INITIALIZERS.get(about["init"])
    if known is None or not known.repeatable:
        return None
    context = init_context(model, plan, about.get("seed", 0))
    options = InitOptions(norm=about.get("init_norm", "keep"))  # older files say nothing: their rows were kept as made
    return initial_rows(known.name, dataclasses.replace(context, options=options))


def read_delta(file: Path) -> dict[str, Any]:
    """What a new_rows.safetensors says about its rows.

    Raises:
        InputError: the file is missing, broken or changed, or was not written by contrastok.
    """
    about = read_tensors(file, ROWS_HINT)[1]
    if about is None:
        raise InputError("was not written by contrastok", where=file, hint=ROWS_HINT)
    check_shape(about, DELTA_SHAPE, file, ROWS_HINT)
    return about


def init_context(model: Any, plan: VocabularyPlan, seed: int = 0, tokenizer: Any = None) -> Any:
    """What the initialisers look at, for a model that nothing is attached to; its own tokenizer unless one is given."""
    from contrastok.initializers import InitContext
    from contrastok.vocabulary import piece_lengths_of

    tokenizer = tokenizer or model.tokenizer
    spans = piece_lengths_of(tokenizer, plan.terms)
    return InitContext(
        table=input_embedding(model).weight,
        terms=plan.terms,
        seed=seed,
        pieces=tuple(tuple(i for i, _ in span) for span in spans),
        lengths=tuple(tuple(length for _, length in span) for span in spans),
        tokenizer=tokenizer,
        plan=plan,
    )


def _manifest(file: Path, about: Mapping[str, Any], facts: Mapping[str, Any], plan: VocabularyPlan) -> dict[str, Any]:
    """The manifest beside the rows if it is about them, else the part of it that the rows alone can tell."""
    if file.with_name(MANIFEST).is_file():
        beside = read_manifest(file.parent)
        told = {(token["token"], *token["ids"]) for token in beside["tokens"]}
        same_base = beside["base_model"]["frozen_sha256"] == about["base_model"]["frozen_sha256"]
        if same_base and told == {(term, *plan.ids_of(term)) for term in plan.terms}:
            return beside
    tokens = [
        {
            "token": term,
            "row": row,
            "ids": list(plan.ids_of(term)),
            "forms": list(plan.forms_of(term)),
            "pieces": [],
            "definition": "",
            "relations": [],
            **({"special": True} if term in plan.special else {}),
            "evidence": {"sentences": 0, "pairs": {}, "negatives": 0, "examples": []},
        }
        for row, term in enumerate(plan.terms)
    ]
    return {
        "format": 1,
        "contrastok": about["version"],
        "base_model": dict(facts),
        "tokens": tokens,
        "skipped": [],
        "tokenizer": {"family": plan.family, "mode": plan.mode, "edits": dict(plan.edits), "gate": {"checks": []}},
        "init": about["init"],
        "init_norm": about.get("init_norm", "keep"),
        "training": {"options": {}, "steps": 0, "pairs": 0, "curve": []},
        "seed": about.get("seed", 0),
        "versions": {},
    }
