from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from contrastok.data_gen.evidence import Evidence
from contrastok.data_gen.findings import Sentence
from contrastok.data_gen.fold import Fold
from contrastok.data_gen.negatives import NegativeSource, describing_text, negative_sources, with_negatives
from contrastok.data_gen.pair_kinds import Pair
from contrastok.data_gen.terms import Term


def term(token: str, *synonyms: str, broader: tuple[str, ...] = (), definition: str | None = None) -> Term:
    return Term(token, f"definition of {token[::-1]}" if definition is None else definition, synonyms, broader)


def evidence_of(terms: list[Term], **texts: list[str]) -> dict[str, Evidence]:
    return {
        t.token: Evidence(9, tuple(Sentence(text, ((0, 1),), "c") for text in texts.get(t.token, []))) for t in terms
    }


@pytest.fixture(scope="module")
def fold(tokenizers_by_family: dict[str, Any]) -> Fold:
    return Fold(tokenizers_by_family["wordpiece"])


def sources(
    fold: Fold, terms: list[Term], angles: list[float] | None = None, **texts: list[str]
) -> list[NegativeSource]:
    turned = np.array(angles if angles is not None else range(len(terms)), dtype=np.float32) * 0.1
    embeddings = np.stack([np.cos(turned), np.sin(turned)], axis=1).astype(np.float32)
    return list(negative_sources(terms, evidence_of(terms, **texts), embeddings, fold, seed=0))


def pair(positive: str = "p", anchor: str = "a", token: str = "x") -> Pair:
    return Pair(token, anchor, positive, (), "k", "s")


def definitions(source: NegativeSource) -> set[str]:
    return {text for tier in source.tiers for text in tier[0]}


def test_siblings_come_first_and_then_the_nearest(fold: Fold) -> None:
    terms = [term("brie", broader=("Cheese",)), term("near"), term("far"), term("feta", broader=("cheese",))]
    source = sources(fold, terms)[0]
    assert source.choose(pair("definition of eirb"), 0, 3, "definition of eirb") == (
        "definition of atef", *source.tiers[1][0],
    )  # fmt: skip
    assert set(source.tiers[1][0]) == {"definition of raen", "definition of raf"}


def test_only_the_nearest_others_lend_their_texts(fold: Fold) -> None:
    terms = [term(f"t{i:02}") for i in range(40)]
    found = sources(fold, terms)[0]
    assert definitions(found) == {t.definition for t in terms[1:17]}


def test_of_a_large_category_the_nearest_lend_their_texts(fold: Fold) -> None:
    """The angle of each term is a tenth of its number, and t20 has as near ones on both sides."""
    terms = [term(f"t{i:02}", broader=("one", "two") if i % 2 else ("one",)) for i in range(41)]
    siblings, others = (set(tier[0]) for tier in sources(fold, terms)[20].tiers)
    assert siblings == {terms[i].definition for i in range(12, 29) if i != 20}
    assert others == {terms[i].definition for i in (*range(4, 12), *range(29, 37))}


@pytest.mark.parametrize(
    "other",
    [
        term("target", definition="the term itself, twice"),
        term("other", "target"),  # names the term among its synonyms
        term("alias"),  # a synonym of the term
        term("other", "alias"),  # shares a synonym
        term("other", "bridge-name"),  # is linked over a third term
        term("kind"),  # a category of the term
        term("other", broader=("target",)),  # a member of the term
        term("other", definition="what is like Target but not it"),  # its text holds the term
        term("other", definition="what an alias is not"),  # its text holds a synonym
    ],
)
def test_what_may_be_the_same_thing_is_no_negative(fold: Fold, other: Term) -> None:
    terms = [term("target", "alias", broader=("kind",)), term("bridge", "alias", "bridge-name"), other, term("free")]
    assert definitions(sources(fold, terms)[0]) == {"definition of eerf"}


def test_negatives_match_the_sort_of_the_positive(fold: Fold) -> None:
    terms = [term("brie"), term("feta")]
    source = sources(fold, terms, feta=["we eat feta", "feta again"])[0]
    assert source.choose(pair("my definition"), 0, 1, "my definition") == ("definition of atef",)
    assert set(source.choose(pair("a sentence"), 0, 2, "my definition")) == {"we eat feta", "feta again"}
    assert len(source.choose(pair("a sentence"), 0, 9, "my definition")) == 3


def test_the_pairs_of_a_term_get_different_negatives_and_never_their_own_texts(fold: Fold) -> None:
    terms = [term("brie")] + [term(f"t{i}") for i in range(8)]
    source = sources(fold, terms)[0]
    taken = terms[1].definition
    pairs = with_negatives(
        [pair(terms[0].definition, anchor=f"a{i}") for i in range(3)] + [pair(taken)], source, 2, terms[0].definition
    )
    assert len({text for p in pairs[:3] for text in p.negatives}) == 6
    assert all(len(set(p.negatives)) == 2 for p in pairs)
    every = with_negatives([pair(taken)], source, 20, "")[0]
    assert taken not in every.negatives and len(every.negatives) == 7
    assert with_negatives(pairs, source, 0, "")[0].negatives == ()


def test_duplicates_among_the_lenders_count_once(fold: Fold) -> None:
    terms = [term("brie"), term("t1", definition="The same thing"), term("t2", definition="the same  thing")]
    assert len(definitions(sources(fold, terms)[0])) == 1


def test_the_same_seed_gives_the_same_choice(fold: Fold) -> None:
    terms = [term(f"t{i}") for i in range(9)]
    assert sources(fold, terms) == sources(fold, terms)


def test_terms_are_compared_by_the_best_text_there_is() -> None:
    seen = Evidence(1, (Sentence("a sentence", ((0, 1),), "c"),))
    assert describing_text(Term("x", "a definition"), seen) == "a definition"
    assert describing_text(Term("x"), seen) == "a sentence"
    assert describing_text(Term("x"), Evidence()) == "x"


def test_a_single_term_has_no_negatives(fold: Fold) -> None:
    assert sources(fold, [term("brie")])[0].choose(pair(), 0, 4, "") == ()
