"""One set of frozen dataclasses for the Python API, the flags and the TOML file.

Each command has one configuration; `config_file.py` reads them from TOML. Nothing here imports torch: `contrastok
--help` must answer at once.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from contrastok.errors import did_you_mean
from contrastok.eval_config import EVAL_COMMANDS
from contrastok.guidance_config import GUIDANCE_COMMANDS
from contrastok.llm_config import LLMOptions
from contrastok.options import Common, VocabularyOptions, flag, missing
from contrastok.report_config import ReportConfig
from contrastok.scale_config import ScaleOptions

MOST_TRIALS = 11
"""Settings of the word stage that there are to try."""


@dataclass(frozen=True, kw_only=True)
class GenPairsConfig(VocabularyOptions, LLMOptions, ScaleOptions, Common):
    """Find evidence for each term and write contrastive training pairs.

    Example: contrastok gen-pairs --terms terms.jsonl --corpus corpus/ --out pairs/
    """

    terms: tuple[Path, ...] = ()
    """Words to teach: .jsonl, .csv, .obo, or a word list (.txt). Several files are merged."""
    corpus: tuple[str, ...] = ()
    """Text: .txt, .jsonl, .csv (each also .gz), .parquet, a folder of them, a WordNet folder, or a dataset's name."""
    glossary: tuple[Path, ...] = ()
    """Where to look up what the terms lack (definition, synonyms, broader): term files or a WordNet folder."""
    model: str = "minilm"
    """Local folder, hub name, or minilm for the packaged all-MiniLM-L6-v2."""
    out: Path | None = None
    """Folder for pairs.parquet, evidence.parquet and pairs.json."""
    text_field: str = "text"
    """Field of .jsonl, .csv, .parquet and datasets that holds the text."""
    split: str = "train"
    """Split, where --corpus names a dataset."""
    kinds: tuple[str, ...] = ()
    """Pair kinds to build; all when empty."""
    max_sentences: int = 32
    """Sentences kept for each term, drawn by reservoir sampling."""
    min_sentences: int = 4
    """Terms with fewer sentences also get pairs from definition templates, and are named in the table."""
    min_words: int = 4
    """Shorter sentences are dropped."""
    max_words: int = 80
    """Longer sentences are cut to a window of this many words around the term."""
    negatives: int = 4
    """Hard negatives for each pair."""
    hold_out: float = 0.25
    """Share of each term's synonyms, broader and related names kept out of the pairs, for an honest report."""
    known_sentences: int = 8
    """Sentences for each word that the model knows already, from which the initialiser learns; 0 leaves them out."""
    wordnet: str = "auto"
    """Where words that the model knows are looked up after --glossary: auto (a WordNet folder of --glossary, of
    WNSEARCHDIR or of the system), none, or a folder."""

    def problems(self) -> list[str]:
        """Everything that is wrong with these options, one sentence each."""
        found = super().problems()
        found += missing(self, "terms", "corpus", "out") + self.scale_problems() + self.llm_problems()
        found += [
            f"--{flag(name)} must be at least {low}, not {getattr(self, name)}"
            for name, low in (
                ("max_sentences", 1),
                ("min_sentences", 0),
                ("min_words", 1),
                ("negatives", 0),
                ("known_sentences", 0),
            )
            if getattr(self, name) < low
        ]
        if self.max_words < max(self.min_words, 8):
            found.append(f"--max-words must be at least 8 and at least --min-words, not {self.max_words}")
        if not 0 <= self.hold_out <= 1:
            found.append(f"--hold-out is a share between 0 and 1, not {self.hold_out}")
        from contrastok.data_gen.pair_kinds import unknown_kinds

        found += unknown_kinds(self.kinds)
        return found


@dataclass(frozen=True, kw_only=True)
class TrainConfig(VocabularyOptions, Common):
    """Add the tokens, train only their rows, write a checkpoint that stock libraries load.

    Example: contrastok train --terms terms.jsonl --pairs pairs/ --out model/
    """

    terms: tuple[Path, ...] = ()
    """Words to teach, as given to gen-pairs."""
    pairs: Path | None = None
    """Folder (or .parquet file) that gen-pairs wrote."""
    model: str = "minilm"
    """Local folder, hub name, or minilm for the packaged all-MiniLM-L6-v2."""
    out: Path | None = None
    """Folder for the checkpoint."""
    init: str = "auto"
    """Initialiser of the rows: predictor (learned from the model's own words), charlen_mean, subtoken_mean or another
    one that `contrastok methods` lists. auto: predictor where gen-pairs found enough known words, and hidden ones come
    back."""
    init_norm: str = "keep"
    """Norms of the initial rows: keep, median (of the vocabulary's), constituents (mean of the pieces'), scale:X."""
    init_vectors: Path | None = None
    """Auxiliary word vectors for initialisers that use some (text format of word2vec)."""
    init_model: str | None = None
    """Another local model, for initialisers that carry its rows over."""
    init_dimension: int | None = None
    """Coordinates that --init ofa keeps of the factorised table; all by default."""
    init_hypernet: Path | None = None
    """Folder that train-hypernet wrote, for --init hypernet; without it one is trained and kept in the cache."""
    calibrate: int = 8
    """Settings of the word stage, and of the pair stage, tried on known words of this model, at most 11; 0 takes the
    built-in ones."""
    evidence_sentences: int = 4
    """Sentences looked at for each known word; for a new term four times as many."""
    word_weight: float | None = None
    """Weight of the rows' own loss beside the pairs: isolated token against the vocabulary, held by the prior. Default:
    as known words choose, or 4; 0 under objectives of language models."""
    objective: str = "anchored_pairs"
    """What training minimises; docs/methods.md explains each."""
    trainable: str = "rows"
    """What is trained: the new rows, something that they are made of, or (and it is said) old weights too."""
    learn_temperature: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Learn the temperature of a contrastive objective, from --temperature on, between 0.01 and 1."""
    hard_negative_weight: float = 1.0
    """How often a pair's own hard negatives count in --objective supervised_simcse."""
    distill_layer: int = -1
    """Layer whose states --objective token_distill compares: -1 the last one, 0 the embeddings."""
    rank: int = 8
    """Directions of --trainable row_lora and full_lora, of --lora and of --two-stage, units of adapter."""
    mix: Literal["softmax", "free"] = "softmax"
    """Coefficients of --trainable mixing: shares of a convex mixture, or any."""
    mix_rows: int = 32
    """Old rows that each new one mixes in --trainable mixing."""
    layers: int = 0
    """Train through so many first layers of the body, with a linear map to the full model's output; 0: all layers."""
    reset_every: int = 0
    """Steps after which rows and optimiser start again; the run nearest to the frozen model is kept. 0: never."""
    two_stage: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Then train LoRA of --rank on the body, and the rows with it, for half as many epochs: old texts move."""
    lora: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Train LoRA of --rank on the body together with the rows, from the first step on: old texts move."""
    epochs: int = 3
    """Passes over the pairs."""
    max_steps: int | None = None
    """End after so many steps of the optimiser, if --epochs are more; a second stage takes half as many."""
    batch_size: int = 32
    """Anchors a step."""
    gradient_accumulation: int = 1
    """Batches a step of the optimiser."""
    optimizer: Literal["adam", "lazy_adam"] = "adam"
    """lazy_adam moves a row only in steps in which its term occurs: for many terms, few in each step."""
    learning_rate: float | None = None
    """Adam's step. Default: as known words choose, or 0.02 x the per-coordinate standard deviation of the embedding
    table; 0.06 without a predictor, and under objectives of language models."""
    temperature: float | None = None
    """InfoNCE temperature: cosines are divided by it. Default: as known words choose, or 0.05."""
    contrast_weight: float | None = None
    """Weight of InfoNCE. Default: as known words choose, or 1."""
    distill_weight: float | None = None
    """Weight of the anchor: 1 - cosine to the frozen model's embedding of the original tokens. Default: as known words
    choose, or 5."""
    bank_size: int = 16384
    """Frozen keys that each anchor is contrasted against in a step (all of them when there are fewer)."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """How the frozen body is held while it trains; rows, losses and optimiser stay fp32."""
    device: Literal["auto", "cpu"] = "auto"
    """auto takes a GPU when there is one."""
    compile: bool = False
    """Compile the layers of the body (torch.compile, needs a C++ compiler): pays where steps are many and small."""
    profile: bool = False
    """Print where the time of a step goes. It waits for the device after each part, so the run takes longer."""
    checkpoint_every: int = 25
    """Optimiser steps between two saved states; a killed run resumes from the last one."""
    report_to: tuple[str, ...] = ()
    """Trackers that get the training curve as it grows: tensorboard, wandb, trackio, or another one of Accelerate's."""

    def problems(self) -> list[str]:
        """Everything that is wrong with these options, one sentence each."""
        found = super().problems()
        found += missing(self, "terms", "pairs", "out")
        found += [
            f"--{flag(name)} must be at least {low}, not {getattr(self, name)}"
            for name, low in (
                ("epochs", 0),
                ("batch_size", 1),
                ("gradient_accumulation", 1),
                ("bank_size", 1),
                ("checkpoint_every", 1),
                ("calibrate", 0),
                ("evidence_sentences", 1),
            )
            if getattr(self, name) < low
        ]
        if self.max_steps is not None and self.max_steps < 1:
            found.append(f"--max-steps must be at least 1, not {self.max_steps}; --epochs 0 trains nothing")
        if self.calibrate > MOST_TRIALS:
            found.append(f"--calibrate must be at most {MOST_TRIALS}, not {self.calibrate}: there are no more settings")
        for name in ("contrast_weight", "distill_weight", "word_weight"):
            if (weight := getattr(self, name)) is not None and not 0 <= weight < math.inf:
                found.append(f"--{flag(name)} must be at least 0 and finite, not {weight}")
        if self.temperature is not None and not 1e-3 <= self.temperature <= 100:
            found.append(f"--temperature must be between 0.001 and 100, not {self.temperature}")
        if self.learning_rate is not None and not 0 < self.learning_rate <= 10:
            found.append(f"--learning-rate must be above 0 and at most 10, not {self.learning_rate}")
        if self.init_dimension is not None and self.init_dimension < 1:
            found.append(f"--init-dimension must be at least 1, not {self.init_dimension}")
        found += self._method_problems()
        from contrastok.reads import unread_problems

        found += unread_problems(self)
        from contrastok.tracking import tracker_problems

        found += tracker_problems(self.report_to)
        from contrastok.initializers import INITIALIZERS
        from contrastok.initializers.context import NEEDS
        from contrastok.initializers.norms import norm_problem

        found += [problem] if (problem := norm_problem(self.init_norm)) else []
        if self.init_model is None and self.init in INITIALIZERS and "model" in INITIALIZERS[self.init].needs:
            found.append(f"--init {self.init} needs {NEEDS['model'].what}: {NEEDS['model'].hint}")
        if self.init != "auto" and self.init not in INITIALIZERS:
            found.append(f"--init {self.init} is no initialiser: {did_you_mean(self.init, ['auto', *INITIALIZERS])}")
        return found

    def _method_problems(self) -> list[str]:
        """What is wrong with the objective, with what is trained, and with their options."""
        from contrastok.objectives import OBJECTIVES
        from contrastok.objectives.contrast import COLDEST, WARMEST, Contrast
        from contrastok.trainables import TRAINABLES

        found = []
        if self.objective not in OBJECTIVES:
            found.append(f"--objective {self.objective} is none: {did_you_mean(self.objective, OBJECTIVES)}")
        if self.trainable not in TRAINABLES:
            found.append(f"--trainable {self.trainable} is none: {did_you_mean(self.trainable, TRAINABLES)}")
        elif self.precision != "fp32" and TRAINABLES[self.trainable].needs_fp32:
            found.append(f"--trainable {self.trainable} needs --precision fp32: it trains copies of the frozen weights")
        chosen = OBJECTIVES.get(self.objective)
        if self.layers and chosen is not None and (chosen.masked or chosen.head):
            found.append(f"--objective {self.objective} has a head for the last layer alone: leave out --layers")
        if self.optimizer != "adam" and self.trainable != "rows":
            found.append(f"--optimizer {self.optimizer} moves rows: leave out --trainable {self.trainable}")
        for name in ("two_stage", "lora"):
            if getattr(self, name):
                found += [f"--{flag(name)} {why}" for wrong, why in self._body_problems() if wrong]
        if self.lora and self.two_stage:
            found.append("--lora trains the body from the first step on, --two-stage later: leave one of them out")
        if self.lora and self.reset_every:
            found.append("--lora moves the body, and --reset-every starts rows alone again: leave one of them out")
        if self.learn_temperature and chosen is not None and not issubclass(chosen.build, Contrast):
            found.append(f"--objective {self.objective} has no temperature: leave out --learn-temperature")
        if self.learn_temperature and self.temperature is not None and not COLDEST <= self.temperature <= WARMEST:
            found.append(f"--learn-temperature starts between {COLDEST} and {WARMEST}, not at {self.temperature}")
        for name, low in (("rank", 1), ("mix_rows", 2), ("layers", 0), ("reset_every", 0)):
            if getattr(self, name) < low:
                found.append(f"--{flag(name)} must be at least {low}, not {getattr(self, name)}")
        if not 0 < self.hard_negative_weight < math.inf:
            found.append(f"--hard-negative-weight must be above 0 and finite, not {self.hard_negative_weight}")
        return found

    @property
    def moves_body(self) -> bool:
        """Whether weights of the body are trained too, so that rows alone are not what was trained."""
        return self.two_stage or self.lora

    def _body_problems(self) -> tuple[tuple[bool, str], ...]:
        """What does not go with LoRA on the body: whether it was asked for, and why."""
        return (
            (self.precision != "fp32", "needs --precision fp32: it trains the body"),
            (self.layers > 0, "trains the whole body: leave out --layers"),
            (self.compile, "changes the layers that --compile has compiled: leave one of them out"),
        )


@dataclass(frozen=True, kw_only=True)
class ApplyConfig(Common):
    """Rebuild a checkpoint from a base model and the compact file of its new rows.

    Example: contrastok apply model/new_rows.safetensors --model minilm --out rebuilt/
    """

    rows: Annotated[Path | None, tyro.conf.Positional] = None
    """The new_rows.safetensors of a checkpoint."""
    model: str = "minilm"
    """The base model that the rows were trained for."""
    out: Path | None = None
    """Folder for the checkpoint."""

    def problems(self) -> list[str]:
        """Everything that is wrong with these options, one sentence each."""
        return super().problems() + missing(self, "rows", "out")


@dataclass(frozen=True, kw_only=True)
class ExportConfig(Common):
    """Write a checkpoint's new rows in another library's format.

    Example: contrastok export --model model/ --format peft --out adapter/
    """

    model: Path | None = None
    """Checkpoint folder that contrastok wrote."""
    format: Literal["peft"] = "peft"
    """peft: an adapter of PEFT's Trainable Tokens, with the tokenizer beside it."""
    out: Path | None = None
    """Folder for the adapter."""

    def problems(self) -> list[str]:
        """Everything that is wrong with these options, one sentence each."""
        return super().problems() + missing(self, "model", "out")


@dataclass(frozen=True, kw_only=True)
class ImportConfig(Common):
    """Make a checkpoint of a base model and an adapter of PEFT's Trainable Tokens.

    Example: contrastok import --adapter adapter/ --model minilm --out model/
    """

    adapter: Path | None = None
    """Folder that contrastok export or PEFT wrote, with the extended tokenizer in it."""
    model: str = "minilm"
    """The base model that the adapter was trained for."""
    out: Path | None = None
    """Folder for the checkpoint."""

    def problems(self) -> list[str]:
        """Everything that is wrong with these options, one sentence each."""
        return super().problems() + missing(self, "adapter", "out")


@dataclass(frozen=True, kw_only=True)
class MethodsConfig(Common):
    """List the methods that train may be given by name, with their sources and what they need.

    Example: contrastok methods --json methods.json
    """


@dataclass(frozen=True, kw_only=True)
class TrainHypernetConfig(Common):
    """Train a network that gives rows for new tokens from the rows of their pieces, on the model's own words.

    Example: contrastok train-hypernet --model minilm --out hypernet/
    """

    model: str = "minilm"
    """Local folder, hub name, or minilm for the packaged all-MiniLM-L6-v2."""
    corpus: tuple[str, ...] = ()
    """Text that says how often words occur, as gen-pairs reads it; without it every known word counts once."""
    glossary: tuple[Path, ...] = ()
    """Definitions of words that the model knows, which the network then reads too: term files or a WordNet folder."""
    out: Path | None = None
    """Folder for the hypernetwork."""
    text_field: str = "text"
    """Field of .jsonl, .csv, .parquet and datasets that holds the text."""
    split: str = "train"
    """Split, where --corpus names a dataset."""
    epochs: int = 10
    """Passes over the vocabulary, each with its tokens split anew."""
    layers: int = 2
    """Layers of the network, which is as wide as the rows."""
    batch_size: int = 256
    """Tokens a step."""
    learning_rate: float = 5e-4
    """Adam's step at its highest."""

    def problems(self) -> list[str]:
        """Everything that is wrong with these options, one sentence each."""
        found = super().problems() + missing(self, "out")
        found += [
            f"--{flag(name)} must be at least 1, not {getattr(self, name)}"
            for name in ("epochs", "layers", "batch_size")
            if getattr(self, name) < 1
        ]
        if not 0 < self.learning_rate <= 1:
            found.append(f"--learning-rate must be above 0 and at most 1, not {self.learning_rate}")
        return found


@dataclass(frozen=True, kw_only=True)
class TransferConfig(Common):
    """Give a model another tokenizer: rows of tokens that both have are copied, all others are predicted.

    Example: contrastok transfer --tokenizer new/ --model minilm --hypernet hypernet/ --texts corpus/ --out model/
    """

    tokenizer: str | None = None
    """The new tokenizer: local folder, hub name, or minilm."""
    model: str = "minilm"
    """The model that gets it: local folder, hub name, or minilm for the packaged all-MiniLM-L6-v2."""
    out: Path | None = None
    """Folder for the model with the new tokenizer."""
    init: str = "hypernet"
    """Initialiser of the rows that are not copied: hypernet, charlen_mean, subtoken_mean, or any other that needs the
    model alone (`contrastok methods` says what each needs)."""
    hypernet: Path | None = None
    """Folder that train-hypernet wrote; without it --init hypernet trains one and keeps it in the cache."""
    texts: tuple[str, ...] = ()
    """Texts on which the old and the new model are compared, as gen-pairs reads them; the first 500 are taken."""
    text_field: str = "text"
    """Field of .jsonl, .csv, .parquet and datasets that holds the text."""
    split: str = "train"
    """Split, where --texts names a dataset."""

    def problems(self) -> list[str]:
        """Everything that is wrong with these options, one sentence each."""
        found = super().problems() + missing(self, "tokenizer", "out")
        from contrastok.initializers import INITIALIZERS
        from contrastok.initializers.context import NEEDS

        able = [name for name, method in INITIALIZERS.items() if {"tokenizer", "encoder"}.issuperset(method.needs)]
        if self.init not in INITIALIZERS:
            found.append(f"--init {self.init} is no initialiser: {did_you_mean(self.init, able)}")
        elif self.init not in able:
            needs = "; ".join(NEEDS[need].what for need in INITIALIZERS[self.init].needs)
            found.append(f"--init {self.init} needs {needs}: tokens of a tokenizer have none; valid: {', '.join(able)}")
        if self.hypernet is not None and self.init != "hypernet":
            found.append(f"--hypernet is for --init hypernet, and --init is {self.init}")
        return found


COMMANDS: dict[str, type[Common]] = {
    **GUIDANCE_COMMANDS,
    "gen-pairs": GenPairsConfig,
    "train": TrainConfig,
    "report": ReportConfig,
    "apply": ApplyConfig,
    "export": ExportConfig,
    "import": ImportConfig,
    "methods": MethodsConfig,
    "train-hypernet": TrainHypernetConfig,
    "transfer": TransferConfig,
    **EVAL_COMMANDS,
}
"""Every command by its name; the first of two words is its group (`contrastok eval relatedness`)."""

GROUPS = {
    "eval": """Measure what the new tokens are worth, every figure beside its baselines.

Example: contrastok eval recovery    --sample 200 --corpus corpus/
         contrastok eval relatedness --model model/
         contrastok eval retrieval   --model model/ --queries queries.jsonl --passages passages.jsonl
         contrastok eval no-harm     --model model/ --texts corpus/
         contrastok eval generation  --model model/ --texts held-out/"""
}
"""The groups of commands, and what they are for."""


def command_name(kind: type[Common]) -> str:
    """The command whose configuration this is."""
    return next((name for name, known in COMMANDS.items() if known is kind), "")


SHOWN = {"config", "dry_run", "overwrite", "quiet", "json", "out", "profile", "report_to", "trust_remote_code"}
"""Options that say how a run goes and is shown, and nothing of its result."""
WORKERS = {"num_proc", "engine", "ray_address"}
"""Where a run is made: the result is the same."""


def as_json(config: Common) -> dict[str, Any]:
    """The options that decide a result, as plain JSON values (paths as text; how it was shown left out)."""
    return {
        f.name: _plain(getattr(config, f.name)) for f in dataclasses.fields(config) if f.name not in SHOWN | WORKERS
    }


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
