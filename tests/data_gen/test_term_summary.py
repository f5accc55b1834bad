from __future__ import annotations

import pytest

from contrastok.data_gen.evidence import Evidence
from contrastok.data_gen.summary import summarise
from contrastok.data_gen.terms import Term


@pytest.mark.parametrize(
    ("evidence", "said"),
    [
        (Evidence(), "no sentence in the corpus"),
        (Evidence(2), "2 sentences in the corpus"),
        (Evidence(1, repeated=5), "1 different sentence in the corpus (5 more like it left out)"),
        (Evidence(2, repeated=1), "2 different sentences in the corpus (1 more like them left out)"),
    ],
)
def test_a_warning_says_how_many_sentences_were_too_much_alike(evidence: Evidence, said: str) -> None:
    warning = summarise(Term("yurt", "a tent"), evidence, (), (), min_sentences=3).warning
    assert warning.split("; ")[0] == said
