from __future__ import annotations

from itertools import product

from contrastok.data_gen.suggest.endings import Endings

STEMS = ["".join(letters) for letters in product("bd", "au", "nm", "lr", "ai")]  # 32 words of five letters
NOISE = ["".join(letters) for letters in product("ptkg", "eo", "rsz", "e", "lk", "to")]


def test_an_ending_is_what_many_words_take() -> None:
    endings = Endings([*STEMS, *(stem + "ing" for stem in STEMS), *NOISE])
    assert "ing" in endings and "g" not in endings and "to" not in endings
    assert list(endings.stems("zubroving")) == ["zubrov"]
    assert list(endings.stems("zing")) == []  # too little is left


def test_an_ending_of_too_few_words_or_of_words_by_chance_is_none() -> None:
    assert "ing" not in Endings([*STEMS, *(stem + "ing" for stem in STEMS[:19])])
    by_chance = [word + "o" for word in STEMS[:25]]  # 25 of 121 words in "o" have a word before it
    endings = Endings([*STEMS, *by_chance, *(a + word[:-1] + "o" for a in "fw" for word in NOISE)])
    assert "o" not in endings


def test_an_ending_may_take_the_place_of_a_letter() -> None:
    words = [stem[:-1] + "e" for stem in STEMS[::2]] + [stem[:-1] + "e" for stem in STEMS[1::2]]
    words += [stem[:-2] + c + "e" for stem in STEMS for c in "vz"]
    endings = Endings([*words, *(word[:-1] + "ing" for word in words)])
    assert "ing" not in endings and list(endings.stems("bakeling")) == ["bakele"]
