from __future__ import annotations

import json
import shutil
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers
from transformers import PreTrainedTokenizerFast

from contrastok.console import Console
from contrastok.data_gen import engines, evidence
from contrastok.data_gen.corpus import Document, whole_shards
from contrastok.data_gen.engines import Job
from contrastok.data_gen.evidence import Miner, MiningOptions, conclude
from contrastok.data_gen.findings import Findings, Sentence
from contrastok.data_gen.fold import Fold
from contrastok.data_gen.matcher import TermMatcher
from contrastok.data_gen.mining import KeptShards, mine_shards
from contrastok.data_gen.reservoir import Distinct, keyed_hash
from contrastok.data_gen.shards import cut_shards
from contrastok.data_gen.text_sample import TextSample
from contrastok.errors import ConfigError, ContrastokError, InputError
from contrastok.scale_config import ScaleOptions

TERMS = ("halloumi", "sumac")
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def job() -> Job:
    backend = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    fold = Fold(PreTrainedTokenizerFast(tokenizer_object=backend))
    return Job(TERMS, fold, MiningOptions(max_sentences=5), sampled=600)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    lines = [
        f"We ate {'Halloumi' if i % 2 else 'Crème'} with sumac, {chr(97 + i % 26) * (i % 7 + 1)}.\n" for i in range(60)
    ]
    (folder / "a.txt").write_text("".join(lines[:40]))
    (folder / "b.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines[40:]))
    return folder


def read(job: Job, documents: Iterator[Document] | list[Document]) -> Findings:
    findings = job.nothing()
    Miner(job.terms, TermMatcher(job.terms, job.fold), job.options, findings).read(documents)
    return findings


def mined(corpus: Path, job: Job, size: int = 500, **options: Any) -> bytes:
    shards = cut_shards(whole_shards([str(corpus)], "text", "train"), size)
    kept = KeptShards.of(corpus.parent / "out", job, "tokenizer")
    return mine_shards(shards, job, ScaleOptions(**options), kept, QUIET).to_bytes()


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sources of the shards that are mined from now on."""
    read_ones: list[str] = []
    before = engines.mine_shard

    def mine(packed: bytes, shard: Any, threshold: int) -> bytes:
        read_ones.append(f"{shard.path.name}:{shard.start}")
        return before(packed, shard, threshold)

    monkeypatch.setattr(engines, "mine_shard", mine)
    return read_ones


def test_shards_and_processes_change_nothing(corpus: Path, job: Job) -> None:
    whole = mined(corpus, job, size=10**6)
    assert mined(corpus, job) == whole
    KeptShards.of(corpus.parent / "out", job, "tokenizer").clear()
    assert mined(corpus, job, num_proc=2) == whole
    found = job.nothing()
    found.add(whole)
    evidence = conclude(found, TERMS, lambda texts, term: [True] * len(texts))
    assert (evidence.documents, evidence.sentences) == (60, 60)
    assert len(evidence.evidence["sumac"].sentences) == 5 < evidence.evidence["sumac"].found
    assert 0 < sum(map(len, found.sample.blocks())) <= 600 and found.sample.threshold < 2**64


def test_terms_that_a_shard_does_not_hold_cost_nothing() -> None:
    """Adding up is done by one process for all workers."""
    sizes = []
    for terms in (10, 100_000):
        findings = Findings(terms, 5, TextSample(0, 0))
        findings.keep(7, 1, Sentence("Sumac is sour.", ((0, 5),), "a.txt:1"))
        sizes.append(len(findings.to_bytes()))
    assert sizes[1] < sizes[0] + 100
    with pytest.raises(ValueError, match="about other terms"):
        Findings(10, 5, TextSample(0, 0)).add(findings.to_bytes())


def test_how_much_is_searched_at_once_changes_nothing(corpus: Path, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    together = mined(corpus, job)
    for characters in (1, 100):
        monkeypatch.setattr(evidence, "TOGETHER", characters)
        shutil.rmtree(corpus.parent / ".out.shards")
        assert mined(corpus, job) == together


def test_a_run_goes_on_with_the_shards_that_are_left(
    corpus: Path, job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = mined(corpus, job)
    kept = KeptShards.of(tmp_path / "out", job, "tokenizer")
    count = len(list(kept.folder.iterdir()))
    kept.clear()
    good = (corpus / "b.jsonl").read_text()
    (corpus / "b.jsonl").write_text("{broken")
    with pytest.raises(InputError, match=r"b\.jsonl:1"):
        mined(corpus, job)
    (corpus / "b.jsonl").write_text(good)
    read_ones = counted(monkeypatch)
    assert mined(corpus, job) == whole
    assert {name.split(":")[0] for name in read_ones} == {"b.jsonl"} and len(read_ones) < count
    read_ones.clear()
    assert mined(corpus, job) == whole and not read_ones
    some = sorted(kept.folder.iterdir())[0]
    some.write_bytes(some.read_bytes()[:-40])  # cut short by a crash of the machine
    assert mined(corpus, job) == whole and len(read_ones) == 1
    other = replace(job, options=replace(job.options, seed=1))
    assert mined(corpus, other) != whole and len(read_ones) == 1 + count


def test_an_error_in_a_worker_is_told_as_in_this_process(corpus: Path, job: Job) -> None:
    (corpus / "a.txt").write_bytes(b"Gruy\xe8re\n")
    messages = []
    for workers in (1, 2):
        with pytest.raises(InputError) as caught:
            mined(corpus, job, num_proc=workers)
        messages.append(str(caught.value))
    assert messages[0] == messages[1] and "a.txt:1" in messages[0] and "iconv" in messages[0]


def test_a_worker_that_is_lost_is_told(corpus: Path, job: Job) -> None:
    shard = whole_shards([str(corpus)], "text", "train")[0]

    def lose_one() -> None:
        with engines.local(job, ScaleOptions(num_proc=2)) as submit:
            submit(shard, 2**64)()
            for child in active_children():
                child.kill()
            submit(shard, 2**64)()

    with pytest.raises(ContrastokError, match="a worker ended before its shard was done"):
        lose_one()


@pytest.fixture
def ray() -> Iterator[None]:
    """Started once: that takes longer than everything else."""
    engine = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    engines._start(engine.init, ScaleOptions(engine="ray", num_proc=2))
    yield
    engine.shutdown()


def test_ray_finds_the_same(corpus: Path, job: Job, ray: None) -> None:
    whole = mined(corpus, job)
    for workers in (1, 2):
        KeptShards.of(corpus.parent / "out", job, "tokenizer").clear()
        assert mined(corpus, job, engine="ray", num_proc=workers) == whole
    (corpus / "a.txt").write_bytes(b"Gruy\xe8re\n")
    with pytest.raises(InputError, match=r"a\.txt:1: is not UTF-8"):
        mined(corpus, job, engine="ray")


def test_without_ray_the_extra_is_named(corpus: Path, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'contrastok\[ray\]'"):
        mined(corpus, job, engine="ray")


@settings(max_examples=12)
@given(cut=st.lists(st.integers(0, 40), max_size=4), size=st.sampled_from([0, 100, 10_000]))
def test_findings_add_up_however_text_is_divided(job: Job, cut: list[int], size: int) -> None:
    sized = replace(job, sampled=size)
    documents = [
        Document(f"Here {'halloumi' * (i % 3 > 0)} stands {chr(97 + i % 11)} today.", f"x:{i}") for i in range(40)
    ]
    edges = [0, *sorted(cut), 40]
    total = sized.nothing()
    for start, stop in pairwise(edges):
        total.add(read(sized, documents[start:stop]).to_bytes())
    assert total.to_bytes() == read(sized, documents).to_bytes()


@pytest.mark.parametrize("data", [b"", b"PAR1 nothing", "of other terms"])
def test_what_are_no_findings_is_refused(job: Job, data: bytes | str) -> None:
    given_data = replace(job, terms=("one",)).nothing().to_bytes() if isinstance(data, str) else data
    with pytest.raises(ValueError, match="findings"):
        job.nothing().add(given_data)


@given(values=st.lists(st.integers(0, 300)), k=st.integers(2, 40), shuffle=st.randoms())
def test_different_hashes_are_counted_whatever_their_order(values: list[int], k: int, shuffle: Any) -> None:
    spread = [keyed_hash(0, str(value)) for value in values]
    one, other = Distinct(k), Distinct(k)
    one.update(spread)
    shuffle.shuffle(spread)
    halves = Distinct(k)
    halves.update(spread[::2])
    other.update(halves.smallest())
    other.update(spread[1::2])
    assert one.smallest() == other.smallest() == sorted(set(spread))[:k] and len(one) == len(other)
    if len(set(spread)) < k:
        assert len(one) == len(set(spread))


def test_many_different_hashes_are_estimated() -> None:
    counter = Distinct()
    counter.update(keyed_hash(0, str(value)) for value in range(20_000))
    assert abs(len(counter) / 20_000 - 1) < 0.15  # three standard errors


def test_memory_does_not_grow_with_the_corpus(job: Job) -> None:
    def stream(count: int) -> Iterator[Document]:
        for i in range(count):
            words = f"{keyed_hash(0, str(i)):x}".translate(str.maketrans("0123456789", "ghijklmnop"))
            yield Document(f"Here we eat halloumi and sumac with {words} again.", f"corpus.txt:{i}")

    peaks = []
    for count in (1_100, 3_300):
        tracemalloc.start()
        read(job, stream(count))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]
