"""What a page's script needs of each token, in few characters: a report of ten thousand tokens is one file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from contrastok.eval.data import Neighbor, Ranks, ReportData, TokenReport

Row = dict[str, Any]
DIGITS = 3
"""Decimals of what is no cosine; cosines have two."""
AS_THEY_ARE = ("token", "reason", "ids", "pieces", "definition", "leans_on")
ROUNDED = ("norm", "norm_initial", "norm_z", "move", "confidence")


def token_rows(data: ReportData) -> list[Row]:
    """One record a token, in the order of the report, as eval/report.js reads them."""
    return [_row(token) for token in data.per_token]


def pairs(neighbors: Sequence[Neighbor]) -> list[tuple[str, float]]:
    """Each neighbour as its word and its cosine; names of fields would be most of the page."""
    return [(n.word, round(n.cosine, 2)) for n in neighbors]


def ranks(found: Ranks | None) -> tuple[int | None, ...] | None:
    """Among how many, the initial rank, the trained one, the split word's."""
    return None if found is None else (found.of, found.initial, found.trained, found.split_word)


def _row(token: TokenReport) -> Row:
    basis, evidence = token.basis, token.evidence
    return {
        "kind": token.verdict,
        **{name: getattr(token, name) for name in AS_THEY_ARE},
        **{name: None if (value := getattr(token, name)) is None else round(value, DIGITS) for name in ROUNDED},
        "basis": basis and (basis.name, basis.held_out, ranks(basis.ranks)),
        "definition_ranks": ranks(token.definition_ranks),
        "relations": [(r.name, r.kind, r.held_out, ranks(r.glossary), ranks(r.vocabulary)) for r in token.relations],
        "spaces": [
            (hood.space, pairs(hood.before), pairs(hood.after), pairs(hood.others))
            for hood in reversed(token.neighbors)
        ],
        "sentences": evidence.sentences,
        "generated": evidence.generated,
        "pairs": dict(evidence.pairs),
        "negatives": evidence.negatives,
        "examples": evidence.examples,
    }
