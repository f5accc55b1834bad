"""Rated pairs of sentences, and how well cosines follow the ratings."""

from __future__ import annotations

import contextlib
import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from contrastok.data_gen.text_files import lines, raise_problems
from contrastok.errors import InputError, did_you_mean
from contrastok.eval.index import Array

COLUMNS = ("sentence1", "sentence2", "score")


@dataclass(frozen=True)
class RatedPairs:
    """Sentence pairs with the likeness that people gave them: `first[i]`, `second[i]`, `scores[i]`."""

    first: tuple[str, ...]
    second: tuple[str, ...]
    scores: tuple[float, ...]


def read_sts(path: Path) -> RatedPairs:
    """Read a CSV file of rated pairs.

    Args:
        path: with a header that names COLUMNS, among others perhaps, or without any header and just those columns.

    Raises:
        InputError: lists everything that is wrong with the file.
    """
    rows = csv.reader(line for _, line in lines(path))
    places: list[int] = []
    found: list[tuple[str, str, float]] = []
    problems: list[InputError] = []
    try:
        for row in rows:
            where = f"{path}:{rows.line_num}"
            if not row:
                continue
            if not places:
                places = _places(row, where)
                if _number(row, places) is None:
                    continue
            score = _number(row, places)
            if score is None:
                problems.append(InputError("needs two sentences and a number", where=where, hint=", ".join(COLUMNS)))
            else:
                found.append((row[places[0]], row[places[1]], score))
    except csv.Error as error:
        problems.append(InputError(f"unreadable CSV: {error}", where=f"{path}:{rows.line_num}"))
    raise_problems(problems)
    if len({score for *_, score in found}) < 2:
        raise InputError("needs at least two pairs that are rated differently", where=path)
    first, second, scores = zip(*found, strict=True)
    return RatedPairs(first, second, scores)


def _places(row: list[str], where: str) -> list[int]:
    """Where the columns stand, by the first row: a header, or a rating already."""
    names = [name.strip().casefold() for name in row]
    if set(COLUMNS) <= set(names):
        return [names.index(name) for name in COLUMNS]
    if len(row) == len(COLUMNS) and _number(row, [0, 1, 2]) is not None:
        return [0, 1, 2]
    missing = next((name for name in COLUMNS if name not in names), COLUMNS[0])
    raise InputError(f"has no column {missing!r}: {did_you_mean(missing, names)}", where=where)


def _number(row: list[str], places: list[int]) -> float | None:
    if len(row) > max(places):
        with contextlib.suppress(ValueError):
            value = float(row[places[2]])
            return value if math.isfinite(value) else None
    return None


def sts_spearman(first: Array, second: Array, scores: tuple[float, ...]) -> float:
    """Spearman's correlation between the ratings and the cosines of unit vectors `[N, d]`."""
    return float(spearmanr(np.sum(first * second, axis=1), scores).statistic)
