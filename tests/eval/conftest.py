"""A made-up report that holds every kind of thing, among it text that would like to be markup."""

from __future__ import annotations

import pytest

from contrastok.eval.data import (
    Basis,
    Evidence,
    MapPoint,
    Neighbor,
    Neighborhood,
    Ranks,
    Relation,
    ReportData,
    TokenReport,
)
from contrastok.eval.relations import summarise

EVIL = "<script>alert(1)</script>"
EVIL_WORD = "</script><img src=x onerror=alert(2)>"


def _token(name: str, verdict: str, ranks: Ranks) -> TokenReport:
    words = (Neighbor("cheese", 0.61234567), Neighbor(EVIL_WORD, 0.5))
    hoods = tuple(
        Neighborhood(space, words[:1], words, (Neighbor("brie", 0.4),)) for space in ("rows", "rows-centred", "encoded")
    )
    relations = (
        Relation("grilling cheese", "synonym", True, ranks, None),
        Relation(EVIL_WORD, "broader", False, None, Ranks(1000, 5, 4)),
    )
    return TokenReport(
        token=name,
        verdict=verdict,
        reason=f"{name} ranks somewhere.",
        basis=Basis("'cheese'", "glossary names", ranks, True),
        ids=(7,),
        pieces=("x", f"##{name[:3]}"),
        definition=f"a {EVIL}",
        definition_ranks=Ranks(3, 2, 1, 3),
        relations=relations,
        neighbors=hoods,
        norm=1.0,
        norm_initial=0.9,
        norm_z=-0.01,
        move=0.25,
        evidence=Evidence(3, {"context-definition": 2}, 4, (f"A {EVIL} sentence.",)),
    )


@pytest.fixture
def data() -> ReportData:
    tokens = (
        _token(EVIL, "far", Ranks(50, 10, 30, 8)),
        _token("halloumi", "near", Ranks(50, 20, 1, 9)),
        _token("skyr", "unclear", Ranks(50, 20, 11, 9)),
    )
    figures = {group: summarise([[r.glossary for r in t.relations] for t in tokens]) for group in ("held_out", "all")}
    rows = {group: summarise([[r.vocabulary for r in t.relations] for t in tokens]) for group in ("held_out", "all")}
    moved = [
        MapPoint(t.token, when, float(i), i * 0.5 + len(when))
        for i, t in enumerate(tokens)
        for when in ("before", "after")
    ]
    points = (*moved, MapPoint(EVIL_WORD, "vocabulary", 1.5, 2.5))
    return ReportData(
        model="model",
        base_model={"name": f"minilm {EVIL}", "sha256": "0"},
        tokens=3,
        verdicts={"near": 1, "unclear": 1, "far": 1},
        relations=figures,
        vocabulary_relations=rows,
        index="exact search over 100 rows",
        candidates="100 whole words.",
        row_norm={"mean": 1.1, "std": 0.2},
        per_token=tokens,
        points=points,
        map_method="PCA over 7 points",
        frozen={"tensors": 103, "sha256_before": "aa", "sha256_after": "aa"},
        gate={"checks": [{"name": "reachable", "passed": True, "detail": EVIL}]},
        training={
            "options": {"learning_rate": 0.00004, "model": EVIL_WORD},
            "steps": 2,
            "pairs": 9,
            "curve": [{"step": 1, "loss": 2.0, "accuracy": 0.1}, {"step": 2, "loss": 1.0, "accuracy": 0.4}],
        },
        init="charlen_mean",
        versions={"torch": "2"},
        skipped=({"term": EVIL, "reason": EVIL_WORD},),
    )
