from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contrastok.columns import NUMBER, TEXT, TEXTS, TRUTH, read_columns
from contrastok.errors import InputError

WANTED = {"a": TEXT, "b": TEXTS}
VALID = {"a": pa.array(["x", "y"]), "b": pa.array([["p", "q"], []])}


def read(folder: Path, columns: dict[str, Any], **options: Any) -> dict[str, list[Any]]:
    pq.write_table(pa.table(columns), folder / "a.parquet")
    return read_columns(folder / "a.parquet", WANTED, "write it again", **options)


@pytest.mark.parametrize(
    "columns",
    [
        VALID,
        VALID | {"a": VALID["a"].cast(pa.large_string()), "b": VALID["b"].cast(pa.large_list(pa.large_string()))},
        VALID | {"a": VALID["a"].dictionary_encode()},
        VALID | {"more": pa.array([1, 2])},
    ],
)
def test_text_is_text_however_it_is_stored(columns: dict[str, Any], tmp_path: Path) -> None:
    assert read(tmp_path, columns) == {"a": ["x", "y"], "b": [["p", "q"], []]}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"a": pa.array([1, 2])}, "column a holds int64, and text was expected"),
        ({"a": pa.array([b"x", b"y"])}, "column a holds binary, and text was expected"),
        ({"b": pa.array(["pq", ""])}, "column b holds string, and a list of text was expected"),
        ({"b": pa.array([[1], []])}, "and a list of text was expected"),
        ({"b": pa.array([["p", None], []])}, "column b has nothing in some places"),
        ({"a": pa.array(["x", None])}, "column a has nothing in some places, and text was expected"),
    ],
)
def test_another_type_is_told_with_its_column(changed: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="write it again") as error:
        read(tmp_path, VALID | changed)
    assert told in str(error.value) and "a.parquet" in str(error.value)


def test_what_may_be_missing_may_be_missing(tmp_path: Path) -> None:
    assert read(tmp_path, {"a": VALID["a"]}, optional=("b",)) == {"a": ["x", "y"]}
    assert read(tmp_path, VALID | {"b": pa.nulls(2)}, gaps=("b",))["b"] == [None, None]
    with pytest.raises(InputError, match=r"lacks the column\(s\) b"):
        read(tmp_path, {"a": VALID["a"]})


def test_two_columns_of_one_name_and_text_that_is_no_utf_8_are_told(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_arrays([*VALID.values(), VALID["a"]], ["a", "b", "a"]), tmp_path / "two.parquet")
    with pytest.raises(InputError, match="has 2 columns a"):
        read_columns(tmp_path / "two.parquet", WANTED, "")
    sink = io.BytesIO()
    pq.write_table(pa.table(VALID | {"a": pa.array(["caf#", "y"])}), sink, compression="none", use_dictionary=False)
    (tmp_path / "latin.parquet").write_bytes(sink.getvalue().replace(b"caf#", b"caf\xe9"))
    with pytest.raises(InputError, match="no readable parquet") as error:
        read_columns(tmp_path / "latin.parquet", WANTED, "")
    assert "latin.parquet" in str(error.value)


def test_truth_and_numbers(tmp_path: Path) -> None:
    pq.write_table(pa.table({"known": [True], "share": [0.5]}), tmp_path / "a.parquet")
    assert read_columns(tmp_path / "a.parquet", {"known": TRUTH, "share": NUMBER}, "") == {
        "known": [True],
        "share": [0.5],
    }
    for wanted in ({"known": NUMBER}, {"share": TRUTH}):
        with pytest.raises(InputError, match="was expected"):
            read_columns(tmp_path / "a.parquet", wanted, "")
