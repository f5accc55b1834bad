from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from contrastok.checkpoint import MANIFEST_SHAPE
from contrastok.errors import InputError
from contrastok.json_file import COUNT, TEXT, Shape, check_shape, fields, list_of
from tests.test_any_bytes import CHECKPOINT, TOKEN

SHAPE = fields(name=TEXT, tokens=list_of(fields(row=COUNT, ids=list_of(COUNT))))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"name": "a"}, "is broken: must contain ['tokens'] properties"),
        ({"name": 1, "tokens": []}, "is broken: at name: must be string"),
        ({"name": "a", "tokens": [{"row": 0, "ids": []}, {"row": 1, "ids": [2, "x"]}]}, "at tokens[1].ids[1]: must be int"),
        ({"name": "a", "tokens": [{"row": True, "ids": []}]}, "at tokens[0].row: must be integer"),
        ({"name": "a", "tokens": [{"row": -1, "ids": []}]}, "at tokens[0].row: must be bigger than or equal to 0"),
        ([], "is broken: must be object"),
    ],
)  # fmt: skip
def test_the_first_wrong_value_is_named(value: object, told: str) -> None:
    with pytest.raises(InputError, match="train again") as error:
        check_shape(value, SHAPE, "a.json", "train again")
    assert told in str(error.value) and str(error.value).startswith("a.json")


def test_what_is_of_the_shape_is_left_as_it_is() -> None:
    value = {"name": "a", "tokens": [{"row": 0, "ids": [1], "more": None}], "more": []}
    check_shape(value, {**SHAPE, "properties": {**SHAPE["properties"], "seed": {"default": 1}}}, "a.json", "")
    assert value == {"name": "a", "tokens": [{"row": 0, "ids": [1], "more": None}], "more": []}


def test_a_manifest_of_many_tokens_is_checked_in_about_the_time_of_reading_it() -> None:
    many = CHECKPOINT | {"tokens": [TOKEN | {"row": row} for row in range(2000)]}
    text = json.dumps(many)
    read = min(_seconds(json.loads, text) for _ in range(3))
    check = min(_seconds(_check, many, MANIFEST_SHAPE) for _ in range(3))
    assert check < 6 * read  # a validator that walks the schema takes ten times as long as reading, and more


def _check(value: Any, shape: Shape) -> None:
    check_shape(value, shape, "a.json", "")


def _seconds(work: Callable[..., object], *given: object) -> float:
    start = time.process_time()
    work(*given)
    return time.process_time() - start
