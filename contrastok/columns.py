"""Columns of a parquet file, of the types that the rest relies on: another program may have written it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contrastok.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

TEXT, TEXTS, TRUTH, NUMBER = "text", "a list of text", "true or false", "a number"
"""What a column may hold."""


def read_columns(
    file: Path, wanted: Mapping[str, str], hint: str, *, optional: Collection[str] = (), gaps: Collection[str] = ()
) -> dict[str, list[Any]]:
    """Columns of a parquet file by name; others that it has are not read.

    Args:
        file: the file.
        wanted: what each column must hold.
        hint: what to do when it does not.
        optional: columns that may be missing.
        gaps: columns in which a row may have nothing (None). A list never holds a None.

    Raises:
        InputError: it is no parquet file, or names the column that is missing or holds something else.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as parquet:
            schema = parquet.schema_arrow
            there = [name for name in wanted if schema.get_all_field_indices(name)]
            missing = [name for name in wanted if name not in there and name not in optional]
            if missing:
                columns = ", ".join(name for name in wanted if name not in optional)
                told = f"lacks the column(s) {', '.join(missing)}"
                raise InputError(told, where=file, hint=f"columns are {columns}; {hint}")
            for name in there:
                _check_type(schema, name, wanted[name], file, hint)
            table = parquet.read(columns=there)
        for name in there:
            column = table[name]
            inner = pc.list_flatten(column).null_count if wanted[name] == TEXTS and column.type != pa.null() else 0
            if inner or (column.null_count and name not in gaps):
                told = f"column {name} has nothing in some places, and {wanted[name]} was expected"
                raise InputError(told, where=file, hint=hint)
        return {name: table[name].to_pylist() for name in there}
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"is no readable parquet file: {error}", where=file, hint=hint) from error


def _check_type(schema: pa.Schema, name: str, kind: str, file: Path, hint: str) -> None:
    """Refuse a column of another type, or a name that two columns have."""
    at = schema.get_all_field_indices(name)
    if len(at) > 1:
        raise InputError(f"has {len(at)} columns {name}", where=file, hint=hint)
    found = schema.field(at[0]).type
    if not _holds(found, kind):
        raise InputError(f"column {name} holds {found}, and {kind} was expected", where=file, hint=hint)


def _holds(found: pa.DataType, kind: str) -> bool:
    from pyarrow import types

    if types.is_null(found):
        return True  # a column without a single value has no type
    if types.is_dictionary(found):
        return kind == TEXT and _holds(found.value_type, TEXT)
    if kind == TEXTS:
        is_list = types.is_list(found) or types.is_large_list(found) or types.is_fixed_size_list(found)
        return is_list and _holds(found.value_type, TEXT)
    if kind == TEXT:
        return types.is_string(found) or types.is_large_string(found) or types.is_string_view(found)  # type: ignore[no-any-return]
    return types.is_boolean(found) if kind == TRUTH else types.is_floating(found) or types.is_integer(found)  # type: ignore[no-any-return]
