"""Every initialiser and every objective on the same hidden words: do they come back?

    python -m benchmarks.recovery --seeds 1 2 3 --source wordnet [--words 200] [--out FILE]

Each seed draws words of the vocabulary. All of them are hidden at once (see `contrastok eval recovery`), gen-pairs runs
once, and every method learns them from the same pairs. Sources:

* wordnet: glosses and examples of WordNet, without the texts that WordNet gives for a drawn word itself.
* medquad: the answers of MedQuAD; the words are looked up in WordNet.

Prints a table over the words of all seeds, with 95 % intervals by bootstrap over words, and the default method for
each seed's own words.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
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
from contrastok.eval.recovery_sample import attested, draw, draw_sample, eligible_words, sentence_table
from contrastok.eval_config import RecoveryConfig
from contrastok.files import atomic_file, to_json
from contrastok.initializers import INITIALIZERS
from contrastok.models import load_tokenizer
from contrastok.story import versions
from contrastok.trainer import train

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
LEAST = 8
"""Sentences that a drawn word has."""

DEFAULT = "train, as it is"
OBJECTIVES: dict[str, dict[str, Any]] = {
    DEFAULT: {},
    "predictor, word stage alone": {"epochs": 0},
    "predictor, pairs without prior": {"word_weight": 0.0},
    "charlen_mean, InfoNCE + self-distillation": {"init": "charlen_mean"},
    "charlen_mean, InfoNCE alone": {"init": "charlen_mean", "distill_weight": 0.0},
    "charlen_mean, self-distillation alone": {"init": "charlen_mean", "contrast_weight": 0.0},
}
"""What is trained: options of train."""

Result = dict[str, Any]


def from_wordnet(folder: Path, work: Path, model: str, words: int, seeds: Sequence[int]) -> dict[int, list[str]]:
    """Draw words for each seed, and write the corpus without what WordNet says of each word in its own synsets."""
    wordnet, tokenizer, quiet = WordNet(folder), load_tokenizer(model), Console(quiet=True)
    eligible, table = eligible_words(tokenizer, wordnet), sentence_table(tokenizer, 0)
    own = read_wordnet(wordnet, eligible, table)
    told = attested(eligible, table, tokenizer, LEAST, quiet, own)
    drawn = {seed: draw(told, words, seed, LEAST, str(folder)) for seed in seeds}
    with (work / "corpus.jsonl").open("w", encoding="utf-8") as handle:
        for text in texts_of_others(wordnet, {word for found in drawn.values() for word in found}):
            handle.write(json.dumps({"text": text}) + "\n")
    return drawn


def texts_of_others(wordnet: WordNet, words: set[str]) -> Iterator[str]:
    """All glosses and examples but those that hold a word of which they are the gloss or example."""
    for synset in wordnet.synsets():
        own = words & {lemma.casefold() for lemma in synset.lemmas}
        for text in synset.texts:
            if own.isdisjoint(re.findall(r"\w+", text.casefold())):
                yield text


def from_medquad(folder: Path, work: Path, model: str, words: int, seeds: Sequence[int]) -> dict[int, list[str]]:
    """Draw words that the answers of MedQuAD hold, for each seed, and write the answers as the corpus."""
    with gzip.open(SHARED / "medquad" / "medquad.jsonl.gz", "rt", encoding="utf-8") as source:
        answers = [json.loads(line).get("answer") or "" for line in source]
    corpus = work / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in answers if text), encoding="utf-8")
    config = RecoveryConfig(corpus=(str(corpus),), glossary=(folder,), sample=words, min_evidence=LEAST)
    tokenizer = load_tokenizer(model)
    return {seed: draw_sample(replace(config, seed=seed), tokenizer, Console(quiet=True)) for seed in seeds}


SOURCES: dict[str, Callable[[Path, Path, str, int, Sequence[int]], dict[int, list[str]]]] = {
    "wordnet": from_wordnet,
    "medquad": from_medquad,
}


def run(
    source: str, model: str, words: int, seeds: Sequence[int], console: Console
) -> tuple[dict[int, list[str]], dict[str, Result]]:
    """Every method on the words of all seeds.

    Returns:
        the words of each seed, and by method what `contrastok eval recovery` writes as JSON.
    """
    folder = find_wordnet("auto")
    if folder is None:
        raise SystemExit("this benchmark needs WordNet (Debian: wordnet-base)")
    methods = {f"initial row: {name}": {"init": name, "epochs": 0} for name in INITIALIZERS if name != "predictor"}
    with tempfile.TemporaryDirectory(prefix="contrastok-recovery-") as temporary:
        work = Path(temporary)
        drawn = SOURCES[source](folder, work, model, words, seeds)
        (work / "words.txt").write_text("\n".join(sorted({w for found in drawn.values() for w in found})) + "\n")
        given = {"terms": (work / "words.txt",), "corpus": (str(work / "corpus.jsonl"),), "glossary": (folder,)}
        config = RecoveryConfig(model=model, quiet=console.quiet, **given)
        results = {}
        with own_cache(work):
            prepared = prepare(config, work, console)
            for name, chosen in (methods | OBJECTIVES).items():
                console.print(f"[bold]{name}[/]")
                train(train_config(config, work, **chosen))
                results[name] = measure(load_checkpoint(work / "model"), prepared, 0, console)
    return drawn, results


def standings(result: Result, words: Sequence[str], space: str) -> dict[str, Standing]:
    """The standing of every view over some of a result's words; a word given twice counts twice."""
    by_word = {word["token"]: word for word in result["words"]}

    def column(name: str, view: str) -> np.ndarray:
        values = [by_word[word][name][space][view] for word in words if word in by_word]
        return np.array([np.nan if value is None else value for value in values], dtype=float)

    views = result["words"][0]["ranks"][space]
    return {view: Standing(*(column(name, view) for name in ("ranks", "overlaps", "related"))) for view in views}


def table(drawn: Mapping[int, Sequence[str]], results: Mapping[str, Result]) -> list[dict[str, Any]]:
    """One line for each baseline, initialiser and objective over all words, and the default by seed."""
    everything = [word for words in drawn.values() for word in words]
    lines: dict[str, dict[str, Any]] = {}
    for method, result in results.items():
        figures, related = _figures(result, everything)
        for view in figures["encoded"]["baselines"]:  # the same for every method
            lines.setdefault(view, _line(view, view, figures, related))
        if method == DEFAULT:
            lines["initial"] = _line("initial row: predictor", INITIAL, figures, related)
        trained = method in OBJECTIVES
        line = _line(method, TRAINED if trained else INITIAL, figures, related)
        lines[method] = {**line, "gain": figures["rows"]["gain"]} if trained else line
    for seed, words in drawn.items():
        figures, related = _figures(results[DEFAULT], words)
        name = f"{DEFAULT}, seed {seed}"
        lines[name] = {**_line(name, TRAINED, figures, related), "gain": figures["rows"]["gain"]}
    return list(lines.values())


def _figures(result: Result, words: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    spaces = {space: standings(result, words, space) for space in ("encoded", "rows")}
    return (
        {space: recovery_figures(views, seed=0) for space, views in spaces.items()},
        {space: related_figures(views, seed=0) for space, views in spaces.items()},
    )


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


def reliability(result: Result) -> list[dict[str, float]]:
    """Words in fifths by the confidence they were given, and how many of them landed within rank 10."""
    ranked = sorted((w["confidence"], w["ranks"]["rows"][TRAINED]) for w in result["words"] if "confidence" in w)
    parts = np.array_split(np.array(ranked), 5) if ranked else []
    return [
        {"confidence": float(p[:, 0].mean()), "landed": float(np.mean(p[:, 1] <= 10)), "words": len(p)} for p in parts
    ]


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
    drawn, results = run(arguments.source, arguments.model, arguments.words, arguments.seeds, console)
    lines = table(drawn, results)
    print(f"{arguments.source}, {arguments.words} words, seeds {', '.join(map(str, arguments.seeds))}\n")
    print(markdown(lines))
    if arguments.out:
        trained = results[DEFAULT]
        facts = {"source": arguments.source, "seeds": arguments.seeds, "versions": versions(), "table": lines}
        with atomic_file(arguments.out) as partial:
            partial.write_text(
                to_json({**facts, "words": trained["words"], "reliability": reliability(trained)}), encoding="utf-8"
            )


if __name__ == "__main__":
    main()
