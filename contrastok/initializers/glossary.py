"""Rows of the words that a glossary uses for the term."""

from __future__ import annotations

import torch

from contrastok.content import content_ids
from contrastok.initializers import InitContext, initializer
from contrastok.vocabulary import pieces_of

NOISE = 0.01
"""Of `copy`, in standard deviations of the table's columns: enough to tell apart terms that copy the same row."""


@initializer("definition_mean", source="common practice with described tokens", needs=("tokenizer", "evidence"))
def definition_mean(context: InitContext) -> torch.Tensor:
    """The mean of the rows of the definition's content words, function words left out."""
    assert context.tokenizer is not None  # one of its needs
    found = content_ids(context.tokenizer, [word.definition for word in context.of_terms()])
    return torch.stack([context.table[ids].float().mean(0) if ids else _nothing(context) for ids in found])


@initializer("copy", source="common practice for synonyms", needs=("tokenizer", "evidence"))
def copy(context: InitContext) -> torch.Tensor:
    """The row of the first synonym, or else broader name, that is one token already, with a little noise.

    A term file chooses the word to copy: it is the first of `synonyms`, of those not held out, that is one token.
    """
    assert context.tokenizer is not None  # one of its needs
    named = [(*word.synonyms, *word.broader) for word in context.of_terms()]
    every = list(dict.fromkeys(name for names in named for name in names))
    whole = {
        name: ids[0] for name, ids in zip(every, pieces_of(context.tokenizer, every), strict=True) if len(ids) == 1
    }
    special = set(context.tokenizer.all_special_ids)  # what is unknown to the model among them
    found = [next((whole[n] for n in names if whole.get(n, -1) not in {-1, *special}), None) for names in named]
    rows = torch.stack([_nothing(context) if i is None else context.table[i].float() for i in found])
    generator = torch.Generator().manual_seed(context.seed)
    noise = torch.randn(rows.shape, generator=generator).to(rows)
    return rows + NOISE * context.old_rows().std(0, correction=0) * noise


def _nothing(context: InitContext) -> torch.Tensor:
    return torch.full_like(context.table[0], torch.nan, dtype=torch.float32)
