"""How long will it take, and is there enough memory?"""

from __future__ import annotations

from collections.abc import Iterator

import psutil

from contrastok.doctor.case import Case
from contrastok.doctor.finding import Finding, State, check
from contrastok.overlay import detach
from contrastok.story import Vocabulary
from contrastok.trainer import estimate


@check("gen-pairs: time and memory")
def of_gen_pairs(case: Case) -> Iterator[Finding]:
    """What reading the whole corpus takes, by its first megabytes."""
    if case.mined is None:
        return
    found = case.mined[1]
    detail = (
        f"about {found.seconds:,.0f} s of reading {found.corpus_bytes / 1e6:,.1f} MB, "
        f"{found.sentences:,} sentences in {found.memory_mb:,.0f} MB of memory"
    )
    yield Finding("gen-pairs: time and memory", *_judged(detail, found.memory_mb, "lower --max-sentences"))


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
    detail = f"{found['steps']:,} steps in about {found['seconds']:,.0f} s, about {found['memory_mb']:,} MB of memory"
    advice = "lower --batch-size, or give --precision bf16"
    yield Finding("train: time and memory", *_judged(detail, found["memory_mb"], advice))


def _judged(detail: str, megabytes: float, advice: str) -> tuple[State, str, str]:
    """State, detail and advice for a need of memory."""
    memory = psutil.virtual_memory()
    free, all_of_it = memory.available / 2**20, memory.total / 2**20
    state: State = "problem" if megabytes > all_of_it else "warning" if megabytes > free else "ok"
    return state, f"{detail}; {free:,.0f} MB are free", "" if state == "ok" else advice
