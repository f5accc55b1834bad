"""What is left of a model under a tokenizer of another domain, by where the rows come from that it lacks?

    python -m benchmarks.transfer [--model minilm] [--hypernet FOLDER] [--vocabulary 8000] [--out FILE]

A tokenizer of the model's own kind is trained on the answers of MedQuAD, every tenth aside. `contrastok transfer` gives it to
the model once for each initialiser: rows that exist are copied, all others predicted. Nothing else is trained; without
--hypernet a network is trained for the model and kept in the cache.

Prints the mean cosine to the base model's embeddings on sentences of the answers aside, and Spearman's correlation on STS-B.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import SHARED
from benchmarks.harness import write_json
from benchmarks.markdown import table as markdown
from contrastok.config import TransferConfig
from contrastok.data_gen.corpus import read_corpus
from contrastok.data_gen.sentences import split_sentences
from contrastok.eval.sts import RatedPairs, read_sts, sts_spearman
from contrastok.models import load_model, load_tokenizer
from contrastok.transfer import transfer

INITS = ("mean", "subtoken_mean", "charlen_mean", "hypernet")
"""Initialisers that need nothing but the model; `predictor` needs evidence, which tokens of a tokenizer do not have."""
ASIDE = 10
"""One document of so many is kept aside."""
SENTENCES = 500
"""Sentences of these, one a document."""


def spearman(model: Any, rated: RatedPairs) -> float:
    """Spearman's correlation between the ratings and a model's cosines."""
    encode = {"normalize_embeddings": True, "show_progress_bar": False}
    first, second = (model.encode(list(texts), **encode) for texts in (rated.first, rated.second))
    return sts_spearman(first, second, rated.scores)


def one_line(
    init: str, tokenizer: Path, texts: Path, rated: RatedPairs, arguments: argparse.Namespace
) -> dict[str, Any]:
    """What is left with one initialiser."""
    with tempfile.TemporaryDirectory() as folder:
        told = transfer(
            TransferConfig(
                tokenizer=str(tokenizer), model=arguments.model, init=init, texts=(str(texts),), quiet=True,
                hypernet=arguments.hypernet if init == "hypernet" else None, out=Path(folder) / "model",
            )
        )  # fmt: skip
        found = {name: told[name] for name in ("tokens", "copied", "predicted", "fallen_back", "fidelity")}
        return {**found, "sts": spearman(load_model(str(Path(folder) / "model")), rated)}


def measure(answers: Sequence[str], rated: RatedPairs, arguments: argparse.Namespace) -> dict[str, Any]:
    """The base model's figures, and those of every initialiser, on documents of a domain."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer, texts = Path(folder) / "tokenizer", Path(folder) / "aside.jsonl"
        aside = [split_sentences(answer)[0] for answer in answers[::ASIDE] if answer.strip()][:SENTENCES]
        texts.write_text("".join(json.dumps({"text": text}) + "\n" for text in aside), encoding="utf-8")
        rest = (answer for at, answer in enumerate(answers) if at % ASIDE)
        old = load_tokenizer(arguments.model)
        old.train_new_from_iterator(rest, arguments.vocabulary, show_progress=False).save_pretrained(tokenizer)
        lines = {init: one_line(init, tokenizer, texts, rated, arguments) for init in INITS}
    return {"base": {"sts": spearman(load_model(arguments.model), rated)}, "lines": lines}


def to_markdown(found: dict[str, Any]) -> str:
    """The table for a document."""
    rows = [["the model itself", "1.000", "", f"{found['base']['sts']:.3f}"]]
    for init, line in found["lines"].items():
        near = line["fidelity"]
        rows.append([f"`{init}`", f"{near['mean']:.3f}", f"{near['p5']:.3f}", f"{line['sts']:.3f}"])
    return markdown(["rows that are not copied", "mean cosine", "5 % are below", "STS-B"], rows)


def main() -> None:
    """Run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--hypernet", type=Path, help="a folder that contrastok train-hypernet wrote")
    parser.add_argument("--vocabulary", type=int, default=8000)
    parser.add_argument("--out", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    answers = [one.text for one in read_corpus([str(SHARED / "medquad" / "medquad.jsonl.gz")], "answer")]
    found = measure(answers, read_sts(SHARED / "stsb" / "stsb-en-test.csv"), arguments)
    print(to_markdown(found))
    line, texts = found["lines"]["mean"], found["lines"]["mean"]["fidelity"]
    print(
        f"\n{line['tokens']:,} tokens: {line['copied']:,} copied, {line['predicted']:,} predicted, "
        f"{line['fallen_back']:,} fallen back. {texts['texts']:,} sentences: {texts['tokens_before']:,} tokens before, "
        f"{texts['tokens_after']:,} now."
    )
    write_json({"model": arguments.model, "vocabulary": arguments.vocabulary, **found}, arguments.out)


if __name__ == "__main__":
    main()
