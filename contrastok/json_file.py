"""JSON that files tell, checked against a schema: what is read is of the shape that the rest relies on."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contrastok.errors import InputError

Shape = Mapping[str, Any]
"""A JSON Schema (draft 7)."""

ESCAPED = re.compile(r"\\u[dD][89a-fA-F]")
SURROGATE = re.compile("[\ud800-\udfff]")


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
        InputError: names the line that is no JSON, or the value that is no text or has another shape.
    """
    try:
        text = file.read_text(encoding="utf-8")
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"is broken: no JSON ({error.msg})", where=f"{file}:{error.lineno}", hint=hint) from error
    except (OSError, ValueError, RecursionError) as error:  # unreadable, not UTF-8; thousands of digits or brackets
        raise InputError(f"is broken: {error}", where=file, hint=hint) from error
    check_text(text, value, file, hint)
    check_shape(value, shape, file, hint)
    return value  # type: ignore[no-any-return]


def check_text(text: str, value: Any, where: object, hint: str) -> None:
    """Refuse half characters: JSON can spell a lone surrogate, "\\ud800", which no file and no terminal takes.

    Args:
        text: the JSON. What was decoded from UTF-8 has surrogates only where an escape spells one.
        value: what it says.
        where: it stands.
        hint: what to do.

    Raises:
        InputError: names the first field that holds one.
    """
    at = _half_character(value) if ESCAPED.search(text) else None
    if at is not None:
        raise InputError(f"is broken: at {at}: holds half a character (a lone surrogate)", where=where, hint=hint)


def _half_character(value: Any) -> str | None:
    """Where in a JSON value the first lone surrogate is; None where there is none.

    A stack of our own: values may be nested deeper than Python calls functions.
    """
    left: list[tuple[Any, Any]] = [(value, None)]  # values, each with the way to it: (the way before, a step)
    while left:
        value, way = left.pop()
        if isinstance(value, str) and SURROGATE.search(value):
            return _spelled(way)
        if isinstance(value, dict):
            if any(map(SURROGATE.search, value)):
                return f"a key in {_spelled(way)}"
            left += [(item, (way, f".{key}")) for key, item in reversed(value.items())]
        elif isinstance(value, list):
            left += [(value[at], (way, f"[{at}]")) for at in reversed(range(len(value)))]
    return None


def _spelled(way: Any) -> str:
    steps = []
    while way is not None:
        way, step = way
        steps.append(step)
    return "".join(reversed(steps)).removeprefix(".")[:200] or "the top"


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
