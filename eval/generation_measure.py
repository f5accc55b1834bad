"""Can the model say its new tokens, and what does it say of everything else? Token by token, before and after."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from contrastok.checkpoint import Checkpoint
from contrastok.console import Console
from contrastok.eval.baselines import INITIAL, SPLIT, TRAINED
from contrastok.eval.bootstrap import as_figures, ratio
from contrastok.eval.figure_table import compared
from contrastok.eval.told import BATCH, Text, Told, tell
from contrastok.models import language_head

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

FIGURES = ("mrr", "hit@1", "hit@10")
EXAMPLES = 5
"""Changed texts that are shown."""


@dataclass
class Tally:
    """What was found in the texts of one group: a number for each text."""

    old: list[float] = field(default_factory=list)
    new: list[float] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)
    tokens: list[tuple[int, int]] = field(default_factory=list)

    def add(self, text: Text, old: Told, new: Told) -> None:
        """Count a text."""
        self.old.append(float(old.nats[text.old.scored(text.start)].sum()))
        self.new.append(float(new.nats[text.new.scored(text.start)].sum()))
        self.bytes.append(text.bytes)
        self.tokens.append((len(text.old.ids), len(text.new.ids)))

    def figures(self, seed: int) -> dict[str, Any]:
        """Perplexity per byte of base and result, and how much the latter's logarithm is higher."""
        size = sum(self.bytes)
        if not size:
            return {"texts": len(self.bytes), "bytes": 0}
        away = ratio(np.subtract(self.new, self.old), self.bytes, seed)
        both = {name: math.exp(sum(nats) / size) for name, nats in (("base", self.old), ("result", self.new))}
        return {"texts": len(self.bytes), "bytes": size, **both, **as_figures({"log_ratio": away})}


def measure_generation(
    checkpoint: Checkpoint, base: SentenceTransformer, texts: Iterable[Text], seed: int, console: Console
) -> dict[str, Any]:
    """Read everything with both models and compare.

    Args:
        checkpoint: the trained model; it is as before when this returns.
        base: the model it grew from.
        texts: with new tokens and without, each of one token that is predicted at least.
        seed: of the bootstrap.
        console: where progress is shown.
    """
    new = {i: token["row"] for token in checkpoint.manifest["tokens"] for i in token["ids"]}
    every = list(texts)
    holding = [text for text in every if not new.keys().isdisjoint(text.new.ids)]
    clean = [text for text in every if new.keys().isdisjoint(text.new.ids)]
    groups = {"with_new_token": Tally(), "without_new_token": Tally()}
    ranks: dict[str, list[tuple[int, int]]] = {}
    for part in console.track(_parts(holding), "Texts with a new token"):
        (before,), _ = tell([base], [text.old.ids for text in part])
        (after,), _ = tell([checkpoint.model], [text.new.ids for text in part])
        views = {TRAINED: after}
        if checkpoint.initial_rows is not None and language_head(checkpoint.model).tied:
            with checkpoint.with_rows(checkpoint.initial_rows) as model:
                views = {INITIAL: tell([model], [text.new.ids for text in part])[0][0], TRAINED: after}
        for text, old, ours in zip(part, before, after, strict=True):
            groups["with_new_token"].add(text, old, ours)
        _add_ranks(ranks, part, before, views, new)
    harmed = _clean_texts(checkpoint, base, clean, groups["without_new_token"], new, console)
    count, left = (sum(pair[k] for pair in groups["with_new_token"].tokens) for k in (0, 1))
    return {
        "identical": None if not clean else not harmed["ids_changed"] + harmed["logits_changed"],
        **harmed,
        "perplexity_per_byte": {name: tally.figures(seed) for name, tally in groups.items()},
        "tokens": {"base": count, "result": left, "saved": count - left, "share": 1 - left / max(count, 1)},
        "ranks": _rank_figures(ranks, len(checkpoint.rows), seed),
        "seed": seed,
    }


def _clean_texts(
    checkpoint: Checkpoint,
    base: SentenceTransformer,
    clean: Sequence[Text],
    tally: Tally,
    new: Mapping[int, int],
    console: Console,
) -> dict[str, Any]:
    """Texts without a new token: those of other ids, and those of other logits over the old vocabulary."""
    classes = language_head(base).linear.weight.shape[0]
    old = torch.tensor([i for i in range(classes) if i not in new], device=base.device)
    moved = [text.text for text in clean if list(text.old.ids) != list(text.new.ids)]
    kept, changed = [text for text in clean if list(text.old.ids) == list(text.new.ids)], []
    for part in console.track(_parts(kept), "Texts without a new token"):
        (before, after), same = tell([base, checkpoint.model], [text.old.ids for text in part], old)
        for text, *told in zip(part, before, after, strict=True):
            tally.add(text, *told)
        changed += [text.text for text, alike in zip(part, same, strict=True) if not alike]
    return {
        "ids_changed": len(moved),
        "logits_changed": len(changed),
        "changed_examples": [*moved, *changed][:EXAMPLES],
    }


def _add_ranks(
    ranks: dict[str, list[tuple[int, int]]],
    texts: Sequence[Text],
    before: Sequence[Told],
    views: Mapping[str, Sequence[Told]],
    new: Mapping[int, int],
) -> None:
    """For each view (row, rank) of every new token; the split word's is that of its first piece at the same place."""
    for i, text in enumerate(texts):
        for at, token in enumerate(text.new.ids):
            piece = first_piece(text, at)
            if token not in new or not at or not piece:
                continue
            ranks.setdefault(SPLIT, []).append((new[token], int(before[i].ranks[piece - 1])))
            for name, told in views.items():
                ranks.setdefault(name, []).append((new[token], int(told[i].ranks[at - 1])))


def first_piece(text: Text, at: int) -> int:
    """The original token at which the new token `at` begins; 0 where none is predicted there."""
    start, end = text.new.spans[at]
    word = text.text[start:end]
    begin = end - len(word.lstrip())
    found = (j for j, span in enumerate(text.old.spans) if span[1] > begin and not text.old.special[j])
    return next(found, 0)


def _rank_figures(ranks: Mapping[str, Sequence[tuple[int, int]]], rows: int, seed: int) -> dict[str, Any]:
    """Figures of each view, and of what training gained; the unit of the intervals is the term."""
    if not ranks:
        return {}

    def by_term(view: str, score: Callable[[npt.NDArray[np.int64]], npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
        row, rank = np.array(ranks[view]).T
        summed = np.bincount(row, weights=score(rank), minlength=rows)
        return summed.astype(np.float64)

    scores: dict[str, Callable[[npt.NDArray[np.int64]], npt.NDArray[Any]]] = {
        "mrr": lambda rank: 1 / rank, "hit@1": lambda rank: rank <= 1, "hit@10": lambda rank: rank <= 10,
    }  # fmt: skip
    counts = by_term(TRAINED, np.ones_like)
    units = int((counts > 0).sum())
    views = {
        view: {
            "units": units,
            **as_figures({name: ratio(by_term(view, score), counts, seed) for name, score in scores.items()}),
            "median_rank": float(np.median([rank for _, rank in ranks[view]])),
        }
        for view in (SPLIT, INITIAL, TRAINED)
        if view in ranks
    }
    differences = {
        label: {
            "units": units,
            **as_figures({n: ratio(by_term(a, s) - by_term(b, s), counts, seed) for n, s in scores.items()}),
        }
        for label, a, b in compared(views)
    }
    return {"occurrences": int(counts.sum()), "views": views, "differences": differences}


def _parts(texts: Sequence[Text]) -> list[Sequence[Text]]:
    """Runs of texts that are read together, the short ones with each other."""
    ordered = sorted(texts, key=lambda text: len(text.old.ids))
    return [ordered[i : i + BATCH] for i in range(0, len(ordered), BATCH)]
