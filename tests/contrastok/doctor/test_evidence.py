from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from contrastok.doctor.evidence import of_terms

TERMS = [f"term {number}" for number in range(100_000)]


def case(mined: bool) -> Any:
    """A run with 100,000 terms, of which every second has sentences and every third a definition."""
    defined = [SimpleNamespace(token=term, definition="" if at % 3 else "a thing") for at, term in enumerate(TERMS)]
    counts = {term: 0 if at % 2 else 50 for at, term in enumerate(TERMS)}
    found = {term: SimpleNamespace(found=count) for term, count in counts.items()}
    told = [{"token": term, "sentences": count, "definition": ""} for term, count in counts.items()]
    return SimpleNamespace(
        mined=(SimpleNamespace(evidence=found), SimpleNamespace(complete=True)) if mined else None,
        pairs=None if mined else SimpleNamespace(about={"terms": told}),
        sentences={term: [] for term in TERMS},
        gen_pairs=SimpleNamespace(min_sentences=5),
        words=SimpleNamespace(terms=defined, plan=SimpleNamespace(terms=TERMS)),
    )


@pytest.mark.parametrize("mined", [True, False])
def test_a_hundred_thousand_terms_are_looked_at_once_each(mined: bool) -> None:
    """Anything that looks through all terms for each term would take minutes."""
    many = case(mined)
    start = time.process_time()
    findings = list(of_terms(many))
    assert time.process_time() - start < 10  # some tenths of a second
    bare, few = findings
    assert "50,000 of 100,000 terms have 5 sentences and more; 33,333 have neither" in bare.detail
    assert "16,667 have fewer" in few.detail
