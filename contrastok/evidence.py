"""What gen-pairs found about each new term and about the words that the model knows: evidence.parquet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contrastok.errors import InputError
from contrastok.files import sha256_file
from contrastok.pairs import read_about

EVIDENCE_FILE = "evidence.parquet"


@dataclass(frozen=True)
class WordEvidence:
    """What glossary and text say about one word. Any of the texts may hold the word itself.

    Attributes:
        token: the word as it stands in running text.
        known: whether the base tokenizer has it as one token; false for a new term.
        definition: "" when there is none.
        synonyms, broader: names, of a new term without those that are held out.
        sentences: different sentences that hold the word, in an order that the seed decides.
        per_million: sentences of the corpus that hold it, for a million characters.
    """

    token: str
    known: bool
    definition: str
    synonyms: tuple[str, ...]
    broader: tuple[str, ...]
    sentences: tuple[str, ...]
    per_million: float = 0.0


def read_evidence(pairs: Path) -> tuple[WordEvidence, ...] | None:
    """Read the evidence beside the pairs.

    Args:
        pairs: the folder that gen-pairs wrote, or the parquet file of pairs in it.

    Returns:
        New terms in the order of their rows, then known words by ascending id. None when the pairs were written
        without evidence: by an older version, or by another program.

    Raises:
        InputError: pairs.json is broken; or the file is missing, broken or changed since it was written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = pairs if pairs.is_dir() else pairs.parent
    written = read_about(folder / "pairs.json").get("evidence")
    if written is None:
        return None
    file = folder / EVIDENCE_FILE
    if not file.is_file():
        raise InputError("no such file, although pairs.json names it", where=file, hint="run gen-pairs again")
    if not isinstance(written, dict) or written.get("sha256") != sha256_file(file):
        raise InputError("changed after it was written", where=file, hint="run gen-pairs again")
    try:
        return tuple(map(_word, pq.read_table(file).to_pylist()))
    except (pa.ArrowException, OSError, KeyError, TypeError) as error:
        raise InputError(f"cannot be read: {error}", where=file, hint="run gen-pairs again") from error


def _word(row: dict[str, Any]) -> WordEvidence:
    lists = {name: tuple(row[name]) for name in ("synonyms", "broader", "sentences")}
    return WordEvidence(**{**row, **lists})
