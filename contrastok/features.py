"""Evidence as numbers: what the frozen model makes of a word's pieces, sentences, definition and names.

A known word is looked at exactly as a new term is: its own token is replaced by the pieces that the tokenizer would
use if it did not have the word, in every text. So a map that is learned on known words holds for new terms.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from contrastok.bank import FrozenEncoder, collate, special_frame
from contrastok.evidence import WordEvidence
from contrastok.models import input_embedding, transformer
from contrastok.vocabulary import encode_plain

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SHARD = 256
"""Words a cache file holds. A killed run loses at most one shard of work."""
BATCH = 64
"""Sequences in one forward pass."""
WINDOW = 48
"""Tokens of a sentence that are looked at, around the word."""
SOURCES = ("form", "definition", "sentences", "synonyms", "broader")
"""Where evidence comes from. Every word has a form; the others may be missing."""

Ids = tuple[int, ...]


@dataclass(frozen=True)
class WordInput:
    """A word as token ids, without the model's special tokens and without a token of its own.

    Attributes:
        pieces: the word in running text.
        lengths: characters that each piece covers.
        sentences: texts that hold the word, at most `WINDOW` tokens each.
        places: for each sentence, the positions of the word's pieces in it.
        definition: one text or none.
        synonyms, broader: names.
        per_million: sentences of the corpus that hold it, for a million characters.
    """

    pieces: Ids
    lengths: Ids
    sentences: tuple[Ids, ...] = ()
    places: tuple[Ids, ...] = ()
    definition: tuple[Ids, ...] = ()
    synonyms: tuple[Ids, ...] = ()
    broader: tuple[Ids, ...] = ()
    per_million: float = 0.0


@dataclass(frozen=True)
class Features:
    """Numbers about `n` words, in blocks.

    Attributes:
        blocks: name -> float32 `[n, width]`; the name before the first "/" is the source. Rows of words that lack
            the source are zero and mean nothing.
        present: source -> bool `[n]`.
        sentences: how many sentences each word has, int64 `[n]`.
    """

    blocks: Mapping[str, np.ndarray]
    present: Mapping[str, np.ndarray]
    sentences: np.ndarray

    def __len__(self) -> int:
        return len(self.sentences)

    def take(self, rows: np.ndarray) -> Features:
        """Some of the words, by position or by a mask."""
        return Features(
            {name: block[rows] for name, block in self.blocks.items()},
            {name: flags[rows] for name, flags in self.present.items()},
            self.sentences[rows],
        )


def word_inputs(
    words: Sequence[WordEvidence],
    own: Sequence[Sequence[int]],
    pieces: Sequence[Ids],
    lengths: Sequence[Ids],
    tokenizer: PreTrainedTokenizerFast,
    sentences: int,
) -> list[WordInput]:
    """Words as ids, each without its own token.

    Args:
        words: what is said of them.
        own: for each word the ids of its own token in all its forms: of a known word the old ones, of a term the new.
        pieces: for each word what stands in place of its token, whatever the form. In the texts of a known word only
            its own token is split, in those of a term all new ones.
        lengths: for each word, the characters that its pieces cover.
        tokenizer: gives the words' texts ids; for terms the extended one.
        sentences: at most so many a word are looked at.
    """
    texts = [text for word in words for group in _texts(word, sentences) for text in group]
    encoded = iter(encode_plain(tokenizer, texts))
    new = {i: parts for word, ids, parts in zip(words, own, pieces, strict=True) if not word.known for i in ids}
    inputs = []
    for word, ids, parts, covered in zip(words, own, pieces, lengths, strict=True):
        mine, split = frozenset(ids), dict.fromkeys(ids, parts) if word.known else new
        found = [[_expand(next(encoded), mine, split) for _ in group] for group in _texts(word, sentences)]
        spans = [span for span in (_around(*pair) for pair in found[0]) if span[1]]
        definition, synonyms, broader = (
            tuple(tuple(text[:WINDOW]) for text, _ in group if text) for group in found[1:]
        )
        inputs.append(
            WordInput(
                parts[:WINDOW],
                covered[:WINDOW],
                tuple(text for text, _ in spans),
                tuple(places for _, places in spans),
                definition,
                synonyms,
                broader,
                word.per_million,
            )
        )
    return inputs


def _texts(word: WordEvidence, sentences: int) -> tuple[Sequence[str], ...]:
    """What is said of a word: sentences, definition, synonyms, broader names."""
    return word.sentences[:sentences], (word.definition,) if word.definition else (), word.synonyms, word.broader


def _expand(ids: Sequence[int], own: frozenset[int], split: Mapping[int, Ids]) -> tuple[list[int], list[int]]:
    """Ids with tokens split into pieces, and the positions of the word's own pieces."""
    out: list[int] = []
    places: list[int] = []
    for i in ids:
        parts = split.get(i, (i,))
        if i in own:
            places.extend(range(len(out), len(out) + len(parts)))
        out.extend(parts)
    return out, places


def _around(ids: list[int], places: list[int]) -> tuple[Ids, Ids]:
    """The window of a text around its first place."""
    start = max(0, places[0] - WINDOW // 2) if places else 0
    kept = tuple(ids[start : start + WINDOW])
    return kept, tuple(p - start for p in places if p - start < len(kept))


class EvidenceEncoder:
    """Turns words into features; what the model says is cached on disk by the model's hash.

    Args:
        encoder: the frozen model on its original tokens.
    """

    def __init__(self, encoder: FrozenEncoder) -> None:
        self.encoder, self.model, self.tokenizer = encoder, encoder.model, encoder.tokenizer
        self.frame = special_frame(self.tokenizer)
        self.before = self.frame([-1]).index(-1)

    def features(
        self, words: Sequence[WordInput], weights: np.ndarray, description: str, ids: Sequence[int] = ()
    ) -> Features:
        """The features of words.

        Args:
            words: in any number.
            weights: of each token id in a bag of rows, `[V]`: see `bag_weights`.
            description: of the progress bar.
            ids: of known words, ascending. They are then kept by ranges of ids, so that a word more or less does not
                change what is kept of the others.
        """
        ranges = [i // SHARD for i in ids or range(len(words))]
        shards = [[word for _, word in run] for _, run in groupby(zip(ranges, words, strict=True), itemgetter(0))]
        parts = [self._shard(shard) for shard in self.encoder.console.track(shards, description)]
        blocks = {name: np.concatenate([part[name] for part in parts]).astype(np.float32) for name in parts[0]}
        blocks |= self._bags(words, weights)
        present = {"form": np.ones(len(words), bool)} | {
            source: np.array([bool(getattr(word, source)) for word in words]) for source in SOURCES[1:]
        }
        for name, block in blocks.items():
            block[~present[name.split("/")[0]]] = 0
        return Features(blocks, present, np.array([len(word.sentences) for word in words]))

    def _bags(self, words: Sequence[WordInput], weights: np.ndarray) -> dict[str, np.ndarray]:
        """Rows of the table: of the pieces, and of what stands in the texts (weighted as a search engine does)."""
        table = input_embedding(self.model).weight.detach().float().cpu().numpy()

        def mean(texts: Sequence[Ids], skip: Sequence[Ids] = ()) -> np.ndarray:
            left = [set(places) for places in skip] or [set()] * len(texts)
            ids = [i for text, out in zip(texts, left, strict=True) for at, i in enumerate(text) if at not in out]
            weight = weights[ids] if ids else np.zeros(0, np.float32)
            found: np.ndarray = weight @ table[ids] / max(float(weight.sum()), 1e-6)
            return found

        def lengths(word: WordInput) -> np.ndarray:
            weight = np.maximum(np.array(word.lengths, np.float32), 1e-6)
            found: np.ndarray = weight @ table[list(word.pieces)] / weight.sum()
            return found

        bags = {
            "form/subtoken mean": [table[list(word.pieces)].mean(0) for word in words],
            "form/character length mean": [lengths(word) for word in words],
            "form/size": [[np.log1p(len(w.pieces)), np.log1p(sum(w.lengths))] for w in words],
            "form/frequency": [[np.log1p(w.per_million), float(w.per_million == 0)] for w in words],
            "definition/rows": [mean(word.definition) for word in words],
            "sentences/rows": [mean(word.sentences, word.places) for word in words],
            "synonyms/rows": [mean(word.synonyms) for word in words],
            "broader/rows": [mean(word.broader) for word in words],
        }
        return {name: np.asarray(values, np.float32) for name, values in bags.items()}

    def _shard(self, words: Sequence[WordInput]) -> Mapping[str, np.ndarray]:
        told = json.dumps([2, [asdict(replace(word, per_million=0.0)) for word in words]])
        return self.encoder.kept(f"evidence/{hashlib.sha256(told.encode()).hexdigest()}", lambda: self._encode(words))

    def _encode(self, words: Sequence[WordInput]) -> dict[str, np.ndarray]:
        """Outputs and states of a shard, float16: half the disk, and far below the noise of any evidence."""
        texts: list[Ids] = []
        places: list[Ids] = []
        owners: dict[str, list[tuple[int, int]]] = {source: [] for source in SOURCES}
        for row, word in enumerate(words):
            placed = {
                "form": ((word.pieces,), (tuple(range(len(word.pieces))),)),
                "sentences": (word.sentences, word.places),
            }
            for source in SOURCES:
                found, at = placed.get(source) or (getattr(word, source), ((),) * len(getattr(word, source)))
                owners[source] += [(row, len(texts) + k) for k in range(len(found))]
                texts += found
                places += at
        outputs, states = self._run(texts, places)
        blocks = {}
        for source, pairs in owners.items():
            rows, which = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
            blocks[f"{source}/output"] = _mean_by(outputs[which], rows, len(words))
            if source in ("form", "sentences"):
                means = _mean_by(states[which], rows, len(words))
                blocks |= {f"{source}/state {name}": means[:, k] for k, name in enumerate(("early", "middle", "last"))}
        return {name: block.astype(np.float16) for name, block in blocks.items()}

    @torch.no_grad()
    def _run(self, texts: Sequence[Ids], places: Sequence[Ids]) -> tuple[np.ndarray, np.ndarray]:
        """Unit outputs `[N, dim]` and states at the word's pieces `[N, 3, width]` of an early, the middle and the last
        layer (zero where a text has no places)."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        body, device = transformer(self.model), self.model.device
        width = input_embedding(self.model).weight.shape[1]
        outputs = np.zeros((len(texts), self.encoder.dim), np.float32)
        states = np.zeros((len(texts), 3, width), np.float32)
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            features = collate(self.tokenizer, [self.frame(list(texts[i])) for i in chosen], device)
            found = body(**features, output_hidden_states=True, return_dict=True)
            layers = found.hidden_states
            features["token_embeddings"] = found.last_hidden_state
            for module in list(self.model)[1:]:  # pooling and what follows it
                features = module(features)
            outputs[chosen] = F.normalize(features["sentence_embedding"].float(), dim=-1).cpu().numpy()
            share = self._shares([places[i] for i in chosen], [len(texts[i]) for i in chosen], layers[0].shape[1])
            picked = torch.stack([layers[k].float() for k in (1, len(layers) // 2, len(layers) - 1)], dim=1)
            states[chosen] = torch.einsum("nktw,nt->nkw", picked, share.to(device)).cpu().numpy()
        return outputs, states

    def _shares(self, places: Sequence[Ids], lengths: Sequence[int], width: int) -> torch.Tensor:
        """Weights `[N, T]` that average over a word's pieces."""
        share = torch.zeros(len(places), width)
        extra = len(self.frame([]))
        left = self.tokenizer.padding_side == "left"
        for row, (at, length) in enumerate(zip(places, lengths, strict=True)):
            shift = self.before + (width - length - extra if left else 0)
            if at:
                share[row, [p + shift for p in at]] = 1 / len(at)
        return share


def _mean_by(values: np.ndarray, rows: Sequence[int] | np.ndarray, count: int) -> np.ndarray:
    """Means of `values` over equal `rows`, `[count, ...]`; zero where there is none."""
    total = np.zeros((count, *values.shape[1:]), np.float32)
    number = np.zeros(count, np.float32)
    np.add.at(total, rows, values)
    np.add.at(number, rows, 1)
    result: np.ndarray = total / np.maximum(number, 1).reshape(-1, *([1] * (values.ndim - 1)))
    return result


def bag_weights(words: Sequence[WordInput], vocabulary: int) -> np.ndarray:
    """Inverse document frequency of each token over the sentences and definitions of words, float32 `[vocabulary]`.

    A token that stands in every text weighs nothing, one that stands in none as much as one that stands in one
    (Spaerck Jones 1972).
    """
    texts = [set(text) for word in words for text in (*word.sentences, *word.definition)]
    counts = np.bincount([i for text in texts for i in text], minlength=vocabulary) if texts else np.zeros(vocabulary)
    weights: np.ndarray = np.log(max(len(texts), 2) / np.maximum(counts, 1)).clip(1e-3).astype(np.float32)
    return weights
