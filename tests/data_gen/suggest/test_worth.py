from __future__ import annotations

from functools import cache

import pytest

from contrastok.data_gen.suggest.counts import WordCounts
from contrastok.data_gen.suggest.families import families
from contrastok.data_gen.suggest.groups import grouped
from contrastok.data_gen.suggest.worth import Model, Word, weigh
from contrastok.models import load_tokenizer


@cache
def minilm() -> Model:
    return Model(load_tokenizer("minilm"))


def weighed(text: str, model: Model, min_count: int = 1) -> tuple[dict[str, Word], dict[str, list[str]]]:
    counts = WordCounts()
    counts.read(text)
    counts.finish()
    worth, left_out = weigh(families(counts, model.fold, min_count), counts.parts, model)
    return {word.family.spelled: word for word in worth}, {
        reason: [word.family.spelled for word in words] for reason, words in left_out.items()
    }


def test_words_that_need_no_token_say_why() -> None:
    worth, left_out = weighed("The cheese, gochujang; OLIVES grilled, cheesecake 2019 a COVID-19 Type-2", minilm())
    assert set(worth) == {"gochujang", "COVID-19"}
    assert sorted(left_out["one token already"]) == ["The", "cheese"]
    assert sorted(left_out["pieces that say what it means"]) == ["OLIVES", "Type-2", "cheesecake", "grilled"]


@pytest.mark.parametrize(
    ("pieces", "composes"),
    [
        (["cheese", "##cake"], True),  # two words
        (["grill", "##ed"], True),
        (["riga", "##toni"], False),  # of two short words the pieces are words by chance
        (["pest", "##o"], False),  # no ending of English words
        (["go", "##ing"], False),  # what is left of so short a word is no evidence
        (["covid", "-", "19"], False),
        (["type", "-", "2"], True),
    ],
)
def test_what_composes(pieces: list[str], composes: bool) -> None:
    model = minilm()
    vocabulary = model.tokenizer.get_vocab()
    ids = [vocabulary.get(piece, vocabulary.get(piece.removeprefix("##"), vocabulary["[UNK]"])) for piece in pieces]
    assert model.composes(ids) is composes


def test_occurrences_of_all_spellings_that_the_token_matches_are_saved() -> None:
    worth, _ = weighed("Gochujang gochujang GOCHUJANG gochujang jalapeño jalapeño jalapen\u0303o JALAPENO", minilm())
    assert worth["gochujang"].count == 4 and worth["gochujang"].saved == 4 * 3
    assert worth["jalapeño"].count == 4  # composed, decomposed and without the tilde: one to this tokenizer
    assert worth["gochujang"].pieces == ("go", "chu", "jan", "g")


def test_a_tokenizer_that_keeps_case_matches_the_word_and_its_capitalised_form(
    tokenizers_by_family: dict[str, object],
) -> None:
    model = Model(tokenizers_by_family["byte-bpe"])  # type: ignore[arg-type]
    worth, left_out = weighed("zorblaxin zorblaxin Zorblaxin ZORBLAXIN THE ЖУРАВЛЬ", model)
    assert worth["zorblaxin"].count == 3 and worth["zorblaxin"].family.count == 4
    assert left_out["one token in another spelling"] == ["THE"]
    assert worth["ЖУРАВЛЬ"].saved > 3


def test_scripts_that_the_normaliser_takes_apart() -> None:
    worth, left_out = weighed("漢字仮名 漢字仮名 ｶﾞﾝ ﬁﬁ İİ ǅǅ ๆๆ กำกำ \u0345\u0345a \u200dab\u200d", minilm())
    assert any(map(len, (worth, *left_out.values())))


def test_what_cannot_be_spelled_is_worth_a_token() -> None:
    worth, _ = weighed("\U00012000\U00012001 " * 3, minilm())
    [word] = worth.values()
    assert len(word.ids) == 1 and word.saved == 3


def test_rare_words_and_words_without_letters_are_no_candidates() -> None:
    worth, left_out = weighed("gochujang halloumi halloumi 12 12 x x __ __ 3-4 3-4", minilm(), min_count=2)
    assert set(worth) == {"halloumi"} and not any(left_out.values())


def test_forms_and_spellings_stand_together_behind_the_most_useful() -> None:
    text = "zorblax " * 9 + "zorblaxes zorblaxed zorblaxing zör-blax1 " * 2 + "halloumi " * 3
    worth, _ = weighed(text + " crème_fraiche" * 2 + " creme_fraîche cremefraiche", minilm())
    groups = [[word.family.spelled for word in group] for group in grouped(list(worth.values()), minilm().endings)]
    assert groups[0][0] == "zorblax" and sorted(groups[0][1:]) == ["zorblaxed", "zorblaxes", "zorblaxing"]
    assert ["halloumi"] in groups and ["crème_fraiche", "cremefraiche"] in groups
