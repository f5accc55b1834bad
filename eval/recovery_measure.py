"""From a checkpoint of relearned words to their ranks among what the model has always had."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from contrastok.bank import FrozenEncoder
from contrastok.candidates import Candidates, candidates
from contrastok.checkpoint import Checkpoint
from contrastok.console import Console
from contrastok.data_gen.fold import Fold
from contrastok.data_gen.matcher import contains_name
from contrastok.data_gen.term_readers import read_terms
from contrastok.data_gen.wordnet import WordNet
from contrastok.eval.baselines import View, baseline_views
from contrastok.eval.bootstrap import Floats
from contrastok.eval.index import Array
from contrastok.eval.recovery_figures import Space, Standing, centred, recovery_figures, related_figures, stand
from contrastok.eval.start import training_texts
from contrastok.hiding import Hidden, HiddenWord
from contrastok.models import input_embedding, load_model
from contrastok.vocabulary import Skipped

BETWEEN = ("terms", "pairs", "model")
"""Options of train that name what lies between hiding and measuring: gone afterwards, and elsewhere in every run."""


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A model without some of its words, and the pairs that teach them.

    Attributes:
        model: the model that knows the words.
        base: folder of the model without them.
        terms: file of the words, for gen-pairs and train.
        glossary: term files and WordNet folders that say what they mean.
        pairs: folder that gen-pairs wrote.
        hidden: what was hidden.
        gold: their rows before, by word, float32 `[d]` each.
    """

    model: str
    base: Path
    terms: Path
    glossary: tuple[Path, ...]
    pairs: Path
    hidden: Hidden
    gold: Mapping[str, Array]


def measure(
    checkpoint: Checkpoint, prepared: Prepared, seed: int, console: Console, wanted: Collection[str] = ()
) -> dict[str, Any]:
    """Rank the gold rows and outputs of a checkpoint's words.

    Args:
        checkpoint: what was trained on `prepared`.
        prepared: the words and their gold rows.
        seed: of the random rows and the bootstrap.
        console: shows progress.
        wanted: views with a row that are measured; all where there are none.
    """
    by_word = {word.word: word for word in prepared.hidden.words}
    tokens = sorted(checkpoint.manifest["tokens"], key=lambda token: token["row"])
    words = [by_word[token["token"]] for token in tokens]
    gold = np.stack([prepared.gold[word.word] for word in words])
    base = load_model(str(prepared.base))
    frozen = FrozenEncoder(base, base.tokenizer, cache=False)
    views = baseline_views(checkpoint, frozen, seed=seed, gold=gold, wanted=wanted)
    untouched = load_model(prepared.model)
    known = _with_words(candidates(untouched.tokenizer), words)
    table = input_embedding(untouched).weight.detach().float().cpu().numpy()[: len(untouched.tokenizer)]
    encoder = FrozenEncoder(untouched, untouched.tokenizer, console=console)
    encoded = encoder.encode_ids([[i] for i in known.ids], "Encoding the vocabulary")
    kin = related_words(checkpoint, prepared, known)
    standings = _standings(views, words, known, table, encoded, kin)
    missing = [Skipped(word, "got no token") for word in by_word if word not in {w.word for w in words}]
    return {
        **recovery_figures(standings["rows"], seed),
        "encoded": recovery_figures(standings["encoded"], seed),
        "related": {space: related_figures(found, seed) for space, found in standings.items()},
        "candidates": {"rows": len(table), "encoded": len(known.ids)},
        "model": prepared.model,
        "init": checkpoint.manifest["init"],
        "seed": seed,
        "training": {
            name: value for name, value in checkpoint.manifest["training"]["options"].items() if name not in BETWEEN
        },
        "words": [_word(i, word, token, standings) for i, (word, token) in enumerate(zip(words, tokens, strict=True))],
        "skipped": [dataclasses.asdict(item) for item in (*prepared.hidden.skipped, *missing)],
    }


def _standings(
    views: Mapping[str, View],
    words: Sequence[HiddenWord],
    known: Candidates,
    table: Array,
    encoded: Array,
    kin: Sequence[set[int]],
) -> dict[str, dict[str, Standing]]:
    """Where every view stands: among all centred rows of the table, and among the outputs of the vocabulary's words."""
    mean = table.mean(axis=0)
    at = {i: position for position, i in enumerate(known.ids)}
    gold = [at[word.id] for word in words]
    forms = [[at[i] for i in word.ids if i in at] for word in words]
    rows = Space(centred(table, mean), [word.id for word in words], [word.ids for word in words])
    word_rows = Space(rows.vectors[list(known.ids)], gold, forms)
    outputs = Space(encoded, gold, forms)
    return {
        "rows": {
            name: stand(rows, centred(view.rows, mean), kin, word_rows)
            for name, view in views.items()
            if view.rows is not None
        },
        "encoded": {name: stand(outputs, view.encoded, kin) for name, view in views.items()},
    }


def related_words(checkpoint: Checkpoint, prepared: Prepared, known: Candidates) -> list[set[int]]:
    """Positions among `known` of the words that a glossary calls related to each token and no training text showed.

    A WordNet gives the family of the first sense, other glossaries give synonyms, broader and related names.
    """
    nets = [WordNet(path) for path in prepared.glossary if path.is_dir()]
    files = [path for path in prepared.glossary if not path.is_dir()]
    entries = {term.token: term for term in read_terms([prepared.terms], files)}
    texts = training_texts(checkpoint, prepared.pairs)
    fold = Fold(checkpoint.base_tokenizer)
    positions = known.positions()
    found = []
    for token in sorted(checkpoint.manifest["tokens"], key=lambda token: token["row"]):
        word = token["token"]
        entry = entries[word]
        names = [*entry.synonyms, *entry.broader, *entry.related]
        names += [name for net in nets for name in net.family(word)]
        shown = "\n".join(map(fold.key, texts[word]))
        unseen = [
            name for name in names if fold.key(name) != fold.key(word) and not contains_name(shown, fold.key(name))
        ]
        single = (positions.get(name, positions.get(name.casefold())) for name in unseen)
        found.append({place for place in single if place is not None})
    return found


def _with_words(known: Candidates, words: Sequence[HiddenWord]) -> Candidates:
    """The vocabulary's words, and the hidden ones among them even where they are no candidates (numbers, letters)."""
    by_id = dict(zip(known.ids, known.words, strict=True)) | {word.id: word.word for word in words}
    ids = sorted(by_id)
    return Candidates(tuple(ids), tuple(by_id[i] for i in ids))


def _word(
    i: int, word: HiddenWord, token: Mapping[str, Any], standings: Mapping[str, Mapping[str, Standing]]
) -> dict[str, Any]:
    """One word in every view and space; null where a view has nothing for it, or nothing is related to it."""

    def told(values: Callable[[Standing], Floats], kind: Callable[[Any], float]) -> dict[str, Any]:
        return {
            space: {name: None if np.isnan(found := values(s)[i]) else kind(found) for name, s in views.items()}
            for space, views in standings.items()
        }

    return {
        "token": word.word,
        "id": word.id,
        "pieces": token["pieces"],
        "sentences": token["evidence"]["sentences"],
        **({"confidence": token["confidence"]} if "confidence" in token else {}),
        "ranks": told(lambda standing: standing.ranks, int),
        "overlaps": told(lambda standing: standing.overlaps, float),
        "related": told(lambda standing: standing.hits, int),
    }
