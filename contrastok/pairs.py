"""Read what gen-pairs wrote, and refuse what does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from contrastok.columns import TEXT, TEXTS, read_columns
from contrastok.errors import InputError
from contrastok.files import sha256_file
from contrastok.json_file import TEXT as JSON_TEXT
from contrastok.json_file import fields, list_of, read_json

COLUMNS = {"token": TEXT, "anchor": TEXT, "positive": TEXT, "negatives": TEXTS, "kind": TEXT, "source": TEXT}
"""What a file of pairs holds."""

ABOUT_SHAPE = {"type": "object", "properties": {"terms": list_of(fields(token=JSON_TEXT))}}
"""What is relied on in a pairs.json that is there: another program may have written it, and tell less."""


@dataclass(frozen=True)
class PairTable:
    """Pairs in memory, column by column, with the story of their making.

    Attributes:
        token, anchor, positive: text, one entry a pair.
        negatives: for each pair its hard negatives.
        kind: which generator made the pair.
        about: the content of pairs.json; empty when there is none.
        sha256: hash of the parquet file.
    """

    token: list[str]
    anchor: list[str]
    positive: list[str]
    negatives: list[list[str]]
    kind: list[str]
    about: Mapping[str, Any]
    sha256: str

    def __len__(self) -> int:
        return len(self.token)

    def head(self, n: int) -> PairTable:
        """The first `n` pairs."""
        columns = ("token", "anchor", "positive", "negatives", "kind")
        return replace(self, **{name: getattr(self, name)[:n] for name in columns})


def read_pairs(path: Path, tokenizer_sha256: str) -> PairTable:
    """Read pairs.parquet and pairs.json.

    Args:
        path: the folder that gen-pairs wrote, or a parquet file with the same columns.
        tokenizer_sha256: fingerprint of the base model's tokenizer.

    Raises:
        InputError: nothing there, not a parquet file, columns missing or of other types, no rows, changed since it was
            written, or made for another model's tokenizer.
    """
    file = path / "pairs.parquet" if path.is_dir() else path
    if not file.is_file():
        raise InputError("no such file", where=file, hint="--pairs names the folder that contrastok gen-pairs wrote")
    digest = sha256_file(file)
    about = _about(file.with_name("pairs.json"), digest, tokenizer_sha256)
    columns = read_columns(file, COLUMNS, "run gen-pairs again", gaps=COLUMNS)
    if not columns["token"]:
        raise InputError("holds no pairs", where=file, hint="look at the table that gen-pairs printed")
    for name in ("token", "anchor", "positive"):
        empty = next((i for i, value in enumerate(columns[name]) if value is None or not value.strip()), None)
        if empty is not None:
            raise InputError(
                f"row {empty} has no {name}", where=file, hint="every pair needs token, anchor and positive"
            )
    return PairTable(
        columns["token"],
        columns["anchor"],
        columns["positive"],
        [list(n or []) for n in columns["negatives"]],
        [k or "" for k in columns["kind"]],
        about,
        digest,
    )


def read_about(file: Path) -> Mapping[str, Any]:
    """The content of a pairs.json; empty when there is none.

    Raises:
        InputError: it is no JSON object.
    """
    if not file.is_file():
        return {}
    return read_json(file, ABOUT_SHAPE, "run gen-pairs again")


def _about(file: Path, digest: str, tokenizer_sha256: str) -> Mapping[str, Any]:
    if not file.is_file():
        return {}
    about = read_about(file)
    if about.get("tokenizer_sha256") != tokenizer_sha256:
        raise InputError(
            f"these pairs were made for the tokenizer of model {about.get('model')!r}, which is another one",
            where=file,
            hint="run gen-pairs with the same --model, or train with the one that made them",
        )
    if about.get("pairs_sha256") != digest:
        raise InputError("the pairs beside it changed after they were written", where=file, hint="run gen-pairs again")
    return about
