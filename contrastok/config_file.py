"""The options of a command from a TOML file.

A file may hold a table for each command ([gen-pairs], [train], [report], [apply], [eval.relatedness] ...) and keys
above them that serve every command that has them:

    model = "minilm"
    terms = "terms.jsonl"
    [gen-pairs]
    corpus = ["corpus/"]
    [train]
    epochs = 4
"""

from __future__ import annotations

import dataclasses
import tomllib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from contrastok.config import COMMANDS, GROUPS, command_name
from contrastok.errors import ConfigError, InputError, did_you_mean, raise_all
from contrastok.options import Common, flag, flags

C = TypeVar("C", bound=Common)


def from_toml(kind: type[C], path: Path) -> C:
    """Read a command's configuration from a TOML file.

    Args:
        kind: the dataclass of the command.
        path: the file. Top-level keys serve every command; the command's own table goes before them.

    Raises:
        InputError: the file is missing, cannot be read or is no TOML.
        ConfigError: lists every key that is unknown or of the wrong type.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("no such file", where=path, hint="--config names a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:  # thousands of brackets
        raise InputError(f"is no TOML file: {error}", where=path, hint="look at docs/guide.md for one") from None
    except OSError as error:  # a folder, or of somebody else
        told = f"cannot be read ({error.strerror or error})"
        raise InputError(told, where=path, hint="--config names a TOML file that you may read") from None
    scopes = _scopes(document)
    own = command_name(kind).replace(" ", ".")
    tables = {*GROUPS, *(name.replace(" ", ".") for name in COMMANDS)}
    problems = [f"[{name}] is no command: {did_you_mean(name, tables)}" for name in scopes if name not in {"", *tables}]
    fields = {f.name for f in dataclasses.fields(kind)}
    merged: dict[str, Any] = {}
    for scope in dict.fromkeys(("", own.partition(".")[0], own)):
        known, head = _options_of(scope), f"[{scope}] " if scope else ""
        for key, value in scopes.get(scope, {}).items():
            if flag(key) not in known:
                problems.append(f"{head}{key} is no option: {did_you_mean(flag(key), known)}")
            elif _name(key) in fields:
                merged[_name(key)] = value
    hints = typing.get_type_hints(kind)
    values = {}
    for name, value in merged.items():
        try:
            values[name] = _convert(value, hints[name])
        except TypeError as error:
            problems.append(f"{flag(name)} = {value!r}: {error}")
    raise_all(ConfigError, [f"{path}: {problem}" for problem in problems])
    return kind(**values)


def _scopes(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The keys of a TOML document by the header above them: "" for its top, "eval", "eval.relatedness"."""
    scopes: dict[str, Mapping[str, Any]] = {"": _scalars(document)}
    for name, table in document.items():
        if isinstance(table, dict):
            scopes[name] = _scalars(table) if name in GROUPS else table
            inner = table if name in GROUPS else {}
            scopes |= {f"{name}.{key}": value for key, value in inner.items() if isinstance(value, dict)}
    return scopes


def _scalars(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if not isinstance(value, dict)}


def _options_of(scope: str) -> set[str]:
    """The options of the commands that a header serves; all of them for the top."""
    served = [kind for name, kind in COMMANDS.items() if scope in ("", name.split()[0], name.replace(" ", "."))]
    return set().union(*map(flags, served))


def _convert(value: Any, hint: Any) -> Any:
    """A TOML value as the type a field wants; TypeError says what was expected."""
    options = typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        values = value if isinstance(value, list) else [value]
        return tuple(_convert(item, options[0]) for item in values)
    if typing.get_origin(hint) is Literal:
        if value not in options:
            raise TypeError(f"expected one of {', '.join(map(repr, options))}")
        return value
    if options:  # X | None
        return _convert(value, options[0])
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, bool) is not (hint is bool) or not isinstance(value, hint):
        raise TypeError(f"expected {'text' if hint in (str, Path) else hint.__name__}")
    return value


def _name(key: str) -> str:
    return key.replace("-", "_")
