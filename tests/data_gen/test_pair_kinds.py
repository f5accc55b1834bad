from __future__ import annotations

import pytest

from contrastok.data_gen.evidence import Evidence
from contrastok.data_gen.findings import Sentence
from contrastok.data_gen.pair_kinds import PAIR_KINDS, PairContext, choose_kinds
from contrastok.data_gen.pair_kinds.grammar import head_phrase, indefinite_article, substitute
from contrastok.data_gen.terms import Term
from contrastok.errors import ConfigError

TERM = Term("halloumi", "a salty cheese from Cyprus", ("grilling cheese",), ("cheese",), ("mint",), "t.jsonl:1")


def sentence(text: str, source: str = "c.txt:1") -> Sentence:
    spans = []
    start = text.lower().find("halloumi")
    while start >= 0:
        spans.append((start, start + 8))
        start = text.lower().find("halloumi", start + 1)
    return Sentence(text, tuple(spans), source)


EVIDENCE = Evidence(3, tuple(map(sentence, ("Halloumi squeaks.", "We fry halloumi.", "A halloumi melts not."))))


def context(
    synonyms: tuple[str, ...] = TERM.synonyms, broader: tuple[str, ...] = TERM.broader, min_sentences: int = 0
) -> PairContext:
    return PairContext(synonyms, broader, min_sentences, lambda text: "halloumi" in text)


def built(
    kind: str, term: Term = TERM, evidence: Evidence = EVIDENCE, given: PairContext | None = None
) -> list[tuple[str, str]]:
    pairs = list(PAIR_KINDS[kind].build(term, evidence, given or context()))
    assert all(pair.token == term.token and pair.kind == kind and pair.source and not pair.negatives for pair in pairs)
    return [(pair.anchor, pair.positive) for pair in pairs]


TEXTS = [s.text for s in EVIDENCE.sentences]


def test_context_definition() -> None:
    assert built("context-definition") == [(text, TERM.definition) for text in TEXTS]
    assert built("context-definition", Term("halloumi")) == []


def test_context_context_pairs_each_sentence_with_another() -> None:
    assert built("context-context") == [(TEXTS[0], TEXTS[1]), (TEXTS[1], TEXTS[2]), (TEXTS[2], TEXTS[0])]
    assert built("context-context", evidence=Evidence(1, EVIDENCE.sentences[:1])) == []
    assert built("context-context", evidence=Evidence()) == []


def test_context_substitution_takes_synonyms_and_the_definitions_head_in_turn() -> None:
    assert built("context-substitution") == [
        ("Halloumi squeaks.", "Grilling cheese squeaks."),
        ("We fry halloumi.", "We fry salty cheese."),
        ("A halloumi melts not.", "A grilling cheese melts not."),
    ]


def test_context_substitution_does_without_what_there_is_not() -> None:
    assert built("context-substitution", Term("halloumi"), given=context(synonyms=())) == []
    circular = Term("halloumi", "halloumi cheese of a kind")
    assert built("context-substitution", circular, given=context(synonyms=())) == []


def test_cross_tokenisation_is_the_same_text_twice() -> None:
    assert built("cross-tokenisation") == [(text, text) for text in TEXTS]


def test_isolated_terms_meet_everything_the_glossary_says() -> None:
    assert built("isolated") == [("halloumi", TERM.definition), ("halloumi", "grilling cheese"), ("halloumi", "cheese")]
    assert built("isolated", Term("halloumi"), given=context(synonyms=(), broader=())) == []
    refused = PairContext(TERM.synonyms, TERM.broader, 0, lambda text: text != "halloumi")
    assert built("isolated", given=refused) == []


def test_templates_are_for_terms_with_few_sentences_only() -> None:
    assert built("template", given=context(min_sentences=3)) == []
    pairs = built("template", given=context(min_sentences=4))
    assert ("halloumi is a salty cheese from Cyprus.", TERM.definition) in pairs
    assert ("What is halloumi?", "What is grilling cheese?") in pairs
    assert ("halloumi is a kind of cheese.", "grilling cheese is a kind of cheese.") in pairs
    assert len(pairs) == len(set(pairs)) and all("halloumi" in anchor for anchor, _ in pairs)
    assert all("mint" not in text for pair in pairs for text in pair)


@pytest.mark.parametrize(
    ("term", "given", "expected"),
    [
        (Term("halloumi"), context((), (), 1), []),
        (Term("halloumi"), context((), ("cheese",), 1), [("halloumi is a kind of cheese.", "a kind of cheese")]),
    ],
)
def test_templates_from_little(term: Term, given: PairContext, expected: list[tuple[str, str]]) -> None:
    assert built("template", term, Evidence(), given) == expected


def test_templates_whose_anchor_lacks_the_token_are_left_out() -> None:
    never = PairContext((), (), 1, lambda text: False)
    assert built("template", evidence=Evidence(), given=never) == []


def test_kinds_are_chosen_by_name_in_the_order_of_the_registry() -> None:
    assert [kind.name for kind in choose_kinds(())] == list(PAIR_KINDS)
    assert [kind.name for kind in choose_kinds(("template", "context-context"))] == ["context-context", "template"]
    with pytest.raises(ConfigError, match=r"did you mean 'context-context'(.|\n)*'zzz' is no kind(.|\n)*cross-tok"):
        choose_kinds(("context-contex", "template", "zzz"))


@pytest.mark.parametrize(
    ("definition", "head"),
    [
        ("a salty semi-hard cheese from Cyprus", "salty semi-hard cheese"),
        ("a hard, sharp Italian cheese pressed from milk", "hard, sharp Italian cheese"),
        ("A dry-cured ham, aged for months", "dry-cured ham"),
        ("An eye disease that is characterized by redness", "eye disease"),
        ("A cancer derives_from the skin", "cancer"),
        ("a type of bread", "bread"),
        ("layers of paper-thin dough", "layers"),
        ("soup", "soup"),
        ("cooking (slow) of meat", "cooking"),
        ("the of and", ""),
        ("one very long row of words", "very long row"),
        ("big old red round warm soft sweet thing", ""),
        ("", ""),
    ],
)
def test_head_phrase(definition: str, head: str) -> None:
    assert head_phrase(definition) == head


@pytest.mark.parametrize(
    ("phrase", "article"),
    [
        ("apple", "an"), ("cheese", "a"), ("hour", "an"), ("honest man", "an"), ("house", "a"), ("unit", "a"),
        ("user", "a"), ("umbrella", "an"), ("European cheese", "a"), ("MRI scan", "an"), ("PDF", "a"),
        ("one-pot dish", "a"), ("unbaked loaf", "an"), ("ewe", "a"), ("", "a"), ("uncooked condiment", "an"),
        ("unisex", "a"), ("unimportant", "an"), ("uninteresting", "an"),
    ],
)  # fmt: skip
def test_indefinite_article(phrase: str, article: str) -> None:
    assert indefinite_article(phrase) == article


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("Halloumi is good.", "apple", "Apple is good."),
        ("“Halloumi” is good.", "apple", "“Apple” is good."),
        ("He has a halloumi and the halloumi.", "apple", "He has an apple and the apple."),
        ("A halloumi: halloumi!", "apple", "An apple: apple!"),
        ("Vitamin A halloumi", "Gouda", "Vitamin A Gouda"),
        ("We like halloumi", "La Mancha cheese", "We like La Mancha cheese"),
    ],
)
def test_substitute(text: str, name: str, expected: str) -> None:
    assert substitute(text, sentence(text).spans, name) == expected
