"""Every initialiser and every objective on the same hidden words: do they come back?

    python -m benchmarks.recovery --seeds 1 2 3 --source wordnet [--words 200] [--out FILE]

For each seed, words of the vocabulary are drawn and hidden once (see `contrastok eval recovery`), gen-pairs runs once,
and every method learns them from the same pairs. Sources:

* wordnet: glosses and examples of WordNet, without the texts that WordNet gives for a drawn word itself.
* medquad: the answers of MedQuAD; the words are looked up in WordNet.

Prints a table over the words of all seeds, with 95 % intervals by bootstrap over words.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from contrastok.checkpoint import load_checkpoint
from contrastok.console import Console
from contrastok.data_gen.known import find_wordnet, read_wordnet
from contrastok.data_gen.wordnet import WordNet
from contrastok.eval.baselines import INITIAL, TRAINED
from contrastok.eval.recovery import own_cache, prepare, train_config
from contrastok.eval.recovery_figures import Standing, recovery_figures, related_figures
from contrastok.eval.recovery_measure import measure
from contrastok.eval.recovery_sample import attested, draw, eligible_words, sentence_table
from contrastok.eval_config import RecoveryConfig
from contrastok.files import atomic_file, to_json
from contrastok.initializers import INITIALIZERS
from contrastok.models import load_tokenizer
from contrastok.story import versions
from contrastok.trainer import train

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
LEAST = 8
"""Sentences that a drawn word has."""

OBJECTIVES: dict[str, dict[str, Any]] = {
    "train, as it is": {},
    "InfoNCE alone": {"distill_weight": 0.0},
    "self-distillation alone": {"contrast_weight": 0.0},
}
"""What is trained after the default initialiser: options of train."""

Result = dict[str, Any]


def from_wordnet(folder: Path, work: Path, model: str, words: int, seed: int) -> dict[str, Any]:
    """Draw words, write them and the corpus without what WordNet says of each word in its own synsets.

    Returns:
        options of a RecoveryConfig.
    """
    wordnet, tokenizer, quiet = WordNet(folder), load_tokenizer(model), Console(quiet=True)
    eligible, table = eligible_words(tokenizer, wordnet), sentence_table(tokenizer, seed)
    own = read_wordnet(wordnet, eligible, table)
    drawn = draw(attested(eligible, table, tokenizer, LEAST, quiet, own), words, seed, LEAST, str(folder))
    (work / "words.txt").write_text("\n".join(drawn) + "\n", encoding="utf-8")
    with (work / "wordnet.jsonl").open("w", encoding="utf-8") as handle:
        for text in texts_of_others(wordnet, set(drawn)):
            handle.write(json.dumps({"text": text}) + "\n")
    return {"terms": (work / "words.txt",), "corpus": (str(work / "wordnet.jsonl"),), "glossary": (folder,)}


def texts_of_others(wordnet: WordNet, words: set[str]) -> Iterator[str]:
    """All glosses and examples but those that hold a word of which they are the gloss or example."""
    for synset in wordnet.synsets():
        own = words & {lemma.casefold() for lemma in synset.lemmas}
        for text in synset.texts:
            if own.isdisjoint(re.findall(r"\w+", text.casefold())):
                yield text


def from_medquad(folder: Path, work: Path, model: str, words: int, seed: int) -> dict[str, Any]:
    """Options of a RecoveryConfig that draws words which the answers of MedQuAD hold."""
    corpus = str(SHARED / "medquad" / "medquad.jsonl.gz")
    return {"sample": words, "min_evidence": LEAST, "corpus": (corpus,), "text_field": "answer", "glossary": (folder,)}


SOURCES: dict[str, Callable[[Path, Path, str, int, int], dict[str, Any]]] = {
    "wordnet": from_wordnet,
    "medquad": from_medquad,
}


def run_seed(source: str, model: str, words: int, seed: int, console: Console) -> dict[str, Result]:
    """Every method on the words of one seed.

    Returns:
        by method, what `contrastok eval recovery` writes as JSON.
    """
    folder = find_wordnet("auto")
    if folder is None:
        raise SystemExit("this benchmark needs WordNet (Debian: wordnet-base)")
    methods = {f"initial row: {name}": {"init": name, "epochs": 0} for name in INITIALIZERS} | OBJECTIVES
    results = {}
    with tempfile.TemporaryDirectory(prefix="contrastok-recovery-") as temporary:
        work = Path(temporary)
        options = SOURCES[source](folder, work, model, words, seed)
        config = RecoveryConfig(model=model, seed=seed, quiet=console.quiet, **options)
        with own_cache(work):
            prepared = prepare(config, work, console)
        for name, chosen in methods.items():
            console.print(f"[bold]seed {seed}: {name}[/]")
            with own_cache(work):
                train(train_config(config, work, **chosen))
            results[name] = measure(load_checkpoint(work / "model"), prepared, seed, console)
    return results


def pooled(results: Sequence[Result], space: str) -> dict[str, Standing]:
    """The standing of every view over the words of several runs."""

    def column(name: str, view: str) -> np.ndarray:
        values = [word[name][space][view] for result in results for word in result["words"]]
        return np.array([np.nan if value is None else value for value in values], dtype=float)

    views = results[0]["words"][0]["ranks"][space]
    return {view: Standing(*(column(name, view) for name in ("ranks", "overlaps", "related"))) for view in views}


def table(by_seed: Sequence[Mapping[str, Result]]) -> list[dict[str, Any]]:
    """One line for each baseline, initialiser and objective, over the words of all seeds."""
    lines: dict[str, dict[str, Any]] = {}
    for method in by_seed[0]:
        results = [found[method] for found in by_seed]
        spaces = {space: pooled(results, space) for space in ("encoded", "rows")}
        figures = {space: recovery_figures(views, seed=0) for space, views in spaces.items()}
        related = {space: related_figures(views, seed=0) for space, views in spaces.items()}
        for view in figures["encoded"]["baselines"]:  # the same for every method
            lines.setdefault(view, _line(view, view, figures, related))
        trained = method in OBJECTIVES
        line = _line(method, TRAINED if trained else INITIAL, figures, related)
        lines[method] = {**line, "gain": figures["rows"]["gain"]} if trained else line
    return list(lines.values())


def _line(name: str, view: str, figures: Mapping[str, Any], related: Mapping[str, Any]) -> dict[str, Any]:
    def of(found: Mapping[str, Any]) -> Any:
        return found.get(view) or found["baselines"].get(view)

    return {
        "name": name,
        **{space: of(found) for space, found in figures.items()},
        "related": {space: of(found) for space, found in related.items()},
    }


COLUMNS: dict[str, tuple[tuple[str, ...], str]] = {
    "row MRR": (("rows",), "mrr"),
    "hit@1": (("rows",), "hit@1"),
    "hit@10": (("rows",), "hit@10"),
    "median": (("rows",), "median_rank"),
    "overlap@10": (("rows",), "overlap@10"),
    "gain in MRR": (("gain",), "mrr"),
    "encoded MRR": (("encoded",), "mrr"),
    "related, rows": (("related", "rows"), "hit@10"),
    "related, encoded": (("related", "encoded"), "hit@10"),
}
"""Where the figure of each column lies in a line."""


def markdown(lines: Sequence[Mapping[str, Any]]) -> str:
    """The table for a document."""
    head = ["", *COLUMNS]
    rows = [[line["name"], *(_cell(line, *place) for place in COLUMNS.values())] for line in lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def _cell(line: Mapping[str, Any], path: Sequence[str], name: str) -> str:
    found: Any = line
    for key in path:
        found = (found or {}).get(key)
    if not found or found.get(name) is None:
        return ""
    form = ",.0f" if name == "median_rank" else ".3f"
    low, high = found[f"{name}_interval"]
    return f"{found[name]:{form}} [{low:{form}}, {high:{form}}]"


def main() -> None:
    """Run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--source", choices=SOURCES, default="wordnet")
    parser.add_argument("--words", type=int, default=200)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--out", type=Path, help="write the figures, and the ranks of all words, to this file")
    parser.add_argument("--quiet", action="store_true")
    arguments = parser.parse_args()
    console = Console(arguments.quiet)
    chosen = (arguments.source, arguments.model, arguments.words)
    by_seed = [run_seed(*chosen, seed, console) for seed in arguments.seeds]
    lines = table(by_seed)
    print(f"{arguments.source}, {arguments.words} words, seeds {', '.join(map(str, arguments.seeds))}\n")
    print(markdown(lines))
    if arguments.out:
        facts = {"source": arguments.source, "seeds": arguments.seeds, "versions": versions(), "table": lines}
        with atomic_file(arguments.out) as partial:
            partial.write_text(to_json({**facts, "runs": by_seed}), encoding="utf-8")


if __name__ == "__main__":
    main()
