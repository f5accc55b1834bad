"""How long will it take, and is there enough memory?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import torch

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
    name, found = "gen-pairs: time and memory", case.mined[1]
    needs = f"{found.sentences:,} sentences in {found.memory_mb:,.0f} MB of memory"
    if not found.size_known:
        read = f"the first {found.sample_characters / 1e6:,.1f} MB alone take {found.seconds:,.0f} s, {needs}"
        yield Finding(name, "warning", f"size unknown: {read}", "count on more, the more text there is")
        return
    detail = f"about {found.seconds:,.0f} s of reading {found.corpus_bytes / 1e6:,.1f} MB, {needs}"
    yield Finding(name, *_judged(detail, found.memory_mb, "lower --max-sentences", _of_the_host()))


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
    yield Finding("train: time and memory", *_judged(detail, found["memory_mb"], advice, _where(case.model.device)))


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
