"""What a pass over some text found: it adds up over shards, and travels and is kept as Parquet."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from contrastok.data_gen.reservoir import BottomK, Distinct
from contrastok.data_gen.sentences import Span
from contrastok.data_gen.text_sample import TextSample

_FOUND = pa.struct([("term", pa.int32()), ("occurrences", pa.int64()), ("different", pa.list_(pa.uint64()))])
_SENTENCE = pa.struct(
    [
        ("term", pa.int32()),
        ("priority", pa.uint64()),
        ("text", pa.large_string()),
        ("starts", pa.list_(pa.int64())),
        ("ends", pa.list_(pa.int64())),
        ("source", pa.string()),
    ]
)
SCHEMA = pa.schema(
    [
        ("documents", pa.int64()),
        ("characters", pa.int64()),
        ("sentences", pa.int64()),
        ("too_short", pa.int64()),
        ("terms", pa.int64()),
        ("found", pa.list_(_FOUND)),
        ("kept", pa.list_(_SENTENCE)),
        ("sample", pa.list_(pa.struct([("priority", pa.uint64()), ("text", pa.large_string())]))),
        ("threshold", pa.decimal128(20)),
    ]
)
"""One row: 2^64, where a threshold starts, is one more than an integer column holds."""


@dataclass(frozen=True, order=True, slots=True)
class Sentence:
    """A sentence, or a window of a long one, that holds a term.

    Attributes:
        text: single spaces between words.
        spans: character spans of the term's occurrences, from left to right; at least one.
        source: the document it comes from.
    """

    text: str
    spans: tuple[Span, ...]
    source: str


class Findings:
    """The counters and samples of a pass. Nothing depends on the order of what was read, or on how it was divided.

    Args:
        terms: number of terms.
        max_sentences: kept for each.
        sample: of all text.

    Attributes:
        documents, characters: read.
        sentences: in which a term was matched.
        too_short: occurrences (a sentence and a term) left out for it.
        occurrences: for each term those that were not.
        different: how many of these differ, by term.
        kept: some of those, by term.
    """

    def __init__(self, terms: int, max_sentences: int, sample: TextSample) -> None:
        self.documents = self.characters = self.sentences = self.too_short = 0
        self.occurrences = array("q", bytes(8 * terms))
        # A term that was not found has no entry: a shard holds few of a hundred thousand terms.
        self.different: defaultdict[int, Distinct] = defaultdict(Distinct)
        self.kept: defaultdict[int, BottomK[Sentence]] = defaultdict(lambda: BottomK(max_sentences))
        self.sample = sample

    def keep(self, term: int, priority: int, sentence: Sentence) -> None:
        """Take note of an occurrence; the same priority means the same sentence."""
        self.occurrences[term] += 1
        self.different[term].add(priority)
        self.kept[term].offer(priority, sentence)

    def to_bytes(self) -> bytes:
        """The same findings give the same bytes."""
        record = {
            **{name: getattr(self, name) for name in ("documents", "characters", "sentences", "too_short")},
            "terms": len(self.occurrences),
            "found": [
                {"term": term, "occurrences": self.occurrences[term], "different": different.smallest()}
                for term, different in sorted(self.different.items())
                if self.occurrences[term]
            ],
            "kept": [
                _row(term, priority, sentence)
                for term, kept in sorted(self.kept.items())
                for priority, sentence in kept.ranked()
            ],
            "sample": [{"priority": priority, "text": text} for priority, text in self.sample.ranked()],
            "threshold": self.sample.threshold,
        }
        written = BytesIO()
        pq.write_table(pa.Table.from_pylist([record], SCHEMA), written, compression="zstd", write_page_checksum=True)
        return written.getvalue()

    def add(self, data: bytes) -> None:
        """Add the findings of another pass, from `to_bytes`, for the same terms.

        Raises:
            ValueError: they are no such findings.
        """
        other = _record(data, len(self.occurrences))
        self.documents += other["documents"].as_py()
        self.characters += other["characters"].as_py()
        self.sentences += other["sentences"].as_py()
        self.too_short += other["too_short"].as_py()
        for term, occurrences, different in _columns(other["found"]):
            self.occurrences[term] += occurrences
            self.different[term].update(different)
        for term, priority, text, starts, ends, source in _columns(other["kept"]):
            self.kept[term].offer(priority, Sentence(text, tuple(zip(starts, ends, strict=True)), source))
        self.sample.lower(int(other["threshold"].as_py()))
        for priority, text in _columns(other["sample"]):
            self.sample.take(priority, text)


def _row(term: int, priority: int, sentence: Sentence) -> dict[str, Any]:
    starts, ends = ([span[side] for span in sentence.spans] for side in (0, 1))
    return {
        "term": term,
        "priority": priority,
        "text": sentence.text,
        "starts": starts,
        "ends": ends,
        "source": sentence.source,
    }


def _record(data: bytes, terms: int) -> dict[str, pa.Scalar]:
    try:
        table = pq.read_table(pa.BufferReader(data), schema=SCHEMA, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"no findings: {error}") from None
    if len(table) != 1 or table["terms"][0].as_py() != terms:
        raise ValueError("findings about other terms")
    return {name: table[name][0] for name in SCHEMA.names}


def _columns(records: pa.ListScalar) -> Iterator[tuple[Any, ...]]:
    """The fields of each record; a column at a time, which is several times as fast as record by record."""
    return zip(*(column.to_pylist() for column in records.values.flatten()), strict=True)
