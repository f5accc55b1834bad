"""The command `train`: terms and pairs in, a checkpoint out."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from rich.table import Table

from contrastok import __version__
from contrastok.attach import attach
from contrastok.bank import FrozenEncoder
from contrastok.batches import TrainingSet, build_training_set
from contrastok.config import TrainConfig, as_json
from contrastok.console import Console, emit_json
from contrastok.data_gen.term_readers import read_terms
from contrastok.data_gen.terms import Term
from contrastok.errors import InputError, raise_all
from contrastok.export import base_facts, init_context, write_checkpoint
from contrastok.files import atomic_folder, check_output, sha256_file
from contrastok.gate import GateReport, run_gate
from contrastok.initializers import initial_rows
from contrastok.loop import CurvePoint, Loop, make_accelerator, relative_move, run_key, state_path
from contrastok.models import input_embedding, load_model, load_tokenizer, tokenizer_fingerprint
from contrastok.pairs import PairTable, read_pairs
from contrastok.state import RunState
from contrastok.vocabulary import VocabularyPlan, extend_tokenizer, pieces, plan_vocabulary

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedTokenizerFast

NO_SIGNAL = 1e-3
"""A run whose first loss is below this has nothing to learn from."""

ALIKE = 0.95
"""Mean pairwise cosine of the new rows above which they have collapsed into one."""


@dataclass(frozen=True)
class Vocabulary:
    """The extension of a tokenizer, checked."""

    plan: VocabularyPlan
    extended: PreTrainedTokenizerFast
    gate: GateReport


def train(config: TrainConfig) -> dict[str, Any]:
    """Add the terms as tokens, train only their rows, write a checkpoint.

    Args:
        config: the options; `out` appears whole or not at all.

    Returns:
        a summary: counts, gate, training figures, warnings and frozen hashes.

    Raises:
        ContrastokError: for every problem that the user can mend.
    """
    config.validate()
    assert config.pairs is not None and config.out is not None  # validate() saw to it
    console = Console(config.quiet)
    check_output(config.out, config.overwrite)
    terms = read_terms(config.terms)
    tokenizer = load_tokenizer(config.model)
    pairs = read_pairs(config.pairs, tokenizer_fingerprint(tokenizer))
    model = load_model(config.model)
    words = extend_and_check(model, terms, pairs, config)
    console.print(_plan_table(words, pairs))
    if config.dry_run:
        summary = {"dry_run": True, **_counts(words, pairs), **_estimate(model, words, pairs, config)}
        console.print(
            f"Would train {summary['steps']} steps in about {summary['seconds']:.0f} s with about "
            f"{summary['memory_mb']:.0f} MB, and write {config.out}. Nothing was written."
        )
        emit_json(summary, config.json)
        return summary
    facts = base_facts(model, config.model, words.plan)
    result = _train_rows(model, words, pairs, facts, config, console)
    manifest = _manifest(model, words, terms, pairs, facts, result, config)
    with atomic_folder(config.out) as folder:
        manifest = write_checkpoint(folder, model, words.extended, words.plan, result.rows, result.initial, manifest)
    result.state.clear()
    summary = _summary(manifest, words, pairs, result)
    _print_summary(console, summary, config.out)
    emit_json(summary, config.json)
    return summary


def extend_and_check(
    model: SentenceTransformer, terms: list[Term], pairs: PairTable, config: TrainConfig
) -> Vocabulary:
    """Plan the tokens, extend the tokenizer, and let it through the gate.

    Raises:
        InputError: no term is left, or some are left out and `--strict` was given.
        ModelError: the gate failed.
    """
    tokenizer = model.tokenizer
    plan = plan_vocabulary(tokenizer, [term.token for term in terms], config.token_mode)
    if config.strict:
        raise_all(
            InputError, [f"{s.term!r} {s.reason}" for s in plan.skipped], hint="leave these terms out, or --strict"
        )
    if not plan.tokens:
        raise InputError(
            "no term is left to add: " + "; ".join(f"{s.term!r} {s.reason}" for s in plan.skipped[:5]),
            hint="every word is one token of this model already, or cannot become one",
        )
    extended = extend_tokenizer(tokenizer, plan)
    sample = list(dict.fromkeys([*pairs.anchor, *pairs.positive]))[:20_000]
    gate = run_gate(tokenizer, extended, plan, {"pairs": sample}, input_embedding(model).weight.shape[0])
    gate.require(plan.mode, config.strict)
    return Vocabulary(plan, extended, gate)


@dataclass(frozen=True)
class TrainedRows:
    """What came out of the loop."""

    rows: torch.Tensor
    initial: torch.Tensor
    data: TrainingSet
    curve: list[CurvePoint]
    state: RunState


def _train_rows(
    model: SentenceTransformer,
    words: Vocabulary,
    pairs: PairTable,
    facts: dict[str, Any],
    config: TrainConfig,
    console: Console,
) -> TrainedRows:
    accelerator = make_accelerator(config)
    model.to(accelerator.device)
    data = _training_set(model, words, pairs, FrozenEncoder(model, model.tokenizer, console=console))
    initial = initial_rows(config.init, init_context(model, words.plan, config.seed)).cpu()
    assert config.out is not None  # validate() saw to it
    key = run_key(
        version=__version__,
        options=as_json(config),
        pairs=pairs.sha256,
        base=facts,
        versions=_versions(),
        terms=[sha256_file(path) for path in config.terms],
        device=str(accelerator.device),
    )
    state = RunState(state_path(config.out), key)
    overlay = attach(model, words.plan, initial)
    curve = Loop(model, overlay, data, words.extended, config, accelerator, state, console).run()
    return TrainedRows(overlay.rows.detach().cpu(), initial, data, curve, state)


def _training_set(
    model: SentenceTransformer, words: Vocabulary, pairs: PairTable, encoder: FrozenEncoder
) -> TrainingSet:
    data = build_training_set(pairs, words.plan, words.extended, encoder, model.max_seq_length or 512)
    if not data.anchors:
        raise InputError(
            "no pair's anchor holds a new token", hint="give train the --terms, --model and --token-mode of gen-pairs"
        )
    return data


def _estimate(model: SentenceTransformer, words: Vocabulary, pairs: PairTable, config: TrainConfig) -> dict[str, Any]:
    """Time and memory from a few real steps on a slice of the pairs; writes nothing, not even the cache."""
    wanted = dict.fromkeys(pairs.anchor)
    keys = len(wanted.keys() | set(pairs.positive) | {n for ns in pairs.negatives for n in ns})
    piece = pairs.head(min(len(pairs), 4 * config.batch_size))
    accelerator = make_accelerator(config)
    model.to(accelerator.device)
    start = time.perf_counter()
    data = _training_set(model, words, piece, FrozenEncoder(model, model.tokenizer, cache=False))
    per_key = (time.perf_counter() - start) / len(data.keys)
    overlay = attach(model, words.plan, initial_rows(config.init, init_context(model, words.plan)))
    trial = dataclasses.replace(config, epochs=1)
    start = time.perf_counter()
    Loop(model, overlay, data, words.extended, trial, accelerator, None, Console(quiet=True)).run()
    per_anchor = (time.perf_counter() - start) / len(data.anchors)
    table = input_embedding(model).weight
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    bank = keys * data.keys.shape[1] * 4
    activations = config.batch_size * max(len(a.ids) for a in data.anchors) * table.shape[1] * 4 * 40
    steps = config.epochs * -(-len(wanted) // (config.batch_size * config.gradient_accumulation))
    return {
        "steps": steps,
        "anchors": len(wanted),
        "keys": keys,
        "seconds": round(per_key * keys + per_anchor * len(wanted) * config.epochs, 1),
        "memory_mb": round((2 * weights + bank + activations) / 2**20),
    }


def _manifest(
    model: SentenceTransformer,
    words: Vocabulary,
    terms: list[Term],
    pairs: PairTable,
    facts: dict[str, Any],
    result: TrainedRows,
    config: TrainConfig,
) -> dict[str, Any]:
    known = {term.token: term for term in terms}
    mined = {entry["token"]: entry for entry in pairs.about.get("terms", [])}
    moves = relative_move(result.rows, result.initial).tolist()
    base = model.tokenizer
    tokens = []
    for row, name in enumerate(words.plan.terms):
        entry, term = mined.get(name, {}), known[name]
        tokens.append(
            {
                "token": name,
                "row": row,
                "ids": list(words.plan.ids_of(name)),
                "forms": [t.form for t in words.plan.tokens if t.term == name],
                "pieces": base.convert_ids_to_tokens(pieces(base, name)),
                "definition": entry.get("definition") or term.definition,
                "relations": entry.get("relations") or _relations(term),
                "evidence": {
                    "sentences": entry.get("sentences", 0),
                    "pairs": entry.get("pairs", {}),
                    "negatives": entry.get("negatives", 0),
                    "examples": entry.get("examples", [])[:3],
                    "anchors": result.data.updates[row],
                },
                "move": round(moves[row], 4),
            }
        )
    return {
        "format": 1,
        "contrastok": __version__,
        "base_model": facts,
        "tokens": tokens,
        "skipped": [dataclasses.asdict(s) for s in words.plan.skipped],
        "tokenizer": {
            "family": words.plan.family,
            "mode": words.plan.mode,
            "edits": dict(words.plan.edits),
            "gate": words.gate.as_json(),
        },
        "init": config.init,
        "training": {
            "options": as_json(config),
            "steps": len(result.curve),
            "pairs": result.data.pairs,
            "pairs_dropped": result.data.dropped,
            "keys": len(result.data.keys),
            "pairs_sha256": pairs.sha256,
            "curve": [_rounded(point) for point in result.curve],
        },
        "seed": config.seed,
        "versions": _versions(),
    }


def _relations(term: Term) -> list[dict[str, Any]]:
    """The glossary's relations where no pairs.json says which of them were held out."""
    kinds = (("synonym", term.synonyms), ("broader", term.broader), ("related", term.related))
    return [{"name": name, "kind": kind, "held_out": False} for kind, names in kinds for name in names]


def _rounded(point: CurvePoint) -> dict[str, float]:
    return {name: round(value, 5) for name, value in dataclasses.asdict(point).items()}


def _versions() -> dict[str, str]:
    return {
        name: importlib.metadata.version(name)
        for name in ("torch", "transformers", "sentence-transformers", "tokenizers")
    }


def _counts(words: Vocabulary, pairs: PairTable) -> dict[str, Any]:
    return {
        "tokens": len(words.plan.terms),
        "ids": len(words.plan.ids),
        "pairs": len(pairs),
        "skipped": [dataclasses.asdict(s) for s in words.plan.skipped],
        "gate": words.gate.as_json(),
    }


def _summary(manifest: dict[str, Any], words: Vocabulary, pairs: PairTable, result: TrainedRows) -> dict[str, Any]:
    curve = manifest["training"]["curve"]
    idle = [t["token"] for t in manifest["tokens"] if not t["evidence"]["anchors"]]
    alike = mean_pairwise_cosine(result.rows)
    warnings = []
    if idle:
        warnings.append(
            f"{len(idle)} terms have no pair, so their rows stay at {manifest['init']}: {', '.join(idle[:5])}"
        )
    if curve and curve[0]["loss"] < NO_SIGNAL:
        warnings.append(
            "the first loss is almost zero: these pairs hold no signal; add harder negatives or definitions"
        )
    if len(result.rows) > 1 and alike > ALIKE:
        warnings.append(f"the new rows are almost all the same (mean pairwise cosine {alike:.3f})")
    if result.data.dropped:
        warnings.append(
            f"{result.data.dropped} pairs were left out: their term has no row or their anchor does not hold it"
        )
    return {
        **_counts(words, pairs),
        "steps": len(curve),
        "first": curve[0] if curve else None,
        "last": curve[-1] if curve else None,
        "frozen": manifest["frozen"],
        "warnings": warnings,
    }


def mean_pairwise_cosine(rows: torch.Tensor) -> float:
    """Mean cosine over all pairs of different rows; 1 when there is one row."""
    n = len(rows)
    if n < 2:
        return 1.0
    total = F.normalize(rows, dim=-1).sum(0).square().sum()
    return float((total - n) / (n * (n - 1)))


def _plan_table(words: Vocabulary, pairs: PairTable) -> Table:
    table = Table(
        title=f"{len(words.plan.terms)} new tokens ({words.plan.family}, mode {words.plan.mode}), {len(pairs)} pairs",
        title_justify="left",
    )
    table.add_column("check")
    table.add_column("")
    table.add_column("detail", overflow="fold")
    for check in words.gate.checks:
        table.add_row(check.name, "[green]ok[/]" if check.passed else "[yellow]no[/]", check.detail.replace("[", r"\["))
    for skipped in words.plan.skipped[:20]:
        table.add_row("left out", "[yellow]-[/]", f"{skipped.term!r} {skipped.reason}".replace("[", r"\["))
    if len(words.plan.skipped) > 20:
        table.add_row("left out", "[yellow]-[/]", f"{len(words.plan.skipped) - 20} more")
    return table


def _print_summary(console: Console, summary: dict[str, Any], out: Path) -> None:
    if summary["last"]:
        first, last = summary["first"], summary["last"]
        console.print(
            f"{summary['steps']} steps: loss {first['loss']:.3f} -> {last['loss']:.3f}, retrieval accuracy "
            f"{first['accuracy']:.2f} -> {last['accuracy']:.2f}, median relative move of the rows {last['move']:.3f}"
        )
    for warning in summary["warnings"]:
        console.print(f"[yellow]note:[/] {warning}".replace("[##", r"\[##"))
    frozen = summary["frozen"]
    console.print(
        f"{frozen['tensors']} frozen tensors, SHA-256 {frozen['sha256_after'][:16]}: the base model's, bit for bit."
    )
    console.print(f"Checkpoint: [bold]{out}[/]")
