"""The command `eval retrieval`: do texts with new tokens find what they should, better than the split words did?"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.markup import escape

from contrastok.bank import encode_sequences
from contrastok.checkpoint import Checkpoint
from contrastok.console import Console, emit_json
from contrastok.errors import InputError
from contrastok.eval.baselines import SPLIT, Ground, complete_rows
from contrastok.eval.bootstrap import as_figures, mean
from contrastok.eval.data import rounded
from contrastok.eval.figure_table import add_section, compared, figure_table
from contrastok.eval.index import Array
from contrastok.eval.measure import untouched_encoder
from contrastok.eval.relations import HIT
from contrastok.eval.retrieval_data import (
    Search,
    bystanders,
    definitions,
    holding,
    read_pairs_file,
    read_search,
    sample,
)
from contrastok.eval.start import start, training_texts
from contrastok.eval_config import RetrievalConfig

FIGURES = ("mrr@10", "acc@1")
ALL, LEAK_FREE, WITHOUT = "all", "leak-free", "without a new token"
"""Groups of queries. Of the last neither the query nor its relevant passages hold a new token: passages that compete
are all that can have changed for them."""
EMPTY = {
    LEAK_FREE: "every passage holds a training text, so no query is leak-free",
    WITHOUT: "no query without a new token is asked, so harm to such queries is not measured",
}
AT_ONCE = 512
"""Queries compared with all passages at once."""

Ids = list[list[int]]


def retrieval(config: RetrievalConfig) -> dict[str, Any]:
    """Search with every view of the new tokens, print a table.

    Args:
        config: the options.

    Returns:
        What `--json` writes: "groups" ("all" that are asked, "without a new token", with --pairs also "leak-free")
        with figures of each view, and how many queries and passages there were and how many are asked.

    Raises:
        ContrastokError: for every problem that the user can mend.
    """
    checkpoint, console = start(config)
    search = read(config, checkpoint)
    concerned = _concerned(checkpoint, search)
    asked, groups = choose(search, concerned, config)
    counts = {
        "what": search.what,
        "note": search.note,
        "queries": len(search.queries),
        "passages": len(search.passages),
        "queries_with_new_token": len(concerned),
        "asked": len(groups[ALL]),
        "asked_without_new_token": len(groups[WITHOUT]),
        "among": len(asked.passages),
    }
    _print_counts(counts, console)
    if config.dry_run:
        summary: dict[str, Any] = {"dry_run": True, **counts}
    else:
        if config.pairs is not None:
            groups[LEAK_FREE] = leak_free(asked, groups[ALL], checkpoint, config.pairs)
        summary = rounded(
            {**counts, **measure_retrieval(checkpoint, asked, groups, config.seed, console, config.views)}
        )
        _print(summary, console)
    emit_json(summary, config.json)
    return summary


def choose(
    search: Search, concerned: Sequence[int], config: RetrievalConfig
) -> tuple[Search, dict[str, Sequence[int]]]:
    """What is asked, and the positions of the queries of each group.

    Args:
        search: all there is.
        concerned: positions of the queries that hold a new token, or have a relevant passage that does.
        config: says which are asked. Where the others are not asked for, they are asked as far as that costs nothing
            but their own encoding: passages with a new token compete for them, too.

    Raises:
        InputError: no query is concerned.
    """
    asked = search.only(concerned) if config.only_new_tokens else search
    if not asked.queries:
        raise InputError(
            "no query and no relevant passage holds a new token",
            where=search.what,
            hint="give text that holds the new words; --no-only-new-tokens asks the queries all the same, which can "
            "change only where another passage holds a new token",
        )
    asked = sample(asked, config.limit, config.seed)
    count, told = len(asked.queries), {search.queries[q] for q in concerned}
    if config.only_new_tokens:
        asked = asked.and_queries(bystanders(search, asked.passages, set(concerned), config.limit, config.seed))
    without = [q for q, text in enumerate(asked.queries) if text not in told]
    return asked, {ALL: range(count), WITHOUT: without}


def read(config: RetrievalConfig, checkpoint: Checkpoint) -> Search:
    """What the options ask to search."""
    if config.queries is not None and config.passages is not None:
        return read_search(config.queries, config.passages)
    if config.pairs_file is not None:
        return read_pairs_file(config.pairs_file, config.query_field, config.passage_field)
    return definitions(checkpoint.manifest["tokens"])


def leak_free(search: Search, queries: Sequence[int], checkpoint: Checkpoint, pairs: Path) -> list[int]:
    """Those of the queries none of whose passages holds a text that the rows were trained with."""
    texts = [text for own in training_texts(checkpoint, pairs).values() for text in own]
    leaked = holding(search.passages, texts)
    return [q for q in queries if not any(leaked[p] for p in search.relevant[q])]


def measure_retrieval(
    checkpoint: Checkpoint,
    search: Search,
    groups: Mapping[str, Sequence[int]],
    seed: int,
    console: Console,
    wanted: Collection[str] = (),
) -> dict[str, Any]:
    """Figures of every view for every group of queries.

    Args:
        checkpoint: the trained model; it is as before when this returns.
        search: queries and passages.
        groups: for each group the positions of its queries.
        seed: of the random rows and the bootstrap.
        console: where progress is shown.
        wanted: views that are measured; all where there are none.
    """
    frozen = untouched_encoder(checkpoint, console)
    old = frozen.encode(search.queries, "Encoding queries"), frozen.encode(search.passages, "Encoding passages")
    ranks = {SPLIT: first_ranks(*old, search.relevant)}
    rows, filled = complete_rows(Ground(checkpoint, frozen, seed, views=wanted))
    ids = [_encoded(checkpoint, texts) for texts in (search.queries, search.passages)]
    for name, values in console.track(rows.items(), "Encoding with each view's rows", len(rows)):
        with checkpoint.with_rows(values):
            new = [_renewed(checkpoint, vectors, found) for vectors, found in zip(old, ids, strict=True)]
        ranks[name] = first_ranks(new[0], new[1], search.relevant)
    return {
        "filled": filled,
        "seed": seed,
        "groups": {
            group: {"queries": len(chosen), **_figures({n: r[list(chosen)] for n, r in ranks.items()}, seed)}
            for group, chosen in groups.items()
        },
    }


def first_ranks(queries: Array, passages: Array, relevant: Sequence[Sequence[int]]) -> npt.NDArray[np.int64]:
    """The rank of each query's best relevant passage among all passages.

    Args:
        queries: unit vectors `[Q, d]`.
        passages: unit vectors `[P, d]`.
        relevant: for each query the positions of its passages.
    """
    ranks = np.empty(len(queries), dtype=np.int64)
    for begin in range(0, len(queries), AT_ONCE):
        scores = queries[begin : begin + AT_ONCE] @ passages.T
        for at, own in enumerate(scores):
            ranks[begin + at] = 1 + np.sum(own > own[list(relevant[begin + at])].max())
    return ranks


def _concerned(checkpoint: Checkpoint, search: Search) -> list[int]:
    """The queries that hold a new token, or have a relevant passage that does."""
    query, passage = (set(_encoded(checkpoint, texts)) for texts in (search.queries, search.passages))
    return [q for q, relevant in enumerate(search.relevant) if q in query or not passage.isdisjoint(relevant)]


def _encoded(checkpoint: Checkpoint, texts: Sequence[str]) -> dict[int, list[int]]:
    """The ids of those texts that hold a new token, by their position, cut to the model's length."""
    new = {i for token in checkpoint.manifest["tokens"] for i in token["ids"]}
    limit = checkpoint.model.max_seq_length or 512
    found: Ids = checkpoint.tokenizer(list(texts), truncation=True, max_length=limit, verbose=False)["input_ids"]
    return {at: ids for at, ids in enumerate(found) if not new.isdisjoint(ids)}


def _renewed(checkpoint: Checkpoint, vectors: Array, ids: Mapping[int, list[int]]) -> Array:
    """The vectors with those encoded anew that hold a new token; the others are the same to the bit."""
    renewed = vectors.copy()
    if ids:
        renewed[list(ids)] = encode_sequences(checkpoint.model, checkpoint.tokenizer, list(ids.values()))
    return renewed


def _figures(ranks: Mapping[str, npt.NDArray[np.int64]], seed: int) -> dict[str, Any]:
    """MRR@10 and acc@1 of each view, and the paired differences."""
    values = {
        name: {"mrr@10": np.where(own <= HIT, 1 / own, 0.0), "acc@1": (own == 1).astype(float)}
        for name, own in ranks.items()
    }
    units = len(ranks[SPLIT])
    if not units:
        return {"views": {}, "differences": {}}
    views = {
        name: {"units": units, **as_figures({f: mean(own[f], seed) for f in FIGURES})} for name, own in values.items()
    }
    differences = {
        label: {
            "units": units,
            **as_figures({f: mean(values[view][f] - values[reference][f], seed) for f in FIGURES}),
        }
        for label, view, reference in compared(values)
    }
    return {"views": views, "differences": differences}


def _print_counts(counts: Mapping[str, Any], console: Console) -> None:
    console.print(
        f"{escape(counts['what'])}: {counts['queries']:,} queries, {counts['passages']:,} passages; "
        f"{counts['queries_with_new_token']:,} queries hold a new token, or a relevant passage does. "
        f"Asked: {counts['asked']:,}, and {counts['asked_without_new_token']:,} without a new token, among "
        f"{counts['among']:,} passages"
    )
    if counts["note"]:
        console.print(f"[yellow]note:[/] {escape(counts['note'])}")


def _print(summary: Mapping[str, Any], console: Console) -> None:
    table = figure_table(f"{summary['asked']:,} queries among {summary['among']:,} passages", "queries", FIGURES)
    for group, found in summary["groups"].items():
        if found["views"]:
            add_section(table, group, FIGURES, found["views"], found["differences"])
        else:
            console.print(f"[yellow]note:[/] {EMPTY[group]}")
    console.print(table)
    for view, count in summary["filled"].items():
        console.print(f"{escape(view)}: {count:,} tokens without a definition have the mean of their pieces")
