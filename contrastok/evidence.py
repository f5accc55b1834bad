"""What gen-pairs found about each new term and about the words that the model knows: evidence.parquet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from contrastok.columns import NUMBER, TEXT, TEXTS, TRUTH, read_columns
from contrastok.errors import InputError
from contrastok.files import sha256_file
from contrastok.pairs import read_about

EVIDENCE_FILE = "evidence.parquet"
COLUMNS = {
    "token": TEXT, "known": TRUTH, "definition": TEXT, "synonyms": TEXTS, "broader": TEXTS, "sentences": TEXTS,
    "per_million": NUMBER,
}  # fmt: skip
"""What it holds: the attributes of `WordEvidence`."""


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
    folder = pairs if pairs.is_dir() else pairs.parent
    written = read_about(folder / "pairs.json").get("evidence")
    if written is None:
        return None
    file = folder / EVIDENCE_FILE
    if not file.is_file():
        raise InputError("no such file, although pairs.json names it", where=file, hint="run gen-pairs again")
    if not isinstance(written, dict) or written.get("sha256") != sha256_file(file):
        raise InputError("changed after it was written", where=file, hint="run gen-pairs again")
    columns = read_columns(file, COLUMNS, "run gen-pairs again", optional=("per_million",))  # older versions lack it
    for name in (name for name, kind in COLUMNS.items() if kind == TEXTS):
        columns[name] = list(map(tuple, columns[name]))
    return tuple(WordEvidence(**dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True))
