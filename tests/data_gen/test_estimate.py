from __future__ import annotations

from collections.abc import Iterable

import pytest

from contrastok.console import Console
from contrastok.data_gen.corpus import Document
from contrastok.data_gen.corpus_size import CorpusSize
from contrastok.data_gen.estimate import Estimate, estimate_run
from contrastok.data_gen.evidence import Evidence, Mined
from contrastok.data_gen.summary import KnownSummary, print_plan

TEXT = "We bought halloumi at the market."


def estimated(size: CorpusSize, documents: int, monkeypatch: pytest.MonkeyPatch, **options: int) -> Estimate:
    """Of a corpus of which 10 documents are read, with a term in each."""
    monkeypatch.setattr("contrastok.data_gen.estimate.SAMPLE", 10 * len(TEXT))

    def mine(read: Iterable[Document]) -> Mined:
        count = len(list(read))
        found = {"halloumi": Evidence(count), "skyr": Evidence()}
        return Mined(found, count, count * len(TEXT), count, {})

    texts = (Document(TEXT, f"{at}") for at in range(documents))
    return estimate_run(texts, mine, size, **{"max_sentences": 32, "sampled": 0, **options})


def test_what_is_packed_is_scaled_by_what_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = 100 * len(TEXT)
    packed = estimated(CorpusSize(1, whole // 8, whole), 100, monkeypatch)
    assert packed.sentences == 100 and packed.size_known and not packed.complete
    assert (packed.corpus_bytes, packed.terms_without_sentence) == (whole // 8, 1)


def test_where_the_size_is_unknown_the_sample_is_a_lower_bound(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    part = estimated(CorpusSize(0, 0, None), 100, monkeypatch)
    assert part.sentences == 10 and not part.size_known and not part.complete
    whole = estimated(CorpusSize(0, 0, None), 10, monkeypatch)
    assert whole.complete and whole.size_known
    for told, unknown in ((part, True), (whole, False)):
        print_plan(Console(), [], [], KnownSummary(0, 0, 0, ""), told)
        assert ("the size of all of it is unknown" in " ".join(capsys.readouterr().err.split())) is unknown


def test_pairs_and_the_sample_of_all_text_take_memory_too(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = 10**6 * len(TEXT)
    size = CorpusSize(1, whole, whole)
    plain = estimated(size, 100, monkeypatch, max_sentences=1000).memory_mb
    assert plain == pytest.approx((1024 * 8 + 1000 * 1500) / 1e6, abs=0.1)
    assert estimated(size, 100, monkeypatch, max_sentences=1000, sampled=24 * 10**6).memory_mb == plain + 24
    small = estimated(CorpusSize(1, 10 * len(TEXT), 10 * len(TEXT)), 10, monkeypatch, sampled=24 * 10**6)
    assert small.memory_mb == 0.0  # no more is kept than there is
