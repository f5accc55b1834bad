from __future__ import annotations

import pytest

from contrastok.config import TrainConfig
from contrastok.errors import ContrastokError, InputError
from contrastok.eval.compare_told import in_compare


def test_an_option_to_give_is_told_as_compare_takes_it() -> None:
    with pytest.raises(ContrastokError) as caught:
        TrainConfig(terms=("t",), pairs="p", out="o", init="sava").validate()  # type: ignore[arg-type]
    assert in_compare(caught.value) == (
        "--init sava needs another model, whose rows are carried over: "
        'give init-model = "FOLDER" under [train] of the file that --config names'
    )
    error = InputError("--init x needs word vectors", hint="give --init-vectors FILE, or run it through train --pairs")
    assert 'word vectors; give init-vectors = "FILE" under [train]' in in_compare(error)


def test_many_problems_are_one_line() -> None:
    with pytest.raises(ContrastokError) as caught:
        TrainConfig(terms=("t",), pairs="p", out="o", lora=True, layers=1, reset_every=2).validate()  # type: ignore[arg-type]
    told = in_compare(caught.value)
    assert told.startswith("2 problems: --lora trains the whole body: leave out --layers; --lora moves the body")
    assert told.endswith("(compare takes options of train from [train] of the file that --config names)")
    assert "\n" not in told and "->" not in told


def test_a_remedy_that_compare_has_itself_stays_as_it_is() -> None:
    error = InputError("has no head", where="minilm", hint="take another --model")
    assert in_compare(error) == "minilm: has no head; take another --model"
    assert in_compare(InputError("needs PEFT")) == "needs PEFT"
