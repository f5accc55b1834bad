"""Can pairs and text be read?"""

from __future__ import annotations

from collections.abc import Iterator

from contrastok.doctor.case import Case
from contrastok.doctor.finding import Finding, check


@check("pairs")
def of_gen_pairs(case: Case) -> Iterator[Finding]:
    """The folder that gen-pairs wrote, whole and for this model."""
    if case.pairs is not None:
        yield Finding("pairs", "ok", f"{len(case.pairs):,} pairs for {len(set(case.pairs.token)):,} terms")


@check("corpus")
def of_the_user(case: Case) -> Iterator[Finding]:
    """The first megabytes of the corpus."""
    if case.mined is None:
        return
    mined, estimate = case.mined
    if not mined.documents:
        yield Finding("corpus", "problem", "it holds no text", "look at --corpus and --text-field")
    else:
        beginning = "" if estimate.complete else " in its beginning"
        detail = f"{mined.documents:,} documents with {mined.characters:,} characters{beginning}"
        yield Finding("corpus", "ok", detail)
