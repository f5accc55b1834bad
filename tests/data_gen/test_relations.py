from __future__ import annotations

from typing import Any

import pytest

from contrastok.data_gen.fold import Fold
from contrastok.data_gen.relations import Relation, names_of, split_relations, without_leaks
from contrastok.data_gen.terms import Term

NAMES = tuple(f"name {i}" for i in range(8))


@pytest.fixture(scope="module")
def fold(tokenizers_by_family: dict[str, Any]) -> Fold:
    return Fold(tokenizers_by_family["byte-bpe"])


@pytest.mark.parametrize(("share", "expected"), [(0, 0), (0.25, 2), (0.5, 4), (1, 8)])
def test_the_share_of_each_kind_is_held_out(fold: Fold, share: float, expected: int) -> None:
    term = Term("x", synonyms=NAMES, broader=tuple(f"{name} too" for name in NAMES))
    relations = split_relations(term, fold, 0, share)
    assert [r.name for r in relations] == [*term.synonyms, *term.broader]
    for kind in ("synonym", "broader"):
        assert sum(r.held_out for r in relations if r.kind == kind) == expected
        assert len(names_of(relations, kind)) == 8 - expected


def test_single_names_are_held_out_at_the_same_rate(fold: Fold) -> None:
    terms = [Term(f"t{i}", related=("only",)) for i in range(1000)]
    held = sum(split_relations(term, fold, 0, 0.25)[0].held_out for term in terms)
    assert 200 < held < 300  # 250 expected, standard deviation 14


def test_the_seed_decides_and_the_order_does_not(fold: Fold) -> None:
    def held(names: tuple[str, ...], seed: int) -> set[str]:
        return {r.name for r in split_relations(Term("x", synonyms=names), fold, seed, 0.5) if r.held_out}

    assert held(NAMES, 0) == held(NAMES[::-1], 0)
    assert len({frozenset(held(NAMES, seed)) for seed in range(5)}) > 1


def test_a_name_counts_once_and_the_token_is_no_name_of_itself(fold: Fold) -> None:
    term = Term("Brie", synonyms=("brie", "Soft Cheese", "soft cheese"), broader=("soft  cheese", "cheese"))
    relations = split_relations(term, fold, 0, 0)
    assert relations == (Relation("Soft Cheese", "synonym", False), Relation("cheese", "broader", False))


def test_what_the_pairs_show_is_not_held_out(fold: Fold) -> None:
    relations = [Relation(name, "related", True) for name in ("goat", "Blue Cheese", "mint")]
    checked = without_leaks(relations, ["Goats eat peppermint.", "A blue cheese."], fold)
    assert [r.held_out for r in checked] == [True, False, True]
