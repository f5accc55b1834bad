"""Hard synonyms and is_a neighbours of the rare disease names, among the names of the ontology."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.disease_data import Record, read_names, read_records
from contrastok.bank import FrozenEncoder
from contrastok.checkpoint import Checkpoint
from contrastok.console import Console
from contrastok.data_gen.fold import Fold
from contrastok.data_gen.relations import Relation, without_leaks
from contrastok.eval.baselines import View, baseline_views
from contrastok.eval.bootstrap import as_figures, mean
from contrastok.eval.figure_table import compared
from contrastok.eval.measure import untouched_encoder
from contrastok.eval.questions import Answer, Question, is_hard
from contrastok.eval.relatedness_measure import Field, Ranks, rank
from contrastok.eval.relations import HIT
from contrastok.eval.start import training_texts

SEED = 0
"""Of the random rows and the bootstrap."""

FIGURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "acc@1": lambda ranks: ranks == 1,
    "acc@10": lambda ranks: ranks <= HIT,
    "hit@10": lambda ranks: ranks <= HIT,
    "mrr": lambda ranks: 1 / ranks,
}
"""What is made of the rank of each token's best right answer."""


@dataclass(frozen=True)
class Asked:
    """What is asked of every term: the fields of the benchmark's record that hold right answers, and the figures."""

    fields: tuple[str, ...]
    figures: tuple[str, ...]


ASKED = {
    "hard synonyms": Asked(("hard_synonyms",), ("acc@1", "acc@10", "mrr")),
    "is_a neighbours": Asked(("parents", "siblings", "children"), ("hit@10", "mrr")),
}
GROUPS: dict[str, Callable[[Answer], bool]] = {
    "all": lambda answer: True,
    "leak-free": lambda answer: answer.counts,
    "in training texts": lambda answer: not answer.counts,
}
"""Which right answers count."""

Figures = dict[str, Any]


def measure_related(checkpoint: Checkpoint, pairs: Path, shared: Path, console: Console) -> dict[str, Any]:
    """Hard synonyms and is_a neighbours among the names of the ontology, seen by every view of the tokens."""
    records = {record["word"]: record for record in read_records(shared)}
    names, fold = read_names(shared), Fold(checkpoint.base_tokenizer)
    frozen, shown = untouched_encoder(checkpoint, console), training_texts(checkpoint, pairs)
    views = baseline_views(checkpoint, frozen, seed=SEED)
    found = {}
    for label, asked in ASKED.items():
        questions = ask(checkpoint, records, asked.fields, shown, fold)
        field = make_field(frozen, names, questions, fold)
        ranks = {view.name: rank(field, view.encoded, questions, fold) for view in views.values()}
        found[label] = {
            "among": len(names),
            "answers": origins(checkpoint, questions, fold),
            "groups": {group: summarise(ranks, questions, wanted, asked) for group, wanted in GROUPS.items()},
            "per_token": told(questions, ranks),
        }
    return found


def ask(
    checkpoint: Checkpoint,
    records: Mapping[str, Record],
    fields: Sequence[str],
    shown: Mapping[str, Sequence[str]],
    fold: Fold,
) -> list[Question]:
    """One question a token in the order of the rows; a token that the benchmark does not know has no answers.

    Args:
        checkpoint: the trained model.
        records: of the benchmark, by word.
        fields: of a record that hold right answers.
        shown: the training texts of each token.
        fold: of the base tokenizer.
    """
    questions = []
    for token in sorted(checkpoint.manifest["tokens"], key=lambda token: token["row"]):
        word = token["token"]
        names = {name: field for field in reversed(fields) for name in records.get(word, {}).get(field, ())}
        relations = [Relation(name, kind, True) for name, kind in names.items()]
        answers = (
            Answer(r.name, r.kind, is_hard(word, r.name, fold), r.held_out)
            for r in without_leaks(relations, shown.get(word, ()), fold)
        )
        questions.append(Question(word, tuple(answers)))
    return questions


def make_field(frozen: FrozenEncoder, names: Sequence[str], questions: Sequence[Question], fold: Fold) -> Field:
    """The names of the ontology as candidates, and the answers that are none of them, which compete with no one."""
    answers = [answer.name for question in questions for answer in question.answers]
    known = {fold.key(name): name for name in reversed([*names, *answers])}
    heads = {fold.key(name) for name in names}
    words = [fold.key(question.token) for question in questions]
    return Field(
        among="names of the ontology",
        space="encoded",
        vectors=frozen.encode(list(known.values())),
        places={key: at for at, key in enumerate(known)},
        idle=np.array([key not in heads for key in known], dtype=bool),
        of_view=_encoded,
        holding=[[at for at, key in enumerate(known) if word in key] for word in words],
    )


def _encoded(view: View) -> np.ndarray:
    return view.encoded


def origins(checkpoint: Checkpoint, questions: Sequence[Question], fold: Fold) -> dict[str, int]:
    """How many right answers gen-pairs put into pairs, how many it held out, how many it never got, and what leaked."""
    given = {
        (token["token"], fold.key(relation["name"])): "held out" if relation["held_out"] else "in pairs"
        for token in checkpoint.manifest["tokens"]
        for relation in token["relations"]
    }
    found: Counter[str] = Counter()
    for question in questions:
        for answer in question.answers:
            found["answers"] += 1
            found[given.get((question.token, fold.key(answer.name)), "not given")] += 1
            found["leak-free"] += answer.counts
    return dict(found)


def summarise(
    ranks: Mapping[str, Ranks], questions: Sequence[Question], wanted: Callable[[Answer], bool], asked: Asked
) -> Figures:
    """Figures of each view over the tokens that have a right answer, and the paired differences."""
    right = [{i for i, answer in enumerate(question.answers) if wanted(answer)} for question in questions]
    best = {view: np.array([_best(own, r) for own, r in zip(of, right, strict=True)]) for view, of in ranks.items()}
    values = {
        view: {name: np.where(np.isnan(own), np.nan, FIGURES[name](own)) for name in asked.figures}
        for view, own in best.items()
    }
    changes = {
        label: {name: values[a][name] - values[b][name] for name in asked.figures} for label, a, b in compared(values)
    }
    return {
        "views": {view: _estimates(own) for view, own in values.items()},
        "differences": {label: _estimates(change) for label, change in changes.items()},
    }


def _estimates(columns: Mapping[str, np.ndarray]) -> Figures:
    """The mean of each column over the tokens that have a value, NaN being none."""
    known = ~np.isnan(next(iter(columns.values())))
    estimates = {name: mean(column[known], SEED) for name, column in columns.items()}
    return {"units": int(known.sum()), **as_figures(estimates)}


def _best(ranks: Mapping[int, int], right: set[int]) -> float:
    """The rank of the best right answer; NaN when none has a rank."""
    return min((float(ranks[i]) for i in right & ranks.keys()), default=np.nan)


def told(questions: Sequence[Question], ranks: Mapping[str, Ranks]) -> list[dict[str, Any]]:
    """Every answer of every token with its rank in each view."""
    return [
        {
            "token": question.token,
            "answers": [
                {
                    "name": answer.name,
                    "kind": answer.kind,
                    "leak_free": answer.counts,
                    "ranks": {view: of[at][i] for view, of in ranks.items() if i in of[at]},
                }
                for i, answer in enumerate(question.answers)
            ],
        }
        for at, question in enumerate(questions)
    ]
