from __future__ import annotations

import itertools
from typing import Any

import pytest

from contrastok.eval.relearned import leans_on, relearned
from contrastok.prior import REQUIRED

from .conftest import PRIOR, UNPLACED


def _token(definition: str = "", sentences: int = 0) -> dict[str, Any]:
    return {"definition": definition, "evidence": {"sentences": sentences}}


def test_the_share_that_landed_weighs_parts_by_their_words() -> None:
    parts = [{"confidence": 0.1, "landed": 0.0, "words": 1}, {"confidence": 0.9, "landed": 1.0, "words": 3}]
    found = relearned({**PRIOR, "reliability": parts})
    assert found is not None and (found.words, found.landed) == (4, 0.75)


def test_the_chosen_trial_is_the_one_with_its_settings() -> None:
    found = relearned(PRIOR)
    assert found is not None
    assert [found.word_stage.chosen(trial) for trial in found.word_stage.trials] == [False, False, True]


def test_without_a_word_stage_the_prediction_is_what_was_chosen() -> None:
    found = relearned(UNPLACED)
    assert found is not None and found.word_stage.left_out
    assert [found.word_stage.chosen(trial) for trial in found.word_stage.trials] == [True, False, False]


def test_without_a_prior_there_is_nothing() -> None:
    assert relearned(None) is None and leans_on(_token("a cheese", 3), None) is None


@pytest.mark.parametrize(
    ("fits", "expected"),
    [
        (("form+definition+sentences",), ("definition", "sentences")),
        (("form+definition",), ("definition",)),  # the known words have no sentences
        (("form+definition", "form+sentences"), ("sentences",)),  # none has both
        (("form",), ()),
    ],
)
def test_a_token_leans_on_the_best_map_that_was_fitted(fits: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert leans_on(_token("a cheese", 3), {"fits": {name: {} for name in fits}}) == expected


def test_no_token_leans_on_what_it_lacks() -> None:
    sets = [c for n in range(3) for c in itertools.combinations(REQUIRED, n)]
    fits = {"+".join(("form", *c)): {} for c in sets}
    assert leans_on(_token(), {"fits": fits}) == ()
    assert leans_on(_token("a cheese"), {"fits": fits}) == ("definition",)
    assert leans_on(_token(sentences=1), {"fits": fits}) == ("sentences",)
