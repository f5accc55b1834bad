"""Where rows start: an initialiser's rows, and with a predictor those that the word stage made of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.markup import escape

from contrastok.bank import FrozenEncoder, special_frame
from contrastok.calibrate import FORMAT, WORDS, Calibration, calibrate, from_text, to_text
from contrastok.calibrate_pairs import WORDS as PAIR_WORDS
from contrastok.calibrate_pairs import can_calibrate, has_settings, kept_pair_calibration
from contrastok.config import TrainConfig
from contrastok.console import Console
from contrastok.errors import InputError, ModelError
from contrastok.evidence import WordEvidence
from contrastok.export import init_context
from contrastok.guide import Guide
from contrastok.init_inputs import init_options
from contrastok.initializers import INITIALIZERS, InitContext, initial_rows
from contrastok.initializers.norms import with_norms
from contrastok.map_rows import WordObjective, map_rows
from contrastok.pair_settings import PairSettings, settle
from contrastok.predictor import Predictor, enough_known, make_predictor
from contrastok.prior import Prior, TooFewWordsError
from contrastok.vocabulary import VocabularyPlan

if TYPE_CHECKING:
    from accelerate import Accelerator
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedTokenizerFast

PREDICTOR, PLAIN = "predictor", "charlen_mean"
"""What `--init auto` takes where there is evidence, and where there is none."""
TRUSTED = 0.4
"""Recovery (MRR) of known words by prediction below which `--init auto` lets the pairs alone say where rows go: a prior
that knows little, held on to, keeps rows from where the pairs would bring them."""
FIGURES = ("row_mrr", "output_mrr", "hit@1", "hit@10", "median_rank", "related_mrr")
"""What is said of settings that were tried, beside the settings."""


@dataclass(frozen=True)
class Start:
    """Rows before training.

    Attributes:
        init: name of the initialiser.
        initial: its rows, float32 `[n, d]`.
        placed: where the loop starts, float32 `[n, d]`: after the word stage, or the same as `initial`.
        guide: None without a predictor.
    """

    init: str
    initial: torch.Tensor
    placed: torch.Tensor
    guide: Guide | None


def choose_init(name: str, evidence: Sequence[WordEvidence] | None) -> str:
    """The initialiser that `--init` means here.

    Raises:
        InputError: the predictor was asked for and there is nothing, or too little, to learn it from.
    """
    if name == "auto":
        return PREDICTOR if enough_known(evidence) else PLAIN
    if name == PREDICTOR and evidence is None:
        raise InputError("the pairs came without evidence.parquet", hint=f"run gen-pairs again, or use --init {PLAIN}")
    if name == PREDICTOR and not enough_known(evidence):
        raise TooFewWordsError(sum(word.known for word in evidence or ()))
    return name


def starting_context(
    plan: VocabularyPlan,
    extended: PreTrainedTokenizerFast,
    encoder: FrozenEncoder,
    evidence: Sequence[WordEvidence] | None,
    texts: Sequence[str],
    config: TrainConfig,
) -> InitContext:
    """What an initialiser may look at in `train`; arguments see `start_rows`."""
    known = (text for word in evidence or () for text in word.sentences)
    context: InitContext = dataclasses.replace(
        init_context(encoder.model, plan, config.seed),
        options=init_options(config),
        extended=extended,
        encoder=encoder,
        evidence=tuple(evidence or ()),
        texts=tuple(dict.fromkeys([*texts, *known])),
        tell=lambda sentence: encoder.console.print(escape(sentence)),
    )
    return context


def check_start(
    plan: VocabularyPlan,
    extended: PreTrainedTokenizerFast,
    model: SentenceTransformer,
    evidence: Sequence[WordEvidence] | None,
    texts: Sequence[str],
    config: TrainConfig,
) -> None:
    """Refuse an initialiser that cannot work here, before anything is encoded; arguments see `start_rows`.

    Raises:
        ContrastokError: see `choose_init` and `Initializer.check`.
    """
    init = choose_init(config.init, evidence)
    if init != PREDICTOR:  # what that needs was looked at by `choose_init`
        encoder = FrozenEncoder(model, model.tokenizer, cache=False)
        INITIALIZERS[init].check(starting_context(plan, extended, encoder, evidence, texts, config))


def start_rows(
    plan: VocabularyPlan,
    extended: PreTrainedTokenizerFast,
    encoder: FrozenEncoder,
    evidence: Sequence[WordEvidence] | None,
    texts: Sequence[str],
    config: TrainConfig,
    accelerator: Accelerator,
) -> Start:
    """Make the rows that training starts from.

    Args:
        plan: the new tokens.
        extended: the tokenizer that has them.
        encoder: the frozen model, without an overlay, on the tokenizer before.
        evidence: what gen-pairs found, if it is there.
        texts: the sentences of the pairs.
        config: the options.
        accelerator: that training will use.

    Raises:
        InputError: see `choose_init` and `make_predictor`.
    """
    init, console = choose_init(config.init, evidence), encoder.console
    model, tokenizer = encoder.model, encoder.tokenizer
    context = starting_context(plan, extended, encoder, evidence, texts, config)
    _tell_unspelled(context, tokenizer, console)
    predictor = None
    try:
        if init == PREDICTOR:
            predictor = make_predictor(evidence or (), plan, extended, encoder, config.evidence_sentences, config.seed)
            if config.init == "auto":
                require_trust(predictor.prior)
    except (TooFewWordsError, ModelError) as error:
        if config.init == PREDICTOR:
            raise
        console.print(f"Rows start at {PLAIN}: {error.what}")
        init, predictor = PLAIN, None
    if predictor is None:
        rows = initial_rows(init, context).cpu()
        return Start(init, rows, rows, None)
    rows = initial_rows(init, dataclasses.replace(context, predicted=torch.from_numpy(predictor.prior.new.rows)))
    calibration = kept_calibration(encoder, predictor, config.calibrate)
    objective = WordObjective(
        predictor.prior.new, predictor.bank, calibration.settings, predictor.synonyms, model.device
    )
    frame = special_frame(tokenizer)
    inputs = tuple(tuple(frame([plan.ids_of(term)[0]])) for term in plan.terms)
    pairs = settle(PairSettings(), config, predictor.bank.unit)
    guide = Guide(predictor, calibration, objective, inputs, pairs, has_settings(config))
    if can_calibrate(config):
        chosen = kept_pair_calibration(guide, encoder, accelerator, config)
        guide = dataclasses.replace(guide, pairs=chosen.settings, pairs_tried=chosen.tried)
    _tell(guide, console)
    placed = with_norms(map_rows(model, tokenizer, objective, console), context)  # training begins here, not at `rows`
    return Start(init, rows, placed, guide)


def _tell_unspelled(context: InitContext, tokenizer: PreTrainedTokenizerFast, console: Console) -> None:
    """Name the terms whose pieces are unknown tokens alone."""
    lost = [term for term, ids in zip(context.terms, context.pieces, strict=True) if {*ids} == {tokenizer.unk_token_id}]
    if lost:
        console.print(
            f"The pieces of {len(lost)} of {len(context.terms)} terms are unknown to the model "
            f"({escape(', '.join(lost[:5]))}): from them all of these would start at one row."
        )


def require_trust(prior: Prior) -> None:
    """Refuse a prior that brings too few known words back.

    Raises:
        ModelError: says how many, and what would help.
    """
    name, chief = next(iter(prior.story.items()))
    if chief["mrr"] < TRUSTED:
        raise ModelError(
            f"from {name} known words come back with MRR {chief['mrr']:.2f} only, and {TRUSTED:g} is asked for",
            hint="give gen-pairs a --glossary or WordNet and more text, or train --init predictor",
        )


def kept_calibration(encoder: FrozenEncoder, predictor: Predictor, trials: int) -> Calibration:
    """What known words of this model chose; looked up where the same predictor was calibrated before."""

    def make() -> dict[str, np.ndarray]:
        made = calibrate(encoder.model, encoder.tokenizer, predictor, trials, encoder.console)
        return {"calibration": np.array(to_text(made))}

    return from_text(str(encoder.kept(f"calibration/{FORMAT}-{predictor.key}-{trials}", make)["calibration"]))


def _tell(guide: Guide, console: Console) -> None:
    """Say what known words showed."""
    for name, fit in guide.predictor.prior.story.items():
        kernel = f", kernel weight {fit['mix']:g}" if fit["mix"] else ""
        console.print(
            f"Predictor from {name} of {fit['known_words']:,} known words: recovery of {fit['held_out']:,} that it "
            f"never saw MRR {fit['mrr']:.3f} (ridge {fit['ridge']:g}{kernel})"
        )
    chosen, pairs = guide.calibration.settings, guide.pairs
    _tell_tried(f"Word stage on {WORDS} of them", guide.calibration.tried, console)
    console.print(f"Word stage: {_settings(dataclasses.asdict(chosen)) if chosen.steps else 'none'}")
    _tell_tried(f"Pair stage on {PAIR_WORDS} of them", guide.pairs_tried, console)
    if guide.weighed:
        console.print(f"Pair stage: {_settings(dataclasses.asdict(pairs))}")


def _tell_tried(name: str, tried: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Say what settings brought back; the first line has none."""
    if len(tried) > 1:
        console.print(
            f"{name}:  rows MRR  outputs MRR  hit@10" + ("  untold names MRR" if "related_mrr" in tried[0] else "")
        )
    for trial in tried if len(tried) > 1 else ():
        shown = (trial[name] for name in ("row_mrr", "output_mrr", "hit@10", "related_mrr") if name in trial)
        console.print(f"  {_settings(trial) or 'none':<72} {'  '.join(f'{figure:.3f}' for figure in shown)}")


def _settings(trial: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in trial.items() if name not in FIGURES)
