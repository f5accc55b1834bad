"""What a training run leaves to be read: the manifest of its checkpoint, its summary, its tables."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.markup import escape
from rich.table import Table

from contrastok import __version__
from contrastok.batches import TrainingSet
from contrastok.checkpoint import given_up_sentence
from contrastok.config import TrainConfig, as_json
from contrastok.console import Console
from contrastok.curve import curve_window, ends, epoch_steps
from contrastok.data_gen.terms import Term
from contrastok.gate import GateReport
from contrastok.initializers.collapse import ALIKE, mean_pairwise_cosine
from contrastok.loop import CurvePoint, relative_move
from contrastok.objectives import OBJECTIVES
from contrastok.pairs import PairTable
from contrastok.starting import Start
from contrastok.state import RunState
from contrastok.visible import NAME, short
from contrastok.vocabulary import VocabularyPlan, pieces_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedTokenizerFast

NO_SIGNAL = 1e-3
"""A run whose first loss is below this has nothing to learn from."""

SHOWN = 20
"""Rows of a table for each sort of thing; the rest is counted."""

FAR = 3.0
"""Median relative move of the rows above which the learning rate was too high: they are longer than any word's."""


@dataclass(frozen=True)
class Vocabulary:
    """The extension of a tokenizer, checked."""

    plan: VocabularyPlan
    extended: PreTrainedTokenizerFast
    gate: GateReport


@dataclass(frozen=True)
class TrainedRows:
    """What came out of the loop.

    Attributes:
        rows: the new rows, float32 `[n, d]`.
        start: where they came from.
        data: what they were trained on.
        curve: one point a step.
        state: progress on disk.
        profile: milliseconds a step by part, if they were measured.
        notes: what the manifest says of the way of training beyond options and curve.
        given_up: what old weights moved, and "sha256", the hash that the frozen tensors have now; None if none did.
        head_rows: classes of the new ids in a head that is not tied, float32 `[m, d]`.
    """

    rows: torch.Tensor
    start: Start
    data: TrainingSet
    curve: list[CurvePoint]
    state: RunState
    profile: Mapping[str, float]
    notes: Mapping[str, Any]
    given_up: Mapping[str, Any] | None = None
    head_rows: torch.Tensor | None = None


def build_manifest(
    model: SentenceTransformer,
    words: Vocabulary,
    terms: list[Term],
    pairs: PairTable,
    facts: dict[str, Any],
    result: TrainedRows,
    config: TrainConfig,
) -> dict[str, Any]:
    """The content of contrastok.json, before the checkpoint is written and its hash taken."""
    known = {term.token: term for term in terms}
    mined = {entry["token"]: entry for entry in pairs.about.get("terms", [])}
    moves = relative_move(result.rows, result.start.initial).tolist()
    guide = result.start.guide
    confidence = guide.confidence(result.rows.numpy()) if guide else None
    base = model.tokenizer
    tokens = []
    split = pieces_of(base, words.plan.terms)
    for row, (name, ids) in enumerate(zip(words.plan.terms, split, strict=True)):
        entry, term = mined.get(name, {}), known[name]
        tokens.append(
            {
                "token": name,
                "row": row,
                "ids": list(words.plan.ids_of(name)),
                "forms": list(words.plan.forms_of(name)),
                "pieces": base.convert_ids_to_tokens(list(ids)),
                "definition": entry.get("definition") or term.definition,
                "relations": entry.get("relations") or _relations(term),
                **({"special": True} if name in words.plan.special else {}),
                "evidence": {
                    "sentences": entry.get("sentences", 0),
                    "generated": entry.get("generated", 0),
                    "pairs": entry.get("pairs", {}),
                    "negatives": entry.get("negatives", 0),
                    "examples": entry.get("examples", [])[:3],
                    "anchors": result.data.updates[row],
                },
                "move": round(moves[row], 4),
                **({} if confidence is None else {"confidence": round(float(confidence[row]), 4)}),
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
        "init": result.start.init,
        "init_norm": config.init_norm,
        **({"prior": guide.about()} if guide else {}),
        "training": {
            "options": as_json(config),
            "steps": len(result.curve),
            "epoch_steps": epoch_steps(len(result.data.anchors), config),
            **result.notes,
            "pairs": result.data.pairs,
            "pairs_dropped": result.data.dropped,
            "default_prompt": model.default_prompt_name or "",
            "keys": len(result.data.keys),
            "pairs_sha256": pairs.sha256,
            **_making(pairs),
            "curve": [_rounded(point) for point in result.curve],
        },
        "seed": config.seed,
        "versions": versions(),
    }


def _making(pairs: PairTable) -> dict[str, Any]:
    """Options of gen-pairs, its seed among them; nothing where pairs.json is another program's or not there."""
    options = pairs.about.get("options")
    return {"gen_pairs": options} if isinstance(options, dict) else {}


def _relations(term: Term) -> list[dict[str, Any]]:
    """The glossary's relations where no pairs.json says which of them were held out."""
    kinds = (("synonym", term.synonyms), ("broader", term.broader), ("related", term.related))
    return [{"name": name, "kind": kind, "held_out": False} for kind, names in kinds for name in names]


def _rounded(point: CurvePoint) -> dict[str, float]:
    return {name: round(value, 5) for name, value in dataclasses.asdict(point).items()}


def versions() -> dict[str, str]:
    """Versions of the libraries that decide a result."""
    return {
        name: importlib.metadata.version(name)
        for name in ("torch", "transformers", "sentence-transformers", "tokenizers")
    }


def counts(words: Vocabulary, pairs: PairTable) -> dict[str, Any]:
    """What a run starts from, for its summary."""
    return {
        "tokens": len(words.plan.terms),
        "plan": [dataclasses.asdict(token) for token in words.plan.tokens],
        "ids": len(words.plan.ids),
        "pairs": len(pairs),
        "skipped": [dataclasses.asdict(s) for s in words.plan.skipped],
        "gate": words.gate.as_json(),
    }


def summarise(manifest: dict[str, Any], words: Vocabulary, pairs: PairTable, result: TrainedRows) -> dict[str, Any]:
    """A finished run in figures, with what the user should know about it.

    "first" and "last" are means over as many steps as "averaged" says; a run that is too short to be compared has no
    "first", and its "last" is the mean over all steps.
    """
    steps = curve_window(manifest["training"])
    first, last = ends(manifest["training"]["curve"], steps)
    curve = manifest["training"]["curve"]
    idle = [t["token"] for t in manifest["tokens"] if not t["evidence"]["anchors"]]
    alike = mean_pairwise_cosine(result.rows)
    sure = [t["confidence"] for t in manifest["tokens"] if "confidence" in t]
    warnings = []
    if idle:
        warnings.append(
            f"{len(idle)} terms have no pair, so their rows stay {_left_at(result)}: {', '.join(map(short, idle[:5]))}"
        )
    if curve and curve[0]["loss"] < NO_SIGNAL:
        warnings.append(
            "the first loss is almost zero: these pairs hold no signal; add harder negatives or definitions"
        )
    if curve and manifest["training"]["options"]["objective"] == "simcse" and curve[0]["contrast"] < NO_SIGNAL:
        warnings.append(
            f"practically no signal: SimCSE starts at a loss of {curve[0]['contrast']:.1e}, for this model tells a "
            "sentence under dropout from all others already; take another --objective"
        )
    if (restarts := manifest["training"].get("restarts")) is not None and len(restarts) < 2:
        warnings.append("--reset-every is no less than the steps of the run: nothing began again, a tenth was left out")
    if curve and curve[-1]["move"] > FAR:
        warnings.append(
            f"the rows moved by {curve[-1]['move']:.1f} times their length, far from where words lie: "
            "lower --learning-rate"
        )
    if len(result.rows) > 1 and alike > ALIKE:
        warnings.append(f"the new rows are almost all the same (mean pairwise cosine {alike:.3f})")
    prompt = manifest["training"]["default_prompt"]
    if prompt:
        warnings.append(f"the model's default prompt {prompt!r} was not put before the training texts")
    if result.data.dropped:
        warnings.append(
            f"{result.data.dropped} pairs were left out: their term has no row or their anchor does not hold it"
        )
    return {
        **counts(words, pairs),
        "steps": len(curve),
        "ranks": OBJECTIVES[manifest["training"]["options"]["objective"]].ranks,
        "averaged": steps or len(curve),
        "first": first,
        "last": last,
        "confidence": {"median": statistics.median(sure), "expected": round(sum(sure), 2)} if sure else None,
        "frozen": manifest["frozen"],
        "warnings": warnings,
        **({"profile": dict(result.profile)} if result.profile else {}),
    }


def _left_at(result: TrainedRows) -> str:
    """Where rows stand that training has not moved."""
    guide = result.start.guide
    placed = guide is not None and guide.calibration.settings.steps
    return "where the word stage put them" if placed else f"as {result.start.init} made them"


def plan_table(words: Vocabulary, pairs: PairTable, tokens: bool = False) -> Table:
    """The gate's checks, the terms left out and, if wanted, the tokens."""
    table = Table(
        title=f"{len(words.plan.terms)} new tokens ({words.plan.family}, mode {words.plan.mode}), {len(pairs)} pairs",
        title_justify="left",
    )
    table.add_column("check")
    table.add_column("")
    table.add_column("detail", overflow="fold")
    for check in words.gate.checks:
        table.add_row(check.name, "[green]ok[/]" if check.passed else "[yellow]no[/]", escape(check.detail))
    for skipped in words.plan.skipped[:SHOWN]:
        table.add_row("left out", "[yellow]-[/]", escape(f"{short(repr(skipped.term), NAME + 2)} {skipped.reason}"))
    if len(words.plan.skipped) > SHOWN:
        table.add_row("left out", "[yellow]-[/]", f"{len(words.plan.skipped) - SHOWN} more")
    for term in words.plan.terms[:SHOWN] if tokens else ():
        table.add_row(
            "token", "", escape(f"{short(repr(term), NAME + 2)} id {', '.join(map(str, words.plan.ids_of(term)))}")
        )
    if tokens and len(words.plan.terms) > SHOWN:
        table.add_row("token", "", f"{len(words.plan.terms) - SHOWN} more; --json lists all")
    return table


def profile_table(profile: Mapping[str, float]) -> Table:
    """Where a step's time goes, from milliseconds by part."""
    total = sum(profile.values())
    table = Table("part of a step", "ms", "share")
    for part, took in profile.items():
        table.add_row(part, f"{took:.2f}", f"{took / total:.1%}")
    table.add_row("all", f"{total:.2f}", "", end_section=True)
    return table


def _about_frozen(frozen: Mapping[str, Any]) -> str:
    """Whether the frozen weights are the base model's, in a sentence."""
    if "given_up" not in frozen:
        return (
            f"{frozen['tensors']} frozen tensors, SHA-256 {frozen['sha256_after'][:16]}: the base model's, bit for bit."
        )
    return f"[yellow]NOT the base model's weights:[/] {given_up_sentence(frozen['given_up'])}."


def _progress(summary: dict[str, Any]) -> str:
    """How loss and accuracy went, where that can be told."""
    first, last, averaged = summary["first"], summary["last"], summary["averaged"]
    names = {"loss": "loss {:.3f}", **({"accuracy": "retrieval accuracy {:.2f}"} if summary["ranks"] else {})}
    means = {name: form.format(last[name]) for name, form in names.items()}
    moved = f"median relative move of the rows {last['move']:.3f}"
    if first is None:
        told = ", ".join(means.values())
        return f"{summary['steps']} steps: {told} on average, too few to tell a change from a change of batch; {moved}"
    told = ", ".join(f"{names[name].format(first[name])} -> {means[name].split()[-1]}" for name in names)
    over = f" (means of the first and of the last {averaged} steps)" if averaged > 1 else ""
    return f"{summary['steps']} steps: {told}{over}, {moved}"


def print_summary(console: Console, summary: dict[str, Any], out: Path) -> None:
    """Say in a few lines what came of a run."""
    if summary["last"]:
        console.print(_progress(summary))
    if summary["confidence"]:
        sure = summary["confidence"]
        console.print(
            f"About {sure['expected']:.0f} of {summary['tokens']} tokens are expected within reach of their true place "
            f"(median confidence {sure['median']:.0%})"
        )
    if "profile" in summary:
        console.print(profile_table(summary["profile"]))
    for warning in summary["warnings"]:
        console.print(f"[yellow]note:[/] {escape(warning)}")
    console.print(_about_frozen(summary["frozen"]))
    console.print(f"Checkpoint: [bold]{escape(str(out))}[/]")
