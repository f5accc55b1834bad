"""Rows by the tree in which merges build a term of its pieces."""

from __future__ import annotations

import json
from collections.abc import Sequence

import torch

from contrastok.errors import ConfigError
from contrastok.initializers import InitContext, initializer
from contrastok.token_modes import tokenizer_family

Symbol = tuple[int, ...]
"""What merges join: the ids of the pieces in it."""


def _only_bpe(context: InitContext) -> None:
    """Refuse a tokenizer that knows no merges."""
    assert context.tokenizer is not None  # one of its needs
    family = tokenizer_family(context.tokenizer.backend_tokenizer)
    if not family.endswith("bpe"):
        raise ConfigError(
            f"--init merge_tree does not apply: the tokenizer is a {family} one, and only BPE builds words by merges",
            hint="use --init subtoken_mean or charlen_mean",
        )


@initializer(
    "merge_tree", source="Yamaguchi et al. 2024, arXiv:2406.11477, Merge", needs=("tokenizer",), refuse=_only_bpe
)
def merge_tree(context: InitContext) -> torch.Tensor:
    """The mean of the two halves that the last merge joins, each made the same way, down to the pieces (BPE only).

    The paper reads the merges from a new tokenizer. An added token has none, so they are those that continued training
    of the old tokenizer on the terms would learn: again and again the neighbours that most often stand together in the
    terms are joined, until every term is one symbol.
    """
    rows: dict[Symbol, torch.Tensor] = {(i,): context.table[i].float() for ids in context.pieces for i in ids}
    for left, right in merges_of(context.pieces):
        rows.setdefault(left + right, (rows[left] + rows[right]) / 2)
    return torch.stack([rows[ids] for ids in context.pieces])


def merges_of(words: Sequence[Symbol]) -> list[tuple[Symbol, Symbol]]:
    """The merges that byte-pair encoding (Sennrich et al. 2016) learns from words, each counted once.

    Args:
        words: their pieces, which are the alphabet here.

    Returns:
        pairs of symbols in the order in which they are joined; after the last one each word is one symbol.
    """
    from tokenizers import Tokenizer, models, trainers

    letters = {i: chr(0x10000 + at) for at, i in enumerate(sorted({i for ids in words for i in ids}))}
    backend = Tokenizer(models.BPE())
    most = len(letters) + sum(map(len, words))  # a merge shortens at least one word
    trainer = trainers.BpeTrainer(vocab_size=most, min_frequency=1, show_progress=False)
    backend.train_from_iterator(["".join(letters[i] for i in ids) for ids in words], trainer)
    ids = {letter: i for i, letter in letters.items()}
    merges = json.loads(backend.to_str())["model"]["merges"]
    return [(tuple(ids[c] for c in left), tuple(ids[c] for c in right)) for left, right in merges]
