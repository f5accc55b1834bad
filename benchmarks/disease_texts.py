"""Texts that hold the rare disease names, and texts that do not: retrieval, and what must not change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tokenizer_modes import sentences
from contrastok.checkpoint import Checkpoint
from contrastok.console import Console
from contrastok.eval.baselines import INITIAL, TRAINED
from contrastok.eval.harm import load_base, measure_harm
from contrastok.eval.retrieval import retrieval
from contrastok.eval.sts import read_sts
from contrastok.eval_config import RetrievalConfig

SEED = 0
"""Of the random rows, of what is drawn, and of the bootstrap."""
TEXTS = 2000
"""Sentences compared bit by bit."""
SEARCHED = ("pieces mean", INITIAL, TRAINED)
"""Rows that texts are searched with, beside the split word."""


def measure_retrieval(model: Path, pairs: Path, shared: Path, queries: int) -> dict[str, Any]:
    """`contrastok eval retrieval`: questions of MedQuAD that concern a new token, for their answers.

    A question concerns one that it holds, or that its answer holds. The pool is the right answers and as many others,
    drawn by seed from all answers of MedQuAD.

    Args:
        model: the checkpoint's folder.
        pairs: that it was trained with.
        shared: the folder of public data.
        queries: so many questions, drawn by seed; all, among all answers, when 0.
    """
    config = RetrievalConfig(
        model=model,
        pairs_file=shared / "medquad" / "medquad.jsonl.gz",
        query_field="question",
        passage_field="answer",
        pairs=pairs,
        limit=queries,
        seed=SEED,
        views=SEARCHED,
        quiet=True,
    )
    return retrieval(config)


def measure_no_harm(checkpoint: Checkpoint, shared: Path, console: Console) -> dict[str, Any]:
    """What `contrastok eval no-harm` measures, on STS-B's test pairs and sentences of MedQuAD drawn by seed."""
    texts = sentences(shared)
    drawn = [texts[i] for i in np.random.default_rng(SEED).permutation(len(texts))[:TEXTS]]
    rated = read_sts(shared / "stsb" / "stsb-en-test.csv")
    return measure_harm(checkpoint, load_base(checkpoint), drawn, rated, SEED, console)
