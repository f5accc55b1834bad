"""The data of the benchmark on rare disease names: the Disease Ontology's records, and as terms for gen-pairs."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Record = dict[str, Any]


def read_records(shared: Path, count: int = 0) -> list[Record]:
    """The benchmark's terms: so many, evenly spread; all when `count` is 0.

    Raises:
        SystemExit: the public data is not there.
    """
    source = shared / "disease_ontology" / "disease_terms.jsonl"
    if not source.exists():
        raise SystemExit(f"{source} is missing: this benchmark reads public data that does not come with contrastok")
    records = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    return [records[i * len(records) // count] for i in range(min(count, len(records)))] if count else records


def read_names(shared: Path) -> list[str]:
    """The names of all entries of the ontology."""
    with gzip.open(shared / "disease_ontology" / "doid_terms.jsonl.gz", "rt", encoding="utf-8") as source:
        return [json.loads(line)["name"] for line in source]


def write_terms(records: Iterable[Record], out: Path) -> None:
    """Convert the benchmark's records to ours."""
    with out.open("w", encoding="utf-8") as handle:
        for record in records:
            term = {
                "token": record["word"],
                "definition": record["definition"] or "",
                "synonyms": record["exact_synonyms"],
                "broader": record["parents"],
            }
            handle.write(json.dumps(term) + "\n")
