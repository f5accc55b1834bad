"""How long will it take, and is there enough memory?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import psutil
import torch

from contrastok.bank import FrozenEncoder
from contrastok.data_gen.estimate import Estimate
from contrastok.data_gen.evidence import Mined
from contrastok.data_gen.known import KnownOptions
from contrastok.data_gen.known_cost import known_seconds
from contrastok.data_gen.negatives import describing_text
from contrastok.data_gen.text_sample import CHARACTERS
from contrastok.doctor.case import Case
from contrastok.doctor.finding import Finding, State, check
from contrastok.overlay import detach
from contrastok.own_time import timed
from contrastok.story import Vocabulary
from contrastok.trainer import estimate

TEXTS, BLOCKS = 64, 1_000
"""Terms and blocks of the corpus by which an estimate is made."""


@check("gen-pairs: time and memory")
def of_gen_pairs(case: Case) -> Iterator[Finding]:
    """What gen-pairs takes, by the first megabytes of the corpus, some terms and some of the known words' texts."""
    if case.mined is None:
        return
    name, (mined, found) = "gen-pairs: time and memory", case.mined
    parts = {f"reading {_megabytes(found)}": found.seconds}
    if case.gen_pairs.negatives:
        parts[f"comparing {len(mined.evidence):,} terms (--negatives)"] = _comparing(case, mined)
    if case.known_sentences:
        parts[f"evidence of {len(case.known.words):,} known words (--known-sentences)"] = _known(case, found)
    took = f"{sum(parts.values()):,.0f} s: {_told(parts)}, without loading the model{_written(case)}"
    needs = f"{found.sentences:,} sentences in {found.memory_mb:,.0f} MB of memory"
    if not found.size_known:
        yield Finding(
            name, "warning", f"size unknown: its beginning alone takes {took}; {needs}",
            "count on more, the more text there is",
        )  # fmt: skip
        return
    yield Finding(name, *_judged(f"about {took}; {needs}", found.memory_mb, "lower --max-sentences", _of_the_host()))


def _megabytes(found: Estimate) -> str:
    """What is read of the corpus, in words."""
    size = found.corpus_bytes if found.size_known else found.sample_characters
    return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{size:,} bytes"


def _told(parts: Mapping[str, float]) -> str:
    return ", ".join(f"{seconds:,.0f} s of {what}" if seconds >= 0.5 else f"<1 s of {what}"
                     for what, seconds in parts.items())  # fmt: skip


def _comparing(case: Case, mined: Mined) -> float:
    """Seconds of encoding what the terms are compared by."""
    encoder = FrozenEncoder(case.model, case.model.tokenizer, cache=False)
    texts = [describing_text(term, mined.evidence[term.token]) for term in case.words.terms]
    encoder.encode(texts[:1])  # what only a first call takes
    some = texts[:: max(1, len(texts) // TEXTS)]
    return timed(lambda: encoder.encode(some), case.model.device.type)[1] * len(texts) / len(some)


def _known(case: Case, found: Estimate) -> float:
    """Seconds of collecting evidence of the words that the model knows."""
    blocks = list(islice(case.sample.blocks(), BLOCKS))
    factor = min(found.characters, CHARACTERS) / max(1, sum(map(len, blocks)))
    config = case.gen_pairs
    options = KnownOptions(config.seed, case.known_sentences, config.min_words, config.max_words)
    return known_seconds(case.known, blocks, factor, case.words.base, options)


def _written(case: Case) -> str:
    return " or what the language model of --llm writes" if case.gen_pairs.llm else ""


@check("train: time and memory")
def of_train(case: Case) -> Iterator[Finding]:
    """What training takes, by a few real steps."""
    if case.pairs is None:
        return
    words = Vocabulary(case.words.plan, case.extended, case.gate)
    try:
        found = estimate(case.model, words, case.pairs, case.evidence, case.train)
    finally:
        detach(case.model)
    detail = (
        f"{found['steps']:,} steps in about {found['seconds']:,.0f} s{_spent(found)}, "
        f"about {found['memory_mb']:,} MB of memory"
    )
    advice = "lower --batch-size, or give --precision bf16"
    yield Finding("train: time and memory", *_judged(detail, found["memory_mb"], advice, _where(case.model.device)))


def _spent(found: Mapping[str, Any]) -> str:
    """On what training spends its time, and what makes it shorter where most is spent before the first step."""
    spent = found["seconds_of"]
    texts = f"encoding {found['known_texts']:,} texts of known words"
    named = {texts: "known_words", f"encoding {found['keys']:,} keys": "keys", "learning the map": "map",
             "calibration on known words": "calibration", "the steps": "steps"}  # fmt: skip
    told = _told({what: spent[part] for what, part in named.items() if spent[part]})
    prior = sum(spent[part] for part in ("known_words", "map", "calibration"))
    shorter = (
        " (shorter: a lower --evidence-sentences, --calibrate 0, or --init charlen_mean for no known words at all)"
    )
    return f": {told}{shorter if prior > found['seconds'] / 2 else ''}"


@dataclass(frozen=True)
class _Memory:
    """In MB, and whose it is."""

    free: float
    total: float
    name: str


def _where(device: torch.device) -> _Memory:
    """The memory in which a model on this device is trained."""
    if device.type != "cuda":
        return _of_the_host()
    free, total = torch.cuda.mem_get_info(device)
    held = torch.cuda.memory_reserved(device)  # by the model that was just tried
    return _Memory((free + held) / 2**20, total / 2**20, "MB of the GPU")


def _of_the_host() -> _Memory:
    memory = psutil.virtual_memory()
    return _Memory(memory.available / 2**20, memory.total / 2**20, "MB")


def _judged(detail: str, megabytes: float, advice: str, memory: _Memory) -> tuple[State, str, str]:
    """State, detail and advice for a need of memory."""
    state: State = "problem" if megabytes > memory.total else "warning" if megabytes > memory.free else "ok"
    return state, f"{detail}; {memory.free:,.0f} {memory.name} are free", "" if state == "ok" else advice
