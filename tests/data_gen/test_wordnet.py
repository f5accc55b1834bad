from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contrastok.data_gen.terms import Term
from contrastok.data_gen.wordnet import WordNet
from contrastok.errors import InputError

TINY = Path(__file__).parent / "data" / "wordnet"
REAL = Path("/usr/share/wordnet")


@pytest.fixture(scope="module")
def tiny() -> WordNet:
    return WordNet(TINY)


@pytest.fixture(scope="module")
def real() -> WordNet:
    if not (REAL / "data.noun").is_file():
        pytest.skip(f"no WordNet in {REAL} (Debian package wordnet-base)")
    return WordNet(REAL)


def found(wordnet: WordNet, word: str) -> Term:
    term = wordnet.lookup(word)
    assert term is not None
    return term


def test_the_first_sense_without_its_examples(tiny: WordNet) -> None:
    term = found(tiny, "cheese")
    assert (term.token, term.definition) == ("cheese", "a solid made of pressed curds")
    assert term.broader == ("foodstuff", "Victuals")
    assert term.source.startswith(f"{TINY / 'data.noun'}: byte ")


@pytest.mark.parametrize("word", ["brined cheese", "Brined  Cheese", "brined_cheese"])
def test_words_of_two_parts_whatever_the_case(tiny: WordNet, word: str) -> None:
    term = found(tiny, word)
    assert term.token == word
    assert term.definition == '(dairy) cheese kept in salt water (as in the phrase "pickled in brine")'
    assert term.synonyms == ("pickled cheese",)
    assert term.related == ("brine",)


def test_a_pointer_between_words_holds_for_those_words_only(tiny: WordNet) -> None:
    assert found(tiny, "brine").related == ("pickled cheese",)
    assert found(tiny, "souse").related == ()
    assert found(tiny, "souse").broader == found(tiny, "brine").broader == ("keep", "preserve")


def test_adjectives_lose_their_marker_and_instances_have_a_class(tiny: WordNet) -> None:
    assert found(tiny, "brackish").synonyms == ("briny",)
    assert found(tiny, "salty").related == ("briny", "brackish")
    assert found(tiny, "saltily").related == ("salty",)
    assert found(tiny, "cheddar").broader == ("cheese",)


def test_every_word_is_found_and_others_are_not(tiny: WordNet) -> None:
    words = list(tiny.words())
    assert len(words) == 14
    assert all(tiny.lookup(word) for word in words)
    assert [word for word in ("", " ", "aa", "cheesecake", "zz", "1", "brin", "käse") if tiny.lookup(word)] == []


def test_the_family_of_a_first_sense(tiny: WordNet) -> None:
    assert tiny.family("Cheese") == ("foodstuff", "Victuals", "brined cheese", "pickled cheese")
    assert tiny.family("brined cheese") == ("pickled cheese", "cheese")
    assert tiny.family("cheddar") == ("cheese", "brined cheese", "pickled cheese")
    assert tiny.family("zz") == tiny.family(" ") == ()


def test_senses_by_part_of_speech(tiny: WordNet) -> None:
    assert [tiny.senses(word) for word in ("cheese", "brine", "salty", "zz", "")] == ["nn", "v", "a", "", ""]


@given(st.text())
def test_any_text_can_be_looked_up(tiny: WordNet, text: str) -> None:
    term = tiny.lookup(text)
    assert term is None or term.definition


def test_synsets_keep_their_examples(tiny: WordNet) -> None:
    examples = [synset.examples for synset in tiny.synsets() if synset.examples]
    assert examples == [
        ("a slice of cheese", "they sell cheese; and bread"),
        ("pickled in brine", "brined cheese keeps"),
    ]


def test_a_folder_with_one_part_of_speech_is_enough(tmp_path: Path) -> None:
    for name in ("index.adv", "data.adv", "index.adj", "data.adj"):
        shutil.copy(TINY / name, tmp_path / name)
    assert found(WordNet(tmp_path), "saltily").related == ("salty",)


def test_no_folder_and_no_database(tmp_path: Path) -> None:
    (tmp_path / "wordnet").mkdir()
    with pytest.raises(InputError, match=r"no such file or folder\n  -> did you mean .*wordnet'"):
        WordNet(tmp_path / "wordnt")
    with pytest.raises(InputError, match=r"is no WordNet database\n  -> it should hold index.noun"):
        WordNet(tmp_path)


def test_an_edited_database_is_named_with_the_byte(tmp_path: Path) -> None:
    shutil.copytree(TINY, tmp_path / "wn")
    data = tmp_path / "wn" / "data.noun"
    data.chmod(0o644)
    data.write_text("  2 one more line\n" + data.read_text())
    with pytest.raises(InputError, match=r"data\.noun: byte \d+: no synset of a WordNet database starts here"):
        WordNet(tmp_path / "wn").lookup("cheese")
    (tmp_path / "wn" / "index.noun").write_text("cheese n one\n")
    with pytest.raises(InputError, match=r"index\.noun: no entry of a WordNet index: 'cheese n one"):
        WordNet(tmp_path / "wn").lookup("cheese")
    data.write_text("")
    with pytest.raises(InputError, match=r"data\.noun: is empty"):
        WordNet(tmp_path / "wn")


def test_wordnet_3_0_has_its_known_counts(real: WordNet) -> None:
    synsets = examples = with_examples = 0
    for synset in real.synsets():
        assert synset.lemmas and synset.definition
        synsets += 1
        examples += len(synset.examples)
        with_examples += bool(synset.examples)
    words = set(real.words())
    assert (synsets, examples, with_examples, len(words)) == (117_659, 48_339, 32_923, 147_306)
    assert all(real.lookup(word) for word in sorted(words)[::100])


def test_wordnet_3_0_defines_a_word(real: WordNet) -> None:
    term = found(real, "cardiomyopathy")
    assert term.definition == "a disorder (usually of unknown origin) of the heart muscle (myocardium)"
    assert term.synonyms == ("myocardiopathy",)
    assert term.broader == ("heart disease", "cardiopathy")


def test_wordnet_3_0_knows_families_and_senses(real: WordNet) -> None:
    assert {"hormone", "endocrine", "ACTH", "recombinant human insulin"} <= set(real.family("insulin"))
    assert real.senses("cheese") == "nnvv"
