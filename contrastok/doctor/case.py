"""What the checks look at, each part read when the first check asks for it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from contrastok.config import GenPairsConfig, TrainConfig
from contrastok.config_file import from_toml
from contrastok.console import Console
from contrastok.data_gen import text_sample
from contrastok.data_gen.corpus import Document, read_corpus
from contrastok.data_gen.corpus_size import corpus_size
from contrastok.data_gen.estimate import Estimate, estimate_run
from contrastok.data_gen.evidence import Mined, mine
from contrastok.data_gen.known import KnownPlan
from contrastok.data_gen.pipeline import Words, mining_job, read_words
from contrastok.data_gen.text_sample import TextSample
from contrastok.doctor.once import once
from contrastok.evidence import WordEvidence, read_evidence
from contrastok.gate import GateReport, run_gate
from contrastok.guidance_config import DoctorConfig
from contrastok.lm_head import load_with_head
from contrastok.models import input_embedding, tokenizer_fingerprint
from contrastok.pairs import PairTable, read_pairs
from contrastok.vocabulary import extend_tokenizer

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedTokenizerFast

TEXTS = 20_000
"""At most so many of the user's texts go through the gate, as in train."""
CHARACTERS = 1_000_000
"""Text of the corpus, with terms or without, that goes through it."""


class Case:
    """A run that is planned: its options, and what they name.

    Args:
        config: the options of `doctor`.
        console: where progress is shown.

    Attributes:
        gen_pairs, train: the options that the two commands would get; the tables [gen-pairs] and [train] of --config
            say what `doctor` has no options for. Known words, which most checks need not wait for, are left out.
        known_sentences: of each known word, as gen-pairs would get it.

    Raises:
        ContrastokError: --config, or what it says for the two commands, is wrong.
    """

    def __init__(self, config: DoctorConfig, console: Console) -> None:
        self.config, self.console = config, console
        ours = from_toml(GenPairsConfig, config.config) if config.config else GenPairsConfig()
        theirs = from_toml(TrainConfig, config.config) if config.config else TrainConfig()
        shared = ("terms", "model", "seed", "token_mode", "strict")
        same = {name: getattr(config, name) for name in shared} | {"quiet": True}
        own = {name: getattr(config, name) for name in ("corpus", "glossary", "text_field", "split")}
        # what was not given is not looked at, but options are valid as a whole only
        out = config.out or Path(os.devnull)
        own |= {"corpus": config.corpus or ("corpus",)}
        self.gen_pairs = dataclasses.replace(ours, **same, **own, out=out, known_sentences=0)
        self.known_sentences = ours.known_sentences
        self.train = dataclasses.replace(theirs, **same, pairs=config.pairs or Path("pairs"), out=out)
        self.gen_pairs.validate()
        self.train.validate()

    @once
    def model(self) -> SentenceTransformer:
        """The base model, with its language-model head if it has one."""
        return load_with_head(self.config.model)

    @once
    def words(self) -> Words:
        """The terms, what glossaries say of them, and the plan of their tokens; those that cannot be added left out."""
        return read_words(dataclasses.replace(self.gen_pairs, strict=False))

    @once
    def known(self) -> KnownPlan:
        """The words of the model of which gen-pairs would collect evidence, too."""
        return read_words(dataclasses.replace(self.gen_pairs, strict=False, known_sentences=self.known_sentences)).known

    @once
    def extended(self) -> PreTrainedTokenizerFast:
        """The tokenizer with the new tokens."""
        return extend_tokenizer(self.words.base, self.words.plan)

    @once
    def pairs(self) -> PairTable | None:
        """What gen-pairs wrote, if it was given."""
        return read_pairs(self.config.pairs, tokenizer_fingerprint(self.words.base)) if self.config.pairs else None

    @once
    def evidence(self) -> tuple[WordEvidence, ...] | None:
        """What gen-pairs wrote beside the pairs."""
        return read_evidence(self.config.pairs) if self.config.pairs else None

    @once
    def mined(self) -> tuple[Mined, Estimate] | None:
        """What the first megabytes of the corpus, if there is one, say of the terms, and what all of it would take."""
        if not self.config.corpus:
            return None
        kept: list[Mined] = []
        job = mining_job(self.words, self.gen_pairs)

        def first(documents: Iterable[Document]) -> Mined:
            sample = TextSample(self.config.seed, job.sampled)
            kept.append(
                mine(self._sampled(documents), job.terms, job.matcher(), self.words.confirm, job.options, sample)
            )
            return kept[0]

        documents = read_corpus(self.config.corpus, self.config.text_field, self.config.split)
        size = corpus_size(self.config.corpus, self.config.text_field)
        sampled = text_sample.CHARACTERS if self.known_sentences else 0  # for the known words
        estimate = estimate_run(documents, first, size, self.gen_pairs.max_sentences, sampled)
        return kept[0], estimate

    @once
    def sentences(self) -> dict[str, list[str]]:
        """Different texts in which each term should be found: the anchors of its pairs, and sentences of the corpus."""
        found: dict[str, dict[str, None]] = {term: {} for term in self.words.plan.terms}
        if self.pairs is not None:
            for term, anchor in zip(self.pairs.token, self.pairs.anchor, strict=True):
                found.get(term, {})[anchor] = None
        if self.mined is not None:
            for term, evidence in self.mined[0].evidence.items():
                found[term].update(dict.fromkeys(sentence.text for sentence in evidence.sentences))
        return {term: list(texts) for term, texts in found.items()}

    @once
    def gate(self) -> GateReport:
        """The gate of train, on the user's own texts."""
        texts: dict[str, list[str]] = {}
        if self.pairs is not None:
            texts["pairs"] = list(dict.fromkeys([*self.pairs.anchor, *self.pairs.positive]))[:TEXTS]
        if self.mined is not None:
            texts["corpus"] = self.sample.blocks()[:TEXTS]
        rows = input_embedding(self.model).weight.shape[0]
        return run_gate(self.words.base, self.extended, self.words.plan, texts, rows)

    @once
    def sample(self) -> TextSample:
        """Text of the corpus, with terms or without; it fills as `mined` reads."""
        return TextSample(self.config.seed, CHARACTERS)

    def _sampled(self, documents: Iterable[Document]) -> Iterator[Document]:
        for document in documents:
            self.sample.offer(document.text)
            yield document
