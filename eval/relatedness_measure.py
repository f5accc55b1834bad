"""Where the related words of each token rank, among which candidates and in which space, seen by every view."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from contrastok.bank import FrozenEncoder
from contrastok.candidates import candidates
from contrastok.checkpoint import Checkpoint
from contrastok.console import Console
from contrastok.data_gen.fold import Fold
from contrastok.data_gen.matcher import contains_name
from contrastok.eval.baselines import View, baseline_views
from contrastok.eval.bootstrap import as_figures, mean
from contrastok.eval.figure_table import compared
from contrastok.eval.index import Array, unit
from contrastok.eval.measure import untouched_encoder
from contrastok.eval.questions import KINDS, SIBLING, Answer, Names, Question
from contrastok.eval.relations import HIT, filtered_rank

FIGURES = ("hit@10", "recall@10", "mrr")
AT_ONCE = 256
"""Tokens scored against all candidates at once."""


@dataclass(frozen=True)
class Field:
    """Candidates as vectors in one space.

    Attributes:
        among: what the candidates are, in words.
        space: rows-centred or encoded.
        vectors: unit vectors `[C, d]`.
        places: position of each folded name.
        idle: `[C]`, true for names that can be answers but do not compete.
        of_view: the unit vectors of a view in this space, `[n, d]`, NaN where it has nothing; None without any.
        holding: for each token the positions of the names that hold it, which are no candidates for it.
    """

    among: str
    space: str
    vectors: Array
    places: Mapping[str, int]
    idle: np.ndarray
    of_view: Callable[[View], Array | None]
    holding: Sequence[Sequence[int]]


Ranks = list[dict[int, int]]
"""For each token the rank of its answers, by their index; answers that are no candidates have none."""


def measure_relatedness(
    checkpoint: Checkpoint,
    questions: Sequence[Question],
    names: Names,
    fold: Fold,
    seed: int,
    console: Console,
    wanted: Collection[str] = (),
) -> dict[str, Any]:
    """Ranks and figures of every view in every field.

    Args:
        checkpoint: the trained model.
        questions: one a token, in the order of their rows.
        names: of the glossary.
        fold: of the base tokenizer.
        seed: of the random rows and the bootstrap.
        console: where progress is shown.
        wanted: views with a row that are measured; all where there are none.
    """
    frozen = untouched_encoder(checkpoint, console)
    views = baseline_views(checkpoint, frozen, seed=seed, wanted=wanted)
    fields = make_fields(checkpoint, frozen, questions, names, fold)
    ranks = {
        label: {view.name: rank(field, vectors, questions, fold) for view in views.values()
                if (vectors := field.of_view(view)) is not None}
        for label, field in fields.items()
    }  # fmt: skip
    return {
        "tokens": len(questions),
        "answers": {
            kind: sum(answer.counts and wanted(answer) for question in questions for answer in question.answers)
            for kind, wanted in KINDS.items()
        },
        "leaked": sum(not answer.counts for question in questions for answer in question.answers),
        "missing": {view.name: view.missing for view in views.values() if view.missing},
        "seed": seed,
        "fields": {
            label: {
                "space": field.space,
                "among": field.among,
                "of": int(np.sum(~field.idle)),
                "kinds": {
                    kind: found
                    for kind in KINDS
                    if (found := summarise(ranks[label], questions, KINDS[kind], seed))["views"]
                },
            }
            for label, field in fields.items()
        },
        "per_token": [_told(at, question, ranks) for at, question in enumerate(questions)],
    }


def make_fields(
    checkpoint: Checkpoint, frozen: FrozenEncoder, questions: Sequence[Question], names: Names, fold: Fold
) -> dict[str, Field]:
    """The vocabulary's words by centred rows and by output, the glossary's names by output, and its entries alone."""
    words = candidates(checkpoint.base_tokenizer)
    rows = checkpoint.table()[list(words.ids)]
    centre = rows.mean(axis=0)
    places = {fold.key(word): at for at, word in reversed(list(enumerate(words.words)))}
    nobody = np.zeros(len(words.words), dtype=bool)
    unheld: list[list[int]] = [[] for _ in questions]
    among = "whole words of the vocabulary"
    keys = list(names.names)

    def centred(view: View) -> Array | None:
        return None if view.rows is None else unit(view.rows - centre)

    def encoded(view: View) -> Array:
        return view.encoded

    outputs = frozen.encode_words(words.ids)
    known = frozen.encode(list(names.names.values()), "Encoding glossary names")
    holding = [_holding(fold.key(question.token), keys) for question in questions]
    at = {key: place for place, key in enumerate(keys)}
    fields = {
        "vocabulary, rows": Field(among, "rows-centred", unit(rows - centre), places, nobody, centred, unheld),
        "vocabulary, encoded": Field(among, "encoded", outputs, places, nobody, encoded, unheld),
        "glossary, encoded": Field(
            "names of the glossary", "encoded", known, at, np.zeros(len(keys), dtype=bool), encoded, holding
        ),
    }
    if names.heads:
        synonyms = np.array([key not in names.heads for key in keys], dtype=bool)
        fields["entries, encoded"] = Field(
            "entries of the glossary (its synonyms do not compete)", "encoded", known, at, synonyms, encoded, holding
        )
    return fields


def _holding(token: str, keys: Sequence[str]) -> list[int]:
    return [at for at, key in enumerate(keys) if token in key and contains_name(key, token)]


def rank(field: Field, vectors: Array, questions: Sequence[Question], fold: Fold) -> Ranks:
    """The rank of every answer of every token.

    Ranks are filtered as in `relations`: other related words of the token do not compete with the one that is ranked.
    Siblings do: they are as far from the token as a category is wide.

    Args:
        field: the candidates.
        vectors: unit vectors of the tokens in the field's space, `[n, d]`; a token whose vector is NaN has no ranks.
        questions: one a token.
        fold: of the base tokenizer.
    """
    ranks: Ranks = []
    for begin in range(0, len(questions), AT_ONCE):
        scores = vectors[begin : begin + AT_ONCE] @ field.vectors.T
        for at, question in enumerate(questions[begin : begin + AT_ONCE]):
            places = [field.places.get(fold.key(answer.name)) for answer in question.answers]
            out = set(field.holding[begin + at])
            aside = field.idle.copy()
            aside[list(out)] = True
            aside[[p for p, a in zip(places, question.answers, strict=True) if p is not None and a.kind != SIBLING]] = (
                True
            )
            ranked = {i: p for i, p in enumerate(places) if p is not None and p not in out}
            known = not np.isnan(scores[at, 0])
            ranks.append({i: filtered_rank(scores[at], p, aside) for i, p in ranked.items()} if known else {})
    return ranks


def summarise(
    ranks: Mapping[str, Ranks], questions: Sequence[Question], wanted: Callable[[Answer], bool], seed: int
) -> dict[str, Any]:
    """Figures over tokens of each view and of the differences that matter.

    hit@10 is the share of tokens with any right answer among the first ten, recall@10 the mean share of right answers
    there, mrr the mean of 1 / rank of the token's best right answer.

    Args:
        ranks: of every view.
        questions: one a token.
        wanted: which answers are right; of those only the leak-free ones count.
        seed: of the bootstrap.
    """
    right = [{i for i, a in enumerate(q.answers) if a.counts and wanted(a)} for q in questions]
    per_view = {name: _per_token(found, right) for name, found in ranks.items()}
    views = {name: _figures(list(found.values()), seed) for name, found in per_view.items() if found}
    differences = {}
    for label, view, reference in compared(views):
        both = [at for at in per_view[view] if at in per_view[reference]]
        if both:
            change = [per_view[view][at] - per_view[reference][at] for at in both]
            differences[label] = _figures(change, seed)
    return {"views": views, "differences": differences}


def _per_token(ranks: Ranks, right: Sequence[set[int]]) -> dict[int, np.ndarray]:
    """hit@10, recall@10 and reciprocal rank of each token that has a right answer with a rank."""
    found = {}
    for at, (own, wanted) in enumerate(zip(ranks, right, strict=True)):
        places = np.array([own[i] for i in sorted(wanted & own.keys())])
        if len(places):
            found[at] = np.array([np.min(places) <= HIT, np.mean(places <= HIT), 1 / np.min(places)])
    return found


def _figures(per_token: Sequence[np.ndarray], seed: int) -> dict[str, Any]:
    columns = np.array(per_token).T
    figures = as_figures({name: mean(column, seed) for name, column in zip(FIGURES, columns, strict=True)})
    return {"units": len(per_token), **figures}


def _told(at: int, question: Question, ranks: Mapping[str, Mapping[str, Ranks]]) -> dict[str, Any]:
    """One token's answers with all their ranks."""
    answers = [
        {
            "name": answer.name,
            "kind": answer.kind,
            "hard": answer.hard,
            "leak_free": answer.counts,
            "ranks": {
                field: {view: found[at][i] for view, found in views.items() if i in found[at]}
                for field, views in ranks.items()
            },
        }
        for i, answer in enumerate(question.answers)
    ]
    return {"token": question.token, "answers": answers}
