"""Words of the vocabulary that are hidden to be learned anew: where they are drawn from, and the pairs that teach them.

* wordnet: glosses and examples of WordNet, without the texts that WordNet gives for a drawn word itself.
* medquad: the answers of MedQuAD; the words are looked up in WordNet.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import SHARED
from contrastok.console import Console
from contrastok.data_gen.fold import Fold
from contrastok.data_gen.known import find_wordnet, read_wordnet
from contrastok.data_gen.wordnet import WordNet
from contrastok.eval.recovery import own_cache, prepare
from contrastok.eval.recovery_corpus import texts_of_others
from contrastok.eval.recovery_measure import Prepared
from contrastok.eval.recovery_sample import attested, draw, draw_sample, eligible_words, sentence_table
from contrastok.eval_config import RecoveryConfig
from contrastok.models import load_tokenizer

LEAST = 8
"""Sentences that a drawn word has."""
MOST = 12
"""Sentences of a drawn word that gen-pairs makes pairs of: a user's word has seldom more, and time grows with them."""


@dataclass(frozen=True)
class Lesson:
    """A model without the drawn words, and what there is to learn them from.

    Attributes:
        drawn: the words of each seed.
        config: the options of the recovery.
        work: folder of the model without them, of the pairs and of a cache of its own.
        prepared: the words with their gold rows.
    """

    drawn: dict[int, list[str]]
    config: RecoveryConfig
    work: Path
    prepared: Prepared


Source = Callable[[Path, Path, str, int, Sequence[int]], dict[int, list[str]]]
"""From a WordNet folder, a folder to write the corpus into, a model, a number of words and seeds: the words of each."""


@contextlib.contextmanager
def hidden_words(source: Source, model: str, words: int, seeds: Sequence[int], console: Console) -> Iterator[Lesson]:
    """Draw words for each seed, hide all of them at once, and generate pairs for them; nothing of it is kept.

    Args:
        source: draws the words, see SOURCES.
        model: that knows the words.
        words: drawn for each seed.
        seeds: of the draws. Everything else that is random has seed 0.
        console: shows progress.
    """
    folder = find_wordnet("auto")
    if folder is None:
        raise SystemExit("this benchmark needs WordNet (Debian: wordnet-base)")
    with tempfile.TemporaryDirectory(prefix="contrastok-recovery-") as temporary:
        work = Path(temporary)
        drawn = source(folder, work, model, words, seeds)
        (work / "words.txt").write_text("\n".join(sorted(set().union(*drawn.values()))) + "\n", encoding="utf-8")
        (work / "run.toml").write_text(f"[gen-pairs]\nmax-sentences = {MOST}\n", encoding="utf-8")
        config = RecoveryConfig(
            config=work / "run.toml",
            model=model,
            terms=(work / "words.txt",),
            corpus=(str(work / "corpus.jsonl"),),
            glossary=(folder,),
            quiet=console.quiet,
        )
        with own_cache(work):
            yield Lesson(drawn, config, work, prepare(config, work, console))


def from_wordnet(folder: Path, work: Path, model: str, words: int, seeds: Sequence[int]) -> dict[int, list[str]]:
    """Draw words for each seed, and write the corpus without what WordNet says of each word in its own synsets."""
    wordnet, tokenizer, quiet = WordNet(folder), load_tokenizer(model), Console(quiet=True)
    eligible, table = eligible_words(tokenizer, wordnet), sentence_table(tokenizer, 0)
    own = read_wordnet(wordnet, eligible, table)
    told = attested(eligible, table, tokenizer, LEAST, quiet, own)
    drawn = {seed: draw(told, words, seed, LEAST, str(folder)) for seed in seeds}
    with (work / "corpus.jsonl").open("w", encoding="utf-8") as handle:
        for text in texts_of_others(wordnet, sorted(set().union(*drawn.values())), Fold(tokenizer)):
            handle.write(json.dumps({"text": text}) + "\n")
    return drawn


def from_medquad(folder: Path, work: Path, model: str, words: int, seeds: Sequence[int]) -> dict[int, list[str]]:
    """Draw words that the answers of MedQuAD hold, for each seed, and write the answers as the corpus."""
    return draw_from(medquad_answers(), folder, work, model, words, seeds)


def medquad_answers() -> list[str]:
    """The answers of MedQuAD that are not empty, in their order."""
    with gzip.open(SHARED / "medquad" / "medquad.jsonl.gz", "rt", encoding="utf-8") as source:
        return [text for line in source if (text := json.loads(line).get("answer"))]


def draw_from(
    texts: Sequence[str], folder: Path, work: Path, model: str, words: int, seeds: Sequence[int]
) -> dict[int, list[str]]:
    """Draw words that texts hold, for each seed, and write the texts as the corpus."""
    corpus = work / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    config = RecoveryConfig(corpus=(str(corpus),), glossary=(folder,), sample=words, min_evidence=LEAST)
    tokenizer = load_tokenizer(model)
    return {seed: draw_sample(replace(config, seed=seed), tokenizer, Console(quiet=True)) for seed in seeds}


SOURCES: dict[str, Source] = {
    "wordnet": from_wordnet,
    "medquad": from_medquad,
}
"""Each draws words and writes the corpus into a folder."""
