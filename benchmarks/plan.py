"""What gen-pairs costs per unit with very many terms, and what that makes of a large job.

    python -m benchmarks.plan [--terms 100000] [--sentences 1000000000] [--rounds 3] [--json FILE]

Each part is measured alone, on drawn text and terms (`benchmarks.gen_pairs`), at the number of terms asked for where its cost
depends on it; the plan multiplies and adds, nothing else. Seconds are CPU seconds of this machine, the median over rounds, so
ratios hold elsewhere and core-hours do not.

* matching: the automaton over all terms, in a process of its own: memory at most while it is made, and time.
* mining: a shard of the usual size, with all terms and with a tenth of them, in turns. All shards but the first few sample
  hardly any of the text: they are told below which threshold the first process still keeps some. So it is measured.
* adding up: what the first process does with a shard's findings, which it writes and adds; a worker more helps until this
  takes all of its time. And the size of findings, of a first and of a late shard.
* findings in memory: of a term of which more was found than is kept.
* negatives: at three numbers of terms, the largest a fifth; a * n + b * n^2 through the first and the last, and how far it
  is from the middle one. Embeddings are drawn; what encoding takes is measured apart.
* pairs: of terms with as many sentences as are kept, and all pairs from them: memory and time of a term.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import pickle
import random
import tempfile
import tracemalloc
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.gen_pairs import draw_terms, draw_text, seconds
from benchmarks.harness import positive, reset_peak, status, write_json
from benchmarks.markdown import table
from contrastok.bank import FrozenEncoder
from contrastok.config import GenPairsConfig
from contrastok.data_gen.corpus import Shard, whole_shards
from contrastok.data_gen.engines import Job, mine_shard
from contrastok.data_gen.evidence import Evidence, MiningOptions
from contrastok.data_gen.findings import Findings, Sentence
from contrastok.data_gen.fold import Fold
from contrastok.data_gen.negatives import BLOCK, negative_sources
from contrastok.data_gen.pair_kinds import choose_kinds
from contrastok.data_gen.pipeline import build_term, read_words
from contrastok.data_gen.shards import SHARD, cut_shards
from contrastok.data_gen.terms import Term
from contrastok.data_gen.text_sample import CHARACTERS, TextSample
from contrastok.files import atomic_file
from contrastok.models import load_model, load_tokenizer

MODEL = "minilm"
WITH_TERM = 0.01
"""Share of sentences with a term."""
ALL = 2**64
"""Threshold of the sample before any text was read."""
FEW = 64
"""Terms of which pairs are made, and whose findings are held."""
TEXTS = 256
"""Texts that are encoded."""


@dataclass(frozen=True)
class Costs:
    """What a unit takes; seconds are of one core.

    Attributes:
        terms: number of terms, on which the figures of automaton, mining and adding up depend.
        automaton_bytes, automaton_seconds: to make the one over all terms.
        sentences_per_mb: of the text.
        shard_mb: size of the shard.
        mining: seconds for a shard.
        mining_tenth: the same with a tenth of the terms.
        adding: seconds for a late shard's findings, written and added.
        first_bytes, late_bytes: findings of the first and of a late shard.
        found_bytes: memory of the findings of one term.
        negatives_linear, negatives_square: seconds a and b of a * n + b * n^2.
        negatives_error: how far that is from the middle number of terms, as a share.
        encoding: seconds for a text.
        dim: of an embedding.
        pairs: of a term.
        pairs_bytes, pairs_seconds: memory and time of a term's pairs.
    """

    terms: int
    automaton_bytes: float
    automaton_seconds: float
    sentences_per_mb: float
    shard_mb: float
    mining: float
    mining_tenth: float
    adding: float
    first_bytes: float
    late_bytes: float
    found_bytes: float
    negatives_linear: float
    negatives_square: float
    negatives_error: float
    encoding: float
    dim: int
    pairs: float
    pairs_bytes: float
    pairs_seconds: float


def late_threshold(characters: float) -> int:
    """Below which the sample still takes text when so much was read: a power of two."""
    return int(2 ** (64 - max(0, math.ceil(math.log2(characters / CHARACTERS)))))


def matching(job: Job) -> dict[str, float]:
    """Memory and time of the automaton; in a process that holds nothing else."""
    before = reset_peak()
    took = seconds(job.matcher)
    return {"automaton_bytes": status("VmHWM") - before, "automaton_seconds": took}


def mining(job: Job, tenth: Job, late: int, rounds: int, folder: Path) -> dict[str, float]:
    """Shards mined, and their findings added up."""
    shards, text = [], None
    for some in (tenth, job):
        text = draw_text(folder / f"{len(some.terms)}.txt", 2 * SHARD, some.terms, WITH_TERM)
        shards.append(cut_shards(whole_shards([str(text.path)], some.text_field, some.split), SHARD)[:2])
    assert text is not None
    took: list[list[float]] = [[], []]
    for _ in range(rounds):
        for some, parts, found in zip((tenth, job), shards, took, strict=True):
            packed = pickle.dumps(some)
            mine_shard(packed, Shard(parts[0].source, 0, 1), late)  # makes the automaton
            found.append(seconds(lambda packed=packed, part=parts[0]: mine_shard(packed, part, late)))
    one, other = (mine_shard(pickle.dumps(job), part, late) for part in shards[1])

    def add() -> float:
        total = job.nothing()
        total.add(one)
        return seconds(lambda: _take(total, other, folder / "findings"))

    return {
        "sentences_per_mb": text.sentences / (text.size / 1e6),
        "shard_mb": SHARD / 1e6,
        "mining_tenth": median(took[0]),
        "mining": median(took[1]),
        "adding": median(add() for _ in range(rounds)),
        "first_bytes": len(mine_shard(pickle.dumps(job), shards[1][0], ALL)),
        "late_bytes": len(other),
    }


def _take(total: Findings, data: bytes, file: Path) -> None:
    """What `mine_shards` does with a shard's findings."""
    with atomic_file(file) as partial:
        partial.write_bytes(data)
    total.add(data)


def traced(make: Callable[[], Any]) -> int:
    """Bytes of memory of what is made."""
    tracemalloc.start()
    made = make()
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del made
    return size


def sentences_with(term: str, texts: Sequence[str], draw: random.Random, count: int) -> tuple[Sentence, ...]:
    """So many sentences of a text, with a term put in front of each."""
    drawn = enumerate(draw.choices(texts, k=count))
    return tuple(Sentence(f"{term} {i} {text}", ((0, len(term)),), f"corpus.txt:{i}") for i, text in drawn)


def held(options: MiningOptions, texts: Sequence[str]) -> dict[str, float]:
    """Memory of the findings of a term that is frequent."""

    def fill() -> Findings:
        draw = random.Random(3)
        found = Findings(FEW, options.max_sentences, TextSample(0, 0))
        for term in range(FEW):
            for sentence in sentences_with("term", texts, draw, 4 * options.max_sentences):
                found.keep(term, draw.getrandbits(64), sentence)
            for _ in range(2 * found.different[term].k - 1 - 4 * options.max_sentences):
                found.different[term].add(draw.getrandbits(64))
        return found

    return {"found_bytes": traced(fill) / FEW}


def glossary(tokens: Sequence[str], texts: Sequence[str], draw: random.Random) -> list[Term]:
    """Terms with a definition, a synonym and a category of fifty."""
    return [
        Term(token, draw.choice(texts), (f"{token} {token[:3]}",), (f"category {i % max(1, len(tokens) // 50)}",))
        for i, token in enumerate(tokens)
    ]


def negatives(tokens: Sequence[str], fold: Fold, texts: Sequence[str], dim: int, rounds: int) -> dict[str, float]:
    """How the time for negatives grows with the number of terms."""
    sizes = [len(tokens) // 20, len(tokens) // 10, len(tokens) // 5]
    draw, noise = random.Random(4), np.random.default_rng(4)
    took = []
    for size in sizes:
        terms = glossary(tokens[:size], texts, draw)
        evidence = {term.token: Evidence(4, sentences_with(term.token, texts, draw, 4)) for term in terms}
        embeddings = noise.standard_normal((size, dim), np.float32)
        embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
        made = partial(negative_sources, terms, evidence, embeddings, fold, 0)
        took.append(median(seconds(lambda made=made: deque(made(), maxlen=0)) for _ in range(rounds)))
    return fitted(sizes, took)


def fitted(sizes: Sequence[int], took: Sequence[float]) -> dict[str, float]:
    """a * n + b * n^2 through the first and the last of three, and how far the second is from it."""
    first, last = (time / size for time, size in ((took[0], sizes[0]), (took[-1], sizes[-1])))
    square = (last - first) / (sizes[-1] - sizes[0])
    linear = first - square * sizes[0]
    told = linear * sizes[1] + square * sizes[1] ** 2
    return {"negatives_linear": linear, "negatives_square": square, "negatives_error": abs(told / took[1] - 1)}


def pairs(tokens: Sequence[str], texts: Sequence[str], folder: Path) -> dict[str, float]:
    """Pairs of a few terms, and what it takes to encode the texts that stand for terms."""
    draw = random.Random(5)
    terms = glossary(tokens[:FEW], texts, draw)
    file = folder / "terms.jsonl"
    told = [{"token": t.token, "definition": t.definition, "synonyms": t.synonyms, "broader": t.broader} for t in terms]
    file.write_text("\n".join(map(json.dumps, told)))
    config = GenPairsConfig(terms=(file,), model=MODEL, known_sentences=0)
    words, kinds = read_words(config), choose_kinds(())
    model = load_model(MODEL)
    encoder = FrozenEncoder(model, model.tokenizer, cache=False)
    encoding = seconds(lambda: encoder.encode(texts[:TEXTS])) / len(texts[:TEXTS])
    embeddings = encoder.encode([term.definition for term in words.terms])
    count = config.max_sentences
    evidence = {t.token: Evidence(count, sentences_with(t.token, texts, draw, count)) for t in words.terms}

    def make() -> list[Any]:
        sources = list(negative_sources(words.terms, evidence, embeddings, words.fold, config.seed))
        return [
            (source, build_term(row, evidence[term.token], source, kinds, words, config))
            for row, (term, source) in enumerate(zip(words.terms, sources, strict=True))
        ]

    made = make()
    return {
        "encoding": encoding,
        "dim": embeddings.shape[1],
        "pairs": sum(len(built) for _, (built, _) in made) / len(made),
        "pairs_seconds": seconds(make) / len(made),
        "pairs_bytes": traced(make) / len(made),
    }


def planned(costs: Costs, sentences: float) -> dict[str, float]:
    """What a job with the same number of terms amounts to."""
    megabytes = sentences / costs.sentences_per_mb
    shards = megabytes / costs.shard_mb
    first = math.log(shards) + 0.5772 if shards > 1 else 1.0  # a shard samples as much as its share of what was read
    found = costs.terms * costs.found_bytes + CHARACTERS
    similar = costs.terms * costs.dim * 4 + BLOCK * costs.terms * 4
    return {
        "gigabytes": megabytes / 1e3,
        "shards": shards,
        "mining_core_hours": shards * costs.mining / 3600,
        "workers": costs.mining / costs.adding,
        "mining_hours_at_most_workers": shards * costs.adding / 3600,
        "findings_gigabytes": (shards * costs.late_bytes + first * (costs.first_bytes - costs.late_bytes)) / 1e9,
        "worker_gigabytes": costs.automaton_bytes / 1e9,
        "first_process_gigabytes": (found + max(costs.terms * costs.pairs_bytes, similar)) / 1e9,
        "found_gigabytes": found / 1e9,
        "pairs_gigabytes": costs.terms * costs.pairs_bytes / 1e9,
        "encoding_core_hours": costs.terms * costs.encoding / 3600,
        "negatives_core_hours": (costs.negatives_linear + costs.negatives_square * costs.terms) * costs.terms / 3600,
        "pairs_core_hours": costs.terms * costs.pairs_seconds / 3600,
    }


def shown(costs: Costs, plan: dict[str, float], sentences: float) -> str:
    """Two tables: costs per unit, and the plan."""
    thousands, square = costs.terms / 1000, costs.negatives_square
    unit = [
        ("automaton, for 1,000 terms", f"{costs.automaton_bytes / thousands / 1e6:.2f} MB, {costs.automaton_seconds / thousands * 1e3:.0f} ms"),
        ("mining, a core", f"{costs.shard_mb / costs.mining:.1f} MB/s; {costs.mining / costs.mining_tenth:.2f} times as long as with a tenth of the terms"),
        ("adding up a shard's findings, to mining it", f"1/{costs.mining / costs.adding:,.0f}"),
        ("findings of a shard on disk", f"{costs.late_bytes / 1e6:.2f} MB; of the first ones {costs.first_bytes / 1e6:.1f} MB, with the sample of all text"),
        ("findings of a frequent term in memory", f"{costs.found_bytes / 1e3:.0f} kB"),
        ("encoding, for 1,000 terms", f"{costs.encoding * 1e3:.1f} s"),
        ("negatives, for 1,000 of n terms", f"{costs.negatives_linear * 1e3:.2f} s + {square * 1e6:.2f} s for each 1,000 of n (off by {costs.negatives_error:.0%} between)"),
        ("pairs of a term", f"{costs.pairs:.0f} pairs, {costs.pairs_bytes / 1e3:.0f} kB, {costs.pairs_seconds * 1e3:.0f} ms"),
    ]  # fmt: skip
    whole = [
        ("text", f"{plan['gigabytes']:,.0f} GB in {plan['shards']:,.0f} shards"),
        ("mining", f"{plan['mining_core_hours']:,.1f} core-hours"),
        ("workers beyond which more do not help", f"{plan['workers']:,.0f}: adding up then takes {plan['mining_hours_at_most_workers'] * 60:,.1f} minutes"),
        ("findings on disk", f"{plan['findings_gigabytes']:,.1f} GB"),
        ("memory of a worker for terms", f"{plan['worker_gigabytes']:,.2f} GB"),
        ("memory of the first process at most", f"{plan['first_process_gigabytes']:,.1f} GB: findings {plan['found_gigabytes']:,.1f}, pairs {plan['pairs_gigabytes']:,.1f}"),
        ("encoding, negatives, pairs, one after the other", f"{plan['encoding_core_hours']:.2f}, {plan['negatives_core_hours']:.2f}, {plan['pairs_core_hours']:.2f} core-hours"),
    ]  # fmt: skip
    return "\n\n".join(
        [
            table(("cost", f"with {costs.terms:,} terms"), unit),
            table(("part", f"{sentences:,.0f} sentences, {costs.terms:,} terms"), whole),
        ]
    )


def measured(count: int, sentences: float, rounds: int, folder: Path) -> Costs:
    """Measure everything with so many terms."""
    tokens, fold = draw_terms(count), Fold(load_tokenizer(MODEL))
    job, tenth = (Job(tuple(tokens[:some]), fold, MiningOptions()) for some in (count, count // 10))
    late = late_threshold(sentences * 130 / 2)  # when half of it was read; a sentence of the text has 130 characters
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        found: dict[str, Any] = pool.submit(matching, job).result()
    found |= mining(job, tenth, late, rounds, folder)
    text = draw_text(folder / "some.txt", 1_000_000, tokens, 0).path.read_text()
    texts = [part.strip() for part in text.replace("\n", " ").split(".") if part.strip()]
    found |= pairs(tokens, texts, folder) | held(job.options, texts)
    found |= negatives(tokens, fold, texts, found["dim"], rounds)
    return Costs(count, **found)


def main() -> None:
    """Measure, plan, and print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--terms", type=positive, default=100_000, help="number of terms")
    parser.add_argument("--sentences", type=positive, default=10**9, help="of the text that is planned for")
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        costs = measured(options.terms, options.sentences, options.rounds, Path(folder))
    plan = planned(costs, options.sentences)
    print(shown(costs, plan, options.sentences))
    write_json({"sentences": options.sentences, "costs": vars(costs), "plan": plan}, options.json)


if __name__ == "__main__":
    main()
