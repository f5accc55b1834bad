"""JSON that files tell, checked against a schema: what is read is of the shape that the rest relies on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contrastok.errors import InputError

Shape = Mapping[str, Any]
"""A JSON Schema (draft 7)."""


def fields(**shapes: Shape) -> Shape:
    """An object that has all of these, and may have more."""
    return {"type": "object", "required": list(shapes), "properties": shapes}


def list_of(shape: Shape) -> Shape:
    """A list of such values."""
    return {"type": "array", "items": shape}


TEXT: Shape = {"type": "string"}
COUNT: Shape = {"type": "integer", "minimum": 0}
OBJECT: Shape = {"type": "object"}


def read_json(file: Path, shape: Shape, hint: str) -> dict[str, Any]:
    """The JSON object in a file.

    Args:
        file: UTF-8 text.
        shape: what it must be like.
        hint: what to do when it is not.

    Raises:
        InputError: names the line that is no JSON, or the value that has another shape.
    """
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"is broken: no JSON ({error.msg})", where=f"{file}:{error.lineno}", hint=hint) from error
    except (OSError, ValueError, RecursionError) as error:  # unreadable, not UTF-8; thousands of digits or brackets
        raise InputError(f"is broken: {error}", where=file, hint=hint) from error
    check_shape(value, shape, file, hint)
    return value  # type: ignore[no-any-return]


def check_shape(value: Any, shape: Shape, where: object, hint: str) -> None:
    """Refuse a value that is not an object, or not of a shape.

    Raises:
        InputError: names the first value inside that is wrong, and what was expected.
    """
    from fastjsonschema import JsonSchemaValueException, compile

    try:
        # Compiled to plain Python: a schema that is walked anew for each value takes seconds for 10,000 tokens.
        compile({"type": "object", **shape}, use_default=False)(value)
    except JsonSchemaValueException as error:
        at = error.name.removeprefix("data").removeprefix(".")
        told = error.message.removeprefix(error.name).strip()
        place = f"at {at}: " if at else ""
        raise InputError(f"is broken: {place}{told[:200]}", where=where, hint=hint) from None
