from __future__ import annotations

import numpy as np

from contrastok.eval.map2d import layout, make_map
from contrastok.eval.neighbors import make_space


def _vectors(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 6)).astype(np.float32)


def test_the_number_of_points_chooses_the_method() -> None:
    assert layout(_vectors(30))[1].startswith("t-SNE")
    assert layout(_vectors(30), tsne_up_to=29)[1] == "PCA"
    assert layout(_vectors(3))[1] == "PCA"


def test_a_map_holds_each_token_twice_and_each_neighbour_once_and_comes_out_the_same_again() -> None:
    words = [f"w{i}" for i in range(40)]
    space = make_space("encoded", words, _vectors(40), _vectors(5, 1), _vectors(5, 2))
    points, method = make_map(space, list("abcde"))
    named = [(p.word, p.when) for p in points]
    assert len(set(named)) == len(named)
    assert {n for n in named if n[1] != "vocabulary"} == {(t, w) for t in "abcde" for w in ("before", "after")}
    assert make_map(space, list("abcde")) == (points, method)


def test_a_single_token_can_be_drawn() -> None:
    space = make_space("encoded", ["w"], _vectors(1), _vectors(1, 1), _vectors(1, 2))
    assert len(make_map(space, ["t"])[0]) == 3
