"""Nearest-neighbour search by cosine: exact while that is affordable, approximate beyond, and it says which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

EXACT_UP_TO = 1_000_000
"""Rows up to which every row is compared. No vocabulary in use today is larger."""


@dataclass(frozen=True)
class NeighborIndex:
    """A FAISS index over unit vectors.

    Attributes:
        faiss_index: the index; inner product of unit vectors is their cosine.
        description: one line that says what was searched and how, for the report.
    """

    faiss_index: Any
    description: str

    def search(self, queries: Array, k: int) -> tuple[Array, npt.NDArray[np.int64]]:
        """The `k` nearest rows of each query.

        Args:
            queries: float32 `[Q, d]`, any length; they are normalised here.
            k: neighbours wanted; fewer come back when the index is smaller.

        Returns:
            Cosines float32 `[Q, k]`, best first, and row positions int64 `[Q, k]`. An approximate index that
            finds fewer than `k` fills up with position -1.
        """
        cosines, positions = self.faiss_index.search(unit(queries), min(k, self.faiss_index.ntotal))
        return cosines, positions


def unit(vectors: Array) -> Array:
    """Vectors scaled to length 1, float32 and contiguous, `[N, d]`; a zero vector stays zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors / np.maximum(norms, 1e-12), dtype=np.float32)


def build(vectors: Array, exact_up_to: int = EXACT_UP_TO) -> NeighborIndex:
    """Index the rows of `vectors`, float32 `[N, d]`, in the way their number asks for.

    Beyond `exact_up_to` the choice is an inverted file rather than a graph (HNSW): a report is built once and
    asked a few thousand questions, so the time to build decides, and building HNSW takes about four times as
    long for the same recall.
    """
    rows = unit(vectors)
    return _exact(rows) if len(rows) <= exact_up_to else _inverted_file(rows)


def _exact(rows: Array) -> NeighborIndex:
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)
    return NeighborIndex(index, f"exact search over {len(rows):,} rows (FAISS IndexFlatIP)")


def _inverted_file(rows: Array, seed: int = 0) -> NeighborIndex:
    """Cells of about sqrt(N) / 4 rows, one in thirty searched; the recall this costs is measured and said."""
    count, dim = rows.shape
    cells = max(1, round(4 * count**0.5))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, cells, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed, index.cp.max_points_per_centroid = seed + 1, 64
    index.cp.min_points_per_centroid = 1
    index.train(rows)
    index.add(rows)
    index.nprobe = max(1, cells // 32)
    probes = rows[np.random.default_rng(seed).choice(count, min(100, count), replace=False)]
    recall = _recall(index, rows, probes, k=min(10, count))
    return NeighborIndex(
        index,
        f"approximate search over {count:,} rows (FAISS IndexIVFFlat, {index.nprobe} of {cells:,} cells "
        f"searched, recall@10 {recall:.3f} on {len(probes)} rows)",
    )


def _recall(index: Any, rows: Array, probes: Array, k: int) -> float:
    truth = np.argpartition(-(probes @ rows.T), k - 1, axis=1)[:, :k]
    found = index.search(probes, k)[1]
    return float(np.mean([len(set(t) & set(f)) / k for t, f in zip(truth, found, strict=True)]))
