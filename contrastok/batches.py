"""From pairs to training batches: anchors in new tokens, keys as rows of the frozen bank."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from contrastok.alignment import align
from contrastok.bank import FrozenEncoder
from contrastok.pairs import PairTable
from contrastok.vocabulary import VocabularyPlan, encode_plain

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BUCKET = 32
"""Batches are cut from runs of so many batches sorted by length: short anchors do not wait for long ones."""


@dataclass(frozen=True)
class Anchor:
    """One sentence to embed, and the keys it should find.

    Attributes:
        ids: token ids with the new tokens, special tokens included.
        rows: the trainable rows that occur in it.
        key: its own text's index in the bank (the frozen model's view of the original tokens).
        positives: bank indices of its positives, one a pair.
        negatives: bank indices of the hard negatives of its pairs.
        original: token ids without the new tokens, special tokens included; empty when no objective asks for them.
        aligned: places in `ids` and in `original` of tokens that end at the same character.
    """

    ids: tuple[int, ...]
    rows: tuple[int, ...]
    key: int
    positives: tuple[int, ...]
    negatives: tuple[int, ...]
    original: tuple[int, ...] = ()
    aligned: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class TrainingSet:
    """Everything the loop needs; the texts are gone.

    Attributes:
        anchors: unique anchor sentences.
        keys: the bank: frozen embeddings of all anchors, positives and negatives, float32 `[K, d]`.
        owned: for each row, the bank indices that are no negatives of its term.
        pairs: number of pairs kept.
        dropped: pairs whose anchor does not hold the new token, or whose term has no row.
        updates: for each row, the number of anchors that hold it.
    """

    anchors: tuple[Anchor, ...]
    keys: torch.Tensor
    owned: tuple[torch.Tensor, ...]
    pairs: int
    dropped: int
    updates: tuple[int, ...]


def build_training_set(
    pairs: PairTable,
    plan: VocabularyPlan,
    extended: PreTrainedTokenizerFast,
    encoder: FrozenEncoder,
    max_length: int,
    *,
    aligned: bool = False,
) -> TrainingSet:
    """Tokenise anchors once, encode every key once, and note which keys are no negatives of which term.

    Args:
        pairs: the pairs.
        plan: the new tokens.
        extended: the extended fast tokenizer.
        encoder: the frozen model on original tokens.
        max_length: longer anchors are cut to so many tokens.
        aligned: also keep the anchors' original tokens, aligned with the new ones.
    """
    row_of_term = {token.term: token.row for token in plan.tokens}
    row_of_id = {token.id: token.row for token in plan.tokens}
    texts: dict[str, int] = {}
    grouped: dict[str, list[int]] = {}
    for i, anchor in enumerate(pairs.anchor):
        if pairs.token[i] in row_of_term:
            grouped.setdefault(anchor, []).append(i)
    encoded = (
        extended(list(grouped), truncation=True, max_length=max_length, verbose=False)["input_ids"] if grouped else []
    )

    anchors, kept = [], 0
    owned: list[set[int]] = [set() for _ in plan.terms]
    for (text, members), ids in zip(grouped.items(), encoded, strict=True):
        rows = tuple(sorted({row_of_id[i] for i in ids if i in row_of_id}))
        members = [i for i in members if row_of_term[pairs.token[i]] in rows]
        if not members:
            continue
        kept += len(members)
        key = texts.setdefault(text, len(texts))
        positives = [texts.setdefault(pairs.positive[i], len(texts)) for i in members]
        negatives = {texts.setdefault(n, len(texts)) for i in members for n in pairs.negatives[i]}
        for i, positive in zip(members, positives, strict=True):
            owned[row_of_term[pairs.token[i]]].add(positive)
        original, places = align(text, extended, encoder.tokenizer, max_length) if aligned else ((), ())
        anchors.append(Anchor(tuple(ids), rows, key, tuple(positives), tuple(sorted(negatives)), original, places))
    for text, ids in zip(texts, encode_plain(extended, list(texts)), strict=True):
        for row in {row_of_id[i] for i in ids if i in row_of_id}:
            owned[row].add(texts[text])  # a sentence about the term is no negative of it, whoever it was mined for

    updates = np.bincount([row for anchor in anchors for row in anchor.rows], minlength=len(plan.terms))
    keys = torch.from_numpy(encoder.encode(list(texts), "Encoding keys"))
    return TrainingSet(
        tuple(anchors),
        keys,
        tuple(torch.tensor(sorted(own), dtype=torch.long) for own in owned),
        kept,
        len(pairs) - kept,
        tuple(map(int, updates)),
    )


def epoch_batches(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """The batches of an epoch, as indices: shuffled, bucketed by length, shuffled again.

    Depends on its arguments alone, so that a resumed run continues with the very same batches.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), batch_size * BUCKET):
        run = sorted(order[start : start + batch_size * BUCKET], key=lambda i: lengths[i])
        batches += [list(map(int, run[i : i + batch_size])) for i in range(0, len(run), batch_size)]
    return [batches[i] for i in generator.permutation(len(batches))]


def steps(
    lengths: Sequence[int], batch_size: int, epochs: int, accumulation: int, seed: int
) -> Iterator[list[list[int]]]:
    """The whole run: for each step of the optimiser, its batches of indices."""
    for epoch in range(epochs):
        batches = epoch_batches(lengths, batch_size, seed, epoch)
        yield from (batches[i : i + accumulation] for i in range(0, len(batches), accumulation))
