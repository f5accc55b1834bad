"""The command `train`: terms and pairs in, a checkpoint out."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any

import torch
from rich.markup import escape

from contrastok import __version__
from contrastok.bank import FrozenEncoder
from contrastok.batches import TrainingSet, build_training_set
from contrastok.body_lora import BodyLora, linear_layers
from contrastok.calibrate_pairs import anchor_passes
from contrastok.candidates import candidates
from contrastok.checkpoint import MANIFEST
from contrastok.config import TrainConfig, as_json
from contrastok.console import Console, emit_json, nothing_written
from contrastok.data_gen.term_readers import read_terms
from contrastok.data_gen.terms import Term
from contrastok.embedding import RowOverlay
from contrastok.errors import InputError
from contrastok.evidence import WordEvidence, read_evidence
from contrastok.export import base_facts, init_context, write_checkpoint
from contrastok.fast_body import compile_layers, masks_ready
from contrastok.files import atomic_folder, check_output, sha256_file
from contrastok.fit import fit_cost
from contrastok.gate import run_gate
from contrastok.head_rows import first_head_rows, train_classes
from contrastok.init_inputs import input_hashes, require_inputs
from contrastok.initializers import initial_rows
from contrastok.last_good import last_good_kept
from contrastok.lm_head import load_with_head
from contrastok.loop import Loop, make_accelerator, run_key, state_path
from contrastok.models import frozen_hash, input_embedding, language_head, load_tokenizer, tokenizer_fingerprint
from contrastok.objectives import OBJECTIVES
from contrastok.objectives.contrast import Contrast
from contrastok.objectives.grounding import definition_pairs
from contrastok.objectives.one_token import random_contexts
from contrastok.overlay import detach
from contrastok.own_time import timed
from contrastok.pairs import PairTable, read_pairs
from contrastok.ranks import ALONE, Ranks, joined, require_shares
from contrastok.second_stage import second_epochs, second_stage
from contrastok.shallow import aligned_head, cut
from contrastok.starting import PLAIN, PREDICTOR, check_start, choose_init, start_rows
from contrastok.state import RunState
from contrastok.story import (
    TrainedRows,
    Vocabulary,
    build_manifest,
    counts,
    plan_table,
    print_summary,
    summarise,
    versions,
)
from contrastok.token_modes import decoding_drops_spaces
from contrastok.tracking import Follow, followed
from contrastok.trainables import TRAINABLES
from contrastok.trainables.shared import effective_rank
from contrastok.trainables.whole import write_old_rows
from contrastok.vocabulary import extend_tokenizer, plan_terms

if TYPE_CHECKING:
    from accelerate import Accelerator
    from sentence_transformers import SentenceTransformer


def train(config: TrainConfig) -> dict[str, Any]:
    """Add the terms as tokens, train only their rows, write a checkpoint.

    Args:
        config: the options; `out` appears whole or not at all.

    Returns:
        a summary: counts, gate, training figures, warnings and frozen hashes. Where a launcher started several
        processes, rank 0 alone writes and has it; what the others return is empty.

    Raises:
        ContrastokError: for every problem that the user can mend.
    """
    with joined(config) as ranks:
        if config.dry_run and not ranks.first:
            return {}
        ranks.after_first()
        return _train(ranks.muted(config), ranks)


def _train(config: TrainConfig, ranks: Ranks) -> dict[str, Any]:
    """What `train` does, as one of the ranks."""
    config.validate()
    require_shares(config, ranks)
    assert config.pairs is not None and config.out is not None  # validate() saw to it
    console = Console(config.quiet)
    check_output(config.out, config.overwrite, marker=MANIFEST, inputs=config.inputs, json=config.json)
    require_inputs(config)
    terms = read_terms(config.terms)
    tokenizer = load_tokenizer(config.model)
    pairs = read_pairs(config.pairs, tokenizer_fingerprint(tokenizer))
    evidence = read_evidence(config.pairs)
    choose_init(config.init, evidence)  # what is wrong with it is told before the model is loaded
    model = load_with_head(config.model)
    OBJECTIVES[config.objective].build.check(model, config)
    TRAINABLES[config.trainable].check()
    with cut(model, config.layers):  # too many are told before anything is encoded
        pass
    if config.moves_body:
        linear_layers(model)
    words = extend_and_check(model, terms, pairs, config)
    check_start(words.plan, words.extended, model, evidence, [*pairs.anchor, *pairs.positive], config)
    console.print(plan_table(words, pairs, tokens=config.dry_run))
    if TRAINABLES[config.trainable].moves_old:
        console.print(f"[yellow]note:[/] --trainable {config.trainable} moves old rows: nothing stays bit for bit")
    if OBJECTIVES[config.objective].head and decoding_drops_spaces(words.plan.family, words.plan.mode):
        console.print(
            "[yellow]note:[/] decoding drops the space before a token of --token-mode added; where people will read "
            "what the model writes, give gen-pairs and train --token-mode vocab"
        )
    if config.moves_body:
        named = "--lora" if config.lora else "--two-stage"
        console.print(f"[yellow]note:[/] {named} moves the body: no text keeps the base model's embedding")
    if config.dry_run:
        summary = {"dry_run": True, **counts(words, pairs), **estimate(model, words, pairs, evidence, config, ranks)}
        console.print(
            f"Would train {summary['steps']} steps in about {summary['seconds']:.0f} s with about "
            f"{summary['memory_mb']:.0f} MB, and write {escape(str(config.out))}. {nothing_written(config.json)}"
        )
        emit_json(summary, config.json)
        return summary
    facts = base_facts(model, config.model, words.plan)
    accelerator = make_accelerator(config, ranks)
    with followed(accelerator, config, console) as follow:  # first of all: it may not start
        result = _train_rows(model, words, pairs, evidence, facts, config, console, accelerator, follow, ranks)
        if not ranks.first:
            return {}
        manifest = _write(model, words, terms, pairs, facts, result, config)  # a tracker may take long to close
        result.state.clear()
    summary = summarise(manifest, words, pairs, result)
    print_summary(console, summary, config.out)
    emit_json(summary, config.json)
    return summary


def _write(
    model: SentenceTransformer,
    words: Vocabulary,
    terms: list[Term],
    pairs: PairTable,
    facts: dict[str, Any],
    result: TrainedRows,
    config: TrainConfig,
) -> dict[str, Any]:
    """Write the checkpoint; returns its manifest."""
    assert config.out is not None  # validate() saw to it
    if config.precision == "bf16":
        model = load_with_head(config.model)  # its own bits: those that were trained with are rounded
    manifest = build_manifest(model, words, terms, pairs, facts, result, config)
    with atomic_folder(config.out, config.overwrite) as folder:
        return write_checkpoint(
            folder, model, words.extended, words.plan, result.rows, result.start.initial, manifest, result.given_up,
            result.head_rows,
        )  # fmt: skip


def extend_and_check(
    model: SentenceTransformer, terms: list[Term], pairs: PairTable, config: TrainConfig
) -> Vocabulary:
    """Plan the tokens, extend the tokenizer, and let it through the gate.

    Raises:
        InputError: no term is left, or some are left out and `--strict` was given.
        ModelError: the gate failed.
    """
    tokenizer = model.tokenizer
    plan = plan_terms(tokenizer, terms, config.token_mode)
    plan.require_terms(config.strict)
    extended = extend_tokenizer(tokenizer, plan)
    sample = list(dict.fromkeys([*pairs.anchor, *pairs.positive]))[:20_000]
    gate = run_gate(tokenizer, extended, plan, {"pairs": sample}, input_embedding(model).weight.shape[0])
    gate.require(plan.mode, config.strict)
    return Vocabulary(plan, extended, gate)


def _train_rows(
    model: SentenceTransformer,
    words: Vocabulary,
    pairs: PairTable,
    evidence: tuple[WordEvidence, ...] | None,
    facts: dict[str, Any],
    config: TrainConfig,
    console: Console,
    accelerator: Accelerator,
    follow: Follow | None,
    ranks: Ranks,
) -> TrainedRows:
    model.to(accelerator.device)
    encoder = FrozenEncoder(model, model.tokenizer, console=console)
    data = _training_set(model, words, _read_by(model, words, pairs, config), encoder, config)
    texts = [*pairs.anchor, *pairs.positive]
    start = start_rows(words.plan, words.extended, encoder, evidence, texts, config, accelerator)
    assert config.out is not None  # validate() saw to it
    key = run_key(
        version=__version__,
        options=as_json(config),
        pairs=pairs.sha256,
        evidence=pairs.about.get("evidence"),
        base=facts,
        versions=versions(),
        terms=[sha256_file(path) for path in config.terms],
        init=input_hashes(config),
        device=accelerator.device.type,
    )
    state = RunState(state_path(config.out), key)
    way = TRAINABLES[config.trainable]
    head = aligned_head(encoder, texts, config.layers) if config.layers else None
    classes = first_head_rows(model, words.plan, start.init, config.seed, config.init_norm)
    overlay = _lay(model, words, start.placed, classes, config)
    if config.compile:
        compile_layers(model)
    ready = accelerator.device.type == "cuda" and language_head(model) is None  # a causal body has a mask of its own
    masks = masks_ready(model, words.extended) if ready else contextlib.nullcontext()
    with cut(model, config.layers), masks, last_good_kept(config, words.plan, overlay, facts, start.init, ranks):
        lora = _adapters(model, overlay, config)
        ranks.meet(key)
        loop = Loop(
            model, overlay, data, words.extended, config, accelerator, state, console, start.guide, head, lora,
            follow=follow, ranks=ranks,
        )  # fmt: skip
        curve, profile, notes = loop.run(), loop.watch.milliseconds(), _notes(loop)
        if second_epochs(config):
            first = len(curve)
            loop, lora, more = second_stage(loop, RunState(state.folder / "second", key))
            notes |= _notes(loop) | {"second_stage": {"after_step": first, "steps": len(more)}}
            curve += more
    rows = overlay.rows.detach()[: len(start.placed)].cpu().clone()
    given_up: dict[str, Any] = write_old_rows(model, overlay, len(rows)) if way.moves_old else {}
    if given_up or lora is not None:
        detach(model)
        given_up |= lora.merge() if lora is not None else {}
        given_up["sha256"] = frozen_hash(model, list(words.plan.ids), facts["table_rows"])[0]
    if overlay.head is not None:
        classes = overlay.head.rows.detach()[: overlay.new].cpu().clone()
    return TrainedRows(rows, start, data, curve, state, profile, notes, given_up or None, classes)


def _lay(
    model: SentenceTransformer,
    words: Vocabulary,
    rows: torch.Tensor,
    classes: torch.Tensor | None,
    config: TrainConfig,
) -> RowOverlay:
    """Lay what is trained over the model, from first rows `[n, d]` and, if the head is not tied, classes `[m, d]`."""
    overlay = TRAINABLES[config.trainable].lay(_held_in(model, config), words.plan, rows, config)
    if OBJECTIVES[config.objective].head:
        train_classes(model, overlay, classes, TRAINABLES[config.trainable].moves_head)
    return overlay


def _adapters(model: SentenceTransformer, overlay: RowOverlay, config: TrainConfig) -> BodyLora | None:
    """What moves the body from the first step on, if it was asked for."""
    return BodyLora(model, overlay, config.rank, config.seed) if config.lora else None


def _notes(loop: Loop) -> dict[str, Any]:
    """What the manifest says of the way of training, beyond options and curve."""
    rows = loop.overlay.rows.detach()[: len(loop.initial)]
    notes: dict[str, Any] = {
        "parameters": sum(parameter.numel() for parameter in loop.trained),
        "effective_rank": round(effective_rank(rows - loop.initial), 2),
        "settings": {**dataclasses.asdict(loop.settings), "learning_rate": loop.rate},
    }
    if loop.ranks.count > 1:
        notes["ranks"] = loop.ranks.count
    if (lm := language_head(loop.model)) is not None:
        notes["head"] = {"tied": lm.tied, "trained": OBJECTIVES[loop.config.objective].head, "loads_as": lm.auto}
    if loop.restarts is not None:
        notes["restarts"] = [dataclasses.asdict(run) for run in loop.restarts.done]
    if loop.student.head is not None:
        notes["shallow"] = {"layers": loop.config.layers, "head_cosine": round(loop.student.head.cosine, 4)}
    if isinstance(loop.objective, Contrast) and loop.config.learn_temperature:
        notes["temperature"] = round(loop.objective.temperature(), 5)
    return notes


def _held_in(model: SentenceTransformer, config: TrainConfig) -> SentenceTransformer:
    """The model with its weights held in the precision of the run; once everything frozen has been encoded."""
    return model.to(torch.bfloat16) if config.precision == "bf16" else model


def _read_by(model: SentenceTransformer, words: Vocabulary, pairs: PairTable, config: TrainConfig) -> PairTable:
    """What the objective reads: the pairs, or what it makes of the terms in their place."""
    chosen = OBJECTIVES[config.objective]
    if chosen.random_contexts:
        return random_contexts(words.plan.terms, candidates(model.tokenizer).words, config.seed)
    return definition_pairs(pairs, words.plan.terms) if chosen.definitions else pairs


def _training_set(
    model: SentenceTransformer, words: Vocabulary, pairs: PairTable, encoder: FrozenEncoder, config: TrainConfig
) -> TrainingSet:
    aligned, limit = OBJECTIVES[config.objective].aligned, model.max_seq_length or 512
    data = build_training_set(pairs, words.plan, words.extended, encoder, limit, aligned=aligned)
    if not data.anchors:
        raise InputError(
            "no pair's anchor holds a new token", hint="give train the --terms, --model and --token-mode of gen-pairs"
        )
    return data


def estimate(
    model: SentenceTransformer,
    words: Vocabulary,
    pairs: PairTable,
    evidence: tuple[WordEvidence, ...] | None,
    config: TrainConfig,
    ranks: Ranks = ALONE,
) -> dict[str, Any]:
    """Time and memory, on one process, from a few real steps on a slice of the pairs; writes nothing, not the cache."""
    pairs = _read_by(model, words, pairs, config)
    wanted = dict.fromkeys(pairs.anchor)
    keys = len(wanted.keys() | set(pairs.positive) | {n for ns in pairs.negatives for n in ns})
    piece = pairs.head(min(len(pairs), 4 * config.batch_size))
    accelerator = make_accelerator(config, ranks)
    model.to(accelerator.device)
    encoder, device = FrozenEncoder(model, model.tokenizer, cache=False), accelerator.device.type
    encoder.encode(piece.anchor[:1])  # what only a first call takes
    data, took = timed(lambda: _training_set(model, words, piece, encoder, config), device)
    per_key = took / len(data.keys)
    rows = initial_rows(PLAIN, init_context(model, words.plan))
    overlay = _lay(model, words, rows, first_head_rows(model, words.plan, PLAIN, config.seed, config.init_norm), config)
    trial = dataclasses.replace(config, epochs=1, reset_every=0, two_stage=False)
    with cut(model, config.layers):  # without a head: it takes no time
        lora, quiet = _adapters(model, overlay, config), Console(quiet=True)
        loop = Loop(model, overlay, data, words.extended, trial, accelerator, None, quiet, adapters=lora)
        per_anchor = timed(loop.run, device)[1] / len(data.anchors)
    table = input_embedding(model).weight
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    bank = keys * data.keys.shape[1] * 4
    activations = config.batch_size * max(len(a.ids) for a in data.anchors) * table.shape[1] * 4 * 40
    steps, anchors = _work(config, len(wanted))
    known, asked, fitting, fit_memory = 0, 0, 0.0, 0.0
    if choose_init(config.init, evidence) == PREDICTOR:
        told = [word for word in evidence or () if word.known]
        known = sum(2 + min(len(word.sentences), config.evidence_sentences) for word in told)
        operations, fit_memory = fit_cost(len(told), table.shape[1], data.keys.shape[1])
        fitting = operations / _speed()
        asked = anchor_passes(config, sum(len(word.sentences) for word in told) / max(len(told), 1))
    parts = {
        "known_words": per_key * known,
        "keys": per_key * keys,
        "map": fitting,
        "calibration": per_anchor * asked,
        "steps": per_anchor * anchors,
    }
    return {
        "steps": steps,
        "anchors": len(wanted),
        "keys": keys,
        "known_texts": known,
        "known_anchors": asked,
        "seconds": round(sum(parts.values()), 1),
        "seconds_of": {part: round(seconds, 1) for part, seconds in parts.items()},
        "memory_mb": round((2 * weights + bank + max(activations, fit_memory)) / 2**20),
    }


def _work(config: TrainConfig, pairs: int) -> tuple[int, int]:
    """Optimiser steps of both stages, and the anchors that they look at."""
    batch = config.batch_size * config.gradient_accumulation
    epoch, steps, anchors = -(-pairs // batch), 0, 0
    for epochs, share in ((config.epochs, 1), (second_epochs(config), 2)):
        most = epochs * epoch if config.max_steps is None else max(1, config.max_steps // share)
        steps += min(epochs * epoch, most)
        anchors += min(epochs * pairs, most * batch)
    return steps, anchors


def _speed() -> float:
    """Floating-point operations a second in a product of matrices on this machine."""
    a = torch.ones(1024, 1024)
    return 4 * 2 * 1024**3 / timed(lambda: [a @ a for _ in range(4)])[1]
