"""Does a hypernetwork bring back words that it never saw better than the mean of their pieces?

    python -m benchmarks.hypernet [--model minilm] [--epochs 10] [--seeds 0] [--glossary FILE ...] [--out FILE]

Each seed draws 10 % of the known words, which are hidden with all their spellings. A network is trained on the rest of the
vocabulary; half of the held-out words choose the epoch, the other half are reported. The means of the pieces give rows for
the same words from the same pieces. With --glossary (term files, a WordNet folder) a second network is trained that also
reads definitions; held-out words are shown to it with theirs, where they have one, and without.

Prints the rank of each word's own row among all rows, by centred cosine, with 95 % intervals by bootstrap over words.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import write_json
from benchmarks.markdown import cell
from benchmarks.markdown import table as markdown
from contrastok.bank import FrozenEncoder
from contrastok.console import Console
from contrastok.fit import gold_ranks
from contrastok.hiding import HiddenWord
from contrastok.hypernet.command import look_up
from contrastok.hypernet.definitions import Definitions, read_definitions
from contrastok.hypernet.lesson import Lesson, make_lesson
from contrastok.hypernet.training import HypernetSettings, Trained, train_network
from contrastok.initializers import InitContext, initial_rows
from contrastok.models import input_embedding, load_model

DRAWS = 2000
"""Bootstrap samples."""
COMPOSED = ("charlen_mean", "subtoken_mean")
"""Initialisers that the network stands beside: means of the same pieces."""
SHARES = ("mrr", "hit@1", "hit@10")


def ranks_by_method(
    table: torch.Tensor, lesson: Lesson, trained: Trained, reader: Trained | None, told: Definitions | None
) -> dict[str, np.ndarray]:
    """Ranks of the reported words' own rows, by initialiser, each `[n]`.

    Args:
        table: the embedding table, `[V, d]`.
        lesson: with the words.
        trained: a network that reads pieces alone.
        reader: one that reads definitions too, if there is one.
        told: these.
    """
    words = lesson.report
    pieces = tuple(word.pieces for word in words)
    lengths = tuple(lesson.lengths(some) for some in pieces)
    context = InitContext(table, tuple(word.word for word in words), pieces, lengths)
    rows = {name: initial_rows(name, context) for name in COMPOSED}
    rows["hypernet"] = trained.network.rows(table, pieces, lengths)
    if reader is not None and told is not None:
        said = told.of([word.id for word in words])
        rows["hypernet, with definitions"] = reader.network.rows(table, pieces, lengths, said)
        rows["the same, not told them"] = reader.network.rows(table, pieces, lengths)
    return {name: _ranks(found, words, table, trained) for name, found in rows.items()}


def _ranks(rows: torch.Tensor, words: Sequence[HiddenWord], table: torch.Tensor, trained: Trained) -> np.ndarray:
    gold = np.array([word.id for word in words])
    return gold_ranks(rows.numpy(), gold, table.numpy(), trained.network.mean.numpy())


def figures(ranks: np.ndarray, baseline: np.ndarray) -> dict[str, Any]:
    """What a method's ranks say, and the paired difference of its MRR to that of the baseline's."""
    gain = 1 / ranks - 1 / baseline
    draws = np.random.default_rng(0).integers(len(ranks), size=(DRAWS, len(ranks)))
    low, high = np.quantile(gain[draws].mean(1), (0.025, 0.975))
    return {
        "mrr": float((1 / ranks).mean()),
        "hit@1": float((ranks == 1).mean()),
        "hit@10": float((ranks <= 10).mean()),
        "median_rank": float(np.median(ranks)),
        "gain": float(gain.mean()),
        "gain_interval": [float(low), float(high)],
    }


def main() -> None:
    """Run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--epochs", type=int, default=HypernetSettings.epochs)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--glossary", type=Path, nargs="+", default=[], help="definitions of known words")
    parser.add_argument("--out", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    model, console = load_model(arguments.model), Console()
    definitions = look_up(model.tokenizer, arguments.glossary)
    encoder = FrozenEncoder(model, model.tokenizer, console=console)
    table = input_embedding(model).weight.detach().float()
    found: dict[str, list[np.ndarray]] = {}
    about = []
    for seed in arguments.seeds:
        lesson = make_lesson(model.tokenizer, {}, seed, definitions)
        settings = HypernetSettings(epochs=arguments.epochs, seed=seed)
        told = read_definitions(encoder, lesson)
        trained = train_network(table, lesson, None, settings, None, console)
        reader = None if told is None else train_network(table, lesson, told, settings, None, console)
        about += [network.about for network in (trained, reader) if network is not None]
        for name, ranks in ranks_by_method(table, lesson, trained, reader, told).items():
            found.setdefault(name, []).append(ranks)
    told = {name: np.concatenate(ranks) for name, ranks in found.items()}
    lines = {name: figures(ranks, told["charlen_mean"]) for name, ranks in told.items()}
    print(to_markdown(lines))
    words = len(told["charlen_mean"])
    print(f"\n{arguments.model}, {words:,} held-out words, seeds {', '.join(map(str, arguments.seeds))}")
    facts = {"model": arguments.model, "seeds": arguments.seeds, "words": words, "table": lines, "networks": about}
    facts["glossary"] = [path.name for path in arguments.glossary]
    write_json(facts, arguments.out)


def to_markdown(lines: dict[str, dict[str, Any]]) -> str:
    """The table for a document, the best method first."""
    rows = [
        [name, *(f"{line[key]:.3f}" for key in SHARES), f"{line['median_rank']:.0f}", cell(line, "gain", sign="+")]
        for name, line in sorted(lines.items(), key=lambda item: -item[1]["mrr"])
    ]
    return markdown(["", *SHARES, "median rank", "MRR less charlen_mean's"], rows)


if __name__ == "__main__":
    main()
