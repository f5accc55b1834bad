from __future__ import annotations

import numpy as np

from contrastok.eval.neighbors import make_space, nearest_others, neighborhoods, typical_nearest

WORDS = ("north", "east", "south", "west")
COMPASS = np.array([[0, 1], [1, 0], [0, -1], [-1, 0]], np.float32)


def test_neighbours_before_and_after_come_best_first_with_their_cosines() -> None:
    before, after = np.array([[0.1, 1.0]], np.float32), np.array([[3.0, 3.1]], np.float32)
    [hood] = neighborhoods(make_space("rows", WORDS, COMPASS, before, after), ["northeast"], k=2)
    assert [n.word for n in hood.before] == ["north", "east"]
    assert [n.word for n in hood.after] == ["north", "east"]
    assert hood.after[1].cosine == np.float32(3.0 / np.hypot(3.0, 3.1))
    assert hood.others == ()


def test_the_mean_is_taken_off_words_and_tokens_alike() -> None:
    mean = np.array([10.0, 10.0], np.float32)
    shifted = make_space("rows-centred", WORDS, COMPASS + mean, COMPASS[:1] + mean, COMPASS[1:2] + mean, mean=mean)
    [hood] = neighborhoods(shifted, ["token"], k=1)
    assert (hood.before[0].word, hood.after[0].word) == ("north", "east")


def test_other_new_tokens_leave_out_the_token_itself_even_when_two_coincide() -> None:
    vectors = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    first, second, third = nearest_others(vectors, ["a", "b", "c"])
    assert (first[0].word, first[0].cosine) == ("b", 1.0)
    assert second[0].word == "a"
    assert {n.word for n in third} == {"a", "b"}


def test_typical_nearest_looks_past_the_word_itself() -> None:
    assert typical_nearest(make_space("rows", WORDS, COMPASS, COMPASS, COMPASS), 0.5) == 0.0
