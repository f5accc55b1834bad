"""The three commands on real text: rare disease names from the Disease Ontology, sentences from MedQuAD.

    python -m benchmarks.disease_terms --out FOLDER [--limit 20] [--queries 250]
    python -m benchmarks.disease_terms --out FOLDER --checkpoint MODEL --pairs PAIRS

Teaches 352 names, half of whose synonyms and categories gen-pairs keeps out of the training pairs, and prints:

* report: the held-out names among all names of the terms file.
* hard synonyms (synonyms spelled otherwise) and is_a neighbours (parents, siblings, children) among the 7,556 names of
  the ontology, encoded by the untouched model. A name that holds the word is no candidate, other right answers of the
  word do not compete, and the best right answer counts. "leak-free" leaves out answers that stand in the definition or
  in any training text of the word.
* retrieval: questions of MedQuAD for their answers.
* no harm: STS-B, and sentences of MedQuAD, bit by bit.

Figures stand with 95 % intervals by bootstrap. FOLDER/figures.json holds all of them, and every rank.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tokenizer_modes import sentences
from contrastok.bank import FrozenEncoder
from contrastok.checkpoint import Checkpoint, load_checkpoint
from contrastok.console import Console
from contrastok.data_gen.fold import Fold
from contrastok.data_gen.relations import Relation, without_leaks
from contrastok.eval.baselines import View, baseline_views
from contrastok.eval.bootstrap import as_figures, mean
from contrastok.eval.data import rounded
from contrastok.eval.figure_table import compared
from contrastok.eval.harm import load_base, measure_harm
from contrastok.eval.measure import untouched_encoder
from contrastok.eval.questions import Answer, Question, is_hard
from contrastok.eval.relatedness_measure import Field, Ranks, rank
from contrastok.eval.retrieval import retrieval
from contrastok.eval.start import training_texts
from contrastok.eval.sts import read_sts
from contrastok.eval_config import RetrievalConfig
from contrastok.files import atomic_file, to_json

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
SEED = 0
"""Of the random rows, of what is drawn, and of the bootstrap."""
QUERIES = 250
"""Questions that are asked unless told otherwise: two minutes on two cores, nearly all of it long answers."""
TEXTS = 2000
"""Sentences compared bit by bit."""

FIGURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "acc@1": lambda ranks: ranks == 1,
    "acc@10": lambda ranks: ranks <= 10,
    "hit@10": lambda ranks: ranks <= 10,
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

Record = dict[str, Any]
Figures = dict[str, Any]


def read_records(shared: Path, count: int = 0) -> list[Record]:
    """The benchmark's terms: so many, evenly spread; all when `count` is 0."""
    source = shared / "disease_ontology" / "disease_terms.jsonl"
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


def teaching(shared: Path, out: Path) -> list[list[str]]:
    """The commands that teach the terms, as a user types them."""
    corpus = shared / "medquad" / "medquad.jsonl.gz"
    terms = str(out / "terms.jsonl")
    return [
        ["gen-pairs", "--terms", terms, "--corpus", str(corpus), "--text-field", "answer", "--hold-out", "0.5",
         "--max-sentences", "12", "--out", str(out / "pairs")],
        ["train", "--terms", terms, "--pairs", str(out / "pairs"), "--out", str(out / "model")],
    ]  # fmt: skip


def reporting(model: Path, out: Path) -> list[str]:
    """The command that reports on a checkpoint."""
    return ["report", "--model", str(model), "--out", str(out / "report.html"), "--json", str(out / "report.json")]


def contrastok(command: Sequence[str]) -> None:
    """Run a command line; what an earlier run left is replaced."""
    subprocess.run([sys.executable, "-m", "contrastok", *command, "--overwrite"], check=True)


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


def measure_retrieval(model: Path, pairs: Path, shared: Path, queries: int) -> dict[str, Any]:
    """`contrastok eval retrieval`: questions of MedQuAD that concern a new token, for their answers.

    Args:
        model: the checkpoint's folder.
        pairs: that it was trained with.
        shared: the folder of public data.
        queries: so many questions, and as many answers to none of them, drawn by seed; all when 0.
    """
    return retrieval(
        RetrievalConfig(
            model=model,
            pairs_file=shared / "medquad" / "medquad.jsonl.gz",
            query_field="question",
            passage_field="answer",
            pairs=pairs,
            limit=queries,
            seed=SEED,
            quiet=True,
        )
    )


def measure_no_harm(checkpoint: Checkpoint, shared: Path, console: Console) -> dict[str, Any]:
    """What `contrastok eval no-harm` measures, on STS-B's test pairs and sentences of MedQuAD drawn by seed."""
    texts = sentences(shared)
    drawn = [texts[i] for i in np.random.default_rng(SEED).permutation(len(texts))[:TEXTS]]
    rated = read_sts(shared / "stsb" / "stsb-en-test.csv")
    return measure_harm(checkpoint, load_base(checkpoint), drawn, rated, SEED, console)


def figures_table(groups: Mapping[str, Figures], columns: Sequence[str]) -> str:
    """A table of every group: its views, and the differences."""
    rows = [
        [group, name, f"{line['units']:,}", *(_cell(line, column, sign) for column in columns)]
        for group, found in groups.items()
        for part, sign in (("views", ""), ("differences", "+"))
        for name, line in found[part].items()
        if line["units"]
    ]
    return table(["answers", "view", "of", *columns], rows)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def _cell(line: Figures, name: str, sign: str) -> str:
    if line.get(name) is None:
        return ""
    low, high = line[f"{name}_interval"]
    return f"{line[name]:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def held_out_table(held_out: Figures) -> str:
    """The table of the README: names that gen-pairs held out, among all names of the terms file."""
    figures = {"MRR": ("mrr", ".3f"), "hit@10": ("hit@10", ".3f"), "median rank": ("median_rank", "g")}
    rows = [
        [view, *(f"{held_out[view][name]:{form}}" for name, form in figures.values())]
        for view in ("split_word", "initial", "trained")
        if held_out.get("trained", {}).get("count") and view in held_out
    ]
    return table(["view", *figures], rows)


def harm_table(harm: Figures) -> str:
    """Whether anything that holds no new token changed."""
    sts, changed = harm["sts"], harm["ids_changed"] + harm["embeddings_changed"]
    apart = f"the same but for {sts['sentences_with_new_token']:,} sentences with a new token"
    bits = "differ" if sts["changed"] else "the same" if sts["same_bits"] else apart
    return table(
        ["", "base model", "result", "bits"],
        [
            ["STS-B test, Spearman", f"{sts['base']:.4f}", f"{sts['result']:.4f}", bits],
            ["texts without a new token", f"{harm['without_new_token']:,}", f"{changed:,} changed",
             "differ" if changed else "the same"],
        ],
    )  # fmt: skip


def show(figures: Figures) -> None:
    """Print every table."""
    print(f"{figures['tokens']} tokens; names that gen-pairs held out, among all names of the terms file\n")
    print(held_out_table(figures["held_out"]))
    for label, asked in ASKED.items():
        found = figures[label]
        counts = ", ".join(f"{count:,} {name}" for name, count in found["answers"].items())
        print(f"\n{label} among {found['among']:,} names of the ontology ({counts})\n")
        print(figures_table(found["groups"], asked.figures))
    found = figures["retrieval"]
    print(f"\nMedQuAD: {found['asked']:,} questions for their answers among {found['among']:,}\n")
    print(figures_table(found["groups"], ("mrr@10", "acc@1")))
    print(f"\nno harm\n\n{harm_table(figures['no harm'])}")
    if fidelity := figures["no harm"]["fidelity"]:
        print("\ntexts with a new token: cosine to the base model on the original tokens\n")
        print(figures_table({"with a new token": fidelity}, ("mean", "p5")))


def run(shared: Path, out: Path, model: Path, pairs: Path, queries: int, console: Console) -> Figures:
    """Everything that is measured on a checkpoint."""
    contrastok(reporting(model, out))
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    checkpoint = load_checkpoint(model)
    console.print("Names of the ontology")
    related = measure_related(checkpoint, pairs, shared, console)
    console.print("Questions and answers")
    found = measure_retrieval(model, pairs, shared, queries)
    console.print("Texts that must not change")
    harm = measure_no_harm(checkpoint, shared, console)
    facts = {"tokens": report["tokens"], "held_out": report["relations"]["held_out"]}
    story = {"init": report["init"], "versions": report["versions"], "seed": report["seed"]}
    return dict(rounded({**facts, **related, "retrieval": found, "no harm": harm, **story}))


def main() -> None:
    """Teach unless there is a checkpoint, measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=0, help="teach so many terms; all when 0")
    parser.add_argument("--queries", type=int, default=QUERIES, help="questions of MedQuAD to ask; all when 0")
    parser.add_argument("--checkpoint", type=Path, help="measure this checkpoint, and train none")
    parser.add_argument("--pairs", type=Path, help="folder of pairs that the checkpoint was trained with")
    arguments = parser.parse_args()
    if (arguments.checkpoint is None) is not (arguments.pairs is None):
        parser.error("--checkpoint and --pairs belong together")
    if arguments.checkpoint is not None and arguments.limit:
        parser.error("--limit says how many terms are taught, and with --checkpoint none is")
    out, given = arguments.out, arguments.checkpoint is not None
    out.mkdir(parents=True, exist_ok=True)
    if not given:
        write_terms(read_records(SHARED, arguments.limit), out / "terms.jsonl")
        for command in teaching(SHARED, out):
            contrastok(command)
    model, pairs = (arguments.checkpoint, arguments.pairs) if given else (out / "model", out / "pairs")
    figures = run(SHARED, out, model, pairs, arguments.queries, Console())
    show(figures)
    with atomic_file(out / "figures.json") as partial:
        partial.write_text(to_json(figures), encoding="utf-8")


if __name__ == "__main__":
    main()
