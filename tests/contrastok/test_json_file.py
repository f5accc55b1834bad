from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from contrastok.checkpoint import MANIFEST, MANIFEST_SHAPE, read_manifest
from contrastok.errors import InputError
from contrastok.json_file import COUNT, TEXT, Shape, check_shape, fields, list_of
from contrastok.pairs import read_about
from contrastok.tensor_file import NOTE, read_tensors
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


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"terms": [{"token": "a", "definition": "b\\ud800"}]}', "at terms[0].definition: holds half a character"),
        ('{"terms": [{"token": "\\uDFFF"}]}', "at terms[0].token: holds half a character"),
        ('{"terms": [], "deep": ' + "[" * 900 + '"\\ud800"' + "]" * 900 + "}", "at deep[0][0][0]"),
        ('{"terms": [], "about": {"\\ud83e": 1}}', "at a key in about: holds half a character"),
    ],
)  # fmt: skip
def test_half_a_character_is_told_with_its_field(content: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "pairs.json").write_text(content)
    with pytest.raises(InputError) as error:
        read_about(tmp_path / "pairs.json")
    assert told in str(error.value) and str(error.value).encode()


def test_a_manifest_with_half_a_character_is_told(tmp_path: Path) -> None:
    broken = CHECKPOINT | {"tokens": [TOKEN | {"definition": "\ud800"}]}
    (tmp_path / MANIFEST).write_text(json.dumps(broken))
    with pytest.raises(InputError, match=r"at tokens\[0\]\.definition"):
        read_manifest(tmp_path)


def test_both_halves_are_a_character(tmp_path: Path) -> None:
    (tmp_path / "pairs.json").write_text(
        json.dumps({"terms": [{"token": "\N{CHEESE WEDGE}", "definition": r"\ud800"}]})
    )
    about = read_about(tmp_path / "pairs.json")
    assert about == {"terms": [{"token": "\N{CHEESE WEDGE}", "definition": r"\ud800"}]}


def test_half_a_character_in_the_note_of_tensors_is_told(tmp_path: Path) -> None:
    save_file({"rows": torch.ones(1)}, tmp_path / "a.safetensors", {NOTE: '{"tokens": [["\\ud800"]]}'})
    with pytest.raises(InputError, match=r"at tokens\[0\]\[0\]: holds half a character"):
        read_tensors(tmp_path / "a.safetensors", "")


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
