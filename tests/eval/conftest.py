"""A made-up report that holds every kind of thing, among it text that would like to be markup."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from contrastok.candidates import candidates
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
from contrastok.eval.relearned import relearned
from contrastok.export import base_facts, write_checkpoint
from contrastok.models import input_embedding, load_model
from contrastok.vocabulary import extend_tokenizer, pieces, plan_vocabulary
from tests.conftest import ROOT

EVIL = "<script>alert(1)</script>"
EVIL_WORD = "</script><img src=x onerror=alert(2)>"


PRIOR: dict[str, Any] = {
    "fits": {
        "form+definition": {
            "mrr": 0.55,
            "left_out_mrr": 0.56,
            "left_out_ridge_mrr": 0.51,
            "known_words": 3000,
            "held_out": 400,
            "ridge": 30.0,
            "mix": 1.0,
        },
        "form": {
            "mrr": 0.1,
            "left_out_mrr": 0.11,
            "left_out_ridge_mrr": 0.11,
            "known_words": 9000,
            "held_out": 400,
            "ridge": 10.0,
            "mix": 0.0,
        },
    },
    "settings": {"temperature": 0.05, "prior_weight": 0.03, "steps": 20, "rate": 0.1, "noise": 0.0},
    "calibration": [
        {"row_mrr": 0.55, "output_mrr": 0.4, "hit@1": 0.4, "hit@10": 0.8, "median_rank": 2.0},
        {
            "temperature": 0.05,
            "prior_weight": 0.01,
            "steps": 20,
            "rate": 0.1,
            "noise": 0.0,
            "row_mrr": 0.6,
            "output_mrr": 0.6,
            "hit@1": 0.45,
            "hit@10": 0.85,
            "median_rank": 2.0,
        },
        {
            "temperature": 0.05,
            "prior_weight": 0.03,
            "steps": 20,
            "rate": 0.1,
            "noise": 0.0,
            "row_mrr": 0.62,
            "output_mrr": 0.61,
            "hit@1": 0.47,
            "hit@10": 0.86,
            "median_rank": 1.5,
        },
    ],
    "pair_settings": {
        "rate": 0.02,
        "temperature": 0.05,
        "contrast_weight": 0.3,
        "distill_weight": 5.0,
        "word_weight": 4.0,
    },
    "pair_calibration": [
        {"row_mrr": 0.62, "output_mrr": 0.61, "hit@1": 0.47, "hit@10": 0.86, "median_rank": 1.5, "related_mrr": 0.2},
        {
            "rate": 0.02,
            "temperature": 0.05,
            "contrast_weight": 0.3,
            "distill_weight": 5.0,
            "word_weight": 4.0,
            "row_mrr": 0.63,
            "output_mrr": 0.62,
            "hit@1": 0.48,
            "hit@10": 0.87,
            "median_rank": 1.0,
            "related_mrr": 0.345,
        },
    ],
    "reliability": [
        {"confidence": 0.31, "landed": 0.25, "words": 80},
        {"confidence": 0.42, "landed": 0.4, "words": 80},
        {"confidence": 0.61, "landed": 0.6, "words": 80},
        {"confidence": 0.78, "landed": 0.8, "words": 80},
        {"confidence": 0.92, "landed": 0.95, "words": 80},
    ],
    "confidence_within": 10,
}
"""What a manifest says of a predictor; tests/eval/test_recovery.py holds it against what a run writes."""
UNPLACED: dict[str, Any] = {**PRIOR, "settings": {**PRIOR["settings"], "steps": 0}}
"""The same where calibration chose no word stage."""


def _token(name: str, verdict: str, ranks: Ranks, confidence: float, leans_on: tuple[str, ...]) -> TokenReport:
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
        evidence=Evidence(3, {"context-definition": 2}, 4, (f"A {EVIL} sentence.",), generated=2),
        confidence=confidence,
        leans_on=leans_on,
        cause="weak rank" if verdict == "unclear" else "",
    )


@pytest.fixture(scope="session")
def data() -> ReportData:
    tokens = (
        _token(EVIL, "far", Ranks(50, 10, 30, 8), 0.4, ("definition",)),
        _token("halloumi", "near", Ranks(50, 20, 1, 9), 0.9, ("definition", "sentences")),
        _token("skyr", "unclear", Ranks(50, 20, 11, 9), 0.2, ()),
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
        init="predictor",
        versions={"torch": "2"},
        skipped=({"term": EVIL, "reason": EVIL_WORD},),
        relearned=relearned(PRIOR),
    )


@pytest.fixture
def unpredicted(data: ReportData) -> ReportData:
    """The same report of a checkpoint whose rows came from another initialiser, or from an older version."""
    tokens = (dataclasses.replace(token, confidence=None, leans_on=None) for token in data.per_token)
    return dataclasses.replace(data, per_token=tuple(tokens), relearned=None, init="charlen_mean")


def documented(evaluation: str, what: str) -> set[str]:
    """The views of which docs/evaluations.md says that an evaluation prints them for "row", "output" or "text"."""
    section = (ROOT / "docs" / "evaluations.md").read_text(encoding="utf-8").split("\n## ")
    table = next(text for text in section if text.startswith("Baselines")).split("\n\n")[1].splitlines()
    head, _, *lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    column = head.index(evaluation)
    printed = [line[0].replace("`", "").split(", ") for line in lines if what in line[column].split(", ")]
    return {view for views in printed for view in views}


COPIED = {"halloumi": "cheese", "kimchiq": "bread", "zzqorp": "water"}
"""New token -> the known word whose row it gets in a made-up checkpoint."""


@pytest.fixture(scope="session")
def make_checkpoint(make_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function (family, mode="added", definitions=True, copied=COPIED, initial=True) -> folder of a tiny checkpoint.

    Each row is copied from a known word; without `initial` the initial rows are not known.
    """

    def make(
        family: str = "wordpiece",
        mode: str = "added",
        definitions: bool = True,
        copied: Mapping[str, str] = COPIED,
        initial: bool = True,
    ) -> Path:
        base, out = make_model(family), tmp_path_factory.mktemp("checkpoint") / "model"
        model = load_model(str(base))
        tokenizer = model.tokenizer
        plan = plan_vocabulary(tokenizer, list(copied), mode)
        table = input_embedding(model).weight
        words = candidates(tokenizer)
        places = words.positions()
        rows = torch.stack([table[words.ids[places[copied[term]]]] for term in plan.terms])
        first = torch.stack([table[pieces(tokenizer, term)].mean(0) for term in plan.terms]) if initial else None
        tokens = [
            {
                "token": term,
                "row": row,
                "ids": list(plan.ids_of(term)),
                "forms": [term],
                "pieces": [],
                "definition": f"a kind of salt and {copied[term][:3]}q" if definitions or row else "",
                "relations": [
                    {"name": copied[term], "kind": "synonym", "held_out": True},
                    {"name": f"{term} of old", "kind": "synonym", "held_out": True},
                    {"name": "salt", "kind": "broader", "held_out": True},
                    {"name": "oil", "kind": "related", "held_out": False},
                ],
                "evidence": {"sentences": row, "pairs": {"isolated": 1}, "negatives": 0, "examples": []},
                "move": 0.5,
            }
            for row, term in enumerate(plan.terms)
        ]
        manifest = {
            "format": 1,
            "contrastok": "0",
            "base_model": base_facts(model, str(base), plan),
            "tokens": tokens,
            "tokenizer": {"family": plan.family, "mode": plan.mode, "edits": dict(plan.edits), "gate": {"checks": []}},
            "init": "subtoken_mean",
            "training": {"options": {}, "steps": 0, "pairs": 0, "curve": []},
            "seed": 0,
            "versions": {},
            "skipped": [],
        }
        out.mkdir()
        write_checkpoint(out, model, extend_tokenizer(tokenizer, plan), plan, rows, first, manifest)
        return out

    return make


@pytest.fixture(scope="session")
def tiny_checkpoint(make_checkpoint: Callable[..., Path]) -> Path:
    """A tiny WordPiece checkpoint."""
    return make_checkpoint()
