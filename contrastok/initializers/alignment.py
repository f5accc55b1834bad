"""Rows by the pieces that stand in the user's text where the new token will."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from contrastok.initializers import InitContext, initializer
from contrastok.vocabulary import encode_plain

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Ids = tuple[int, ...]
Placed = tuple[int, int, int]
"""An id, and where its token starts and ends in the text."""


@initializer("align", source="Yamaguchi et al. 2024, arXiv:2406.11477, Align", needs=("tokenizer", "extended", "texts"))
def align(context: InitContext) -> torch.Tensor:
    """The mean over the ways in which the text's own pieces spell the term, weighted by how often each does.

    Each way gives the mean of its pieces' rows. A word has several where the tokenizer knows case or spaces: the pieces
    of "Halloumi" at the start of a sentence are others than those of " halloumi" in it. With one way it is
    `subtoken_mean`. Terms that no text holds get NaN.
    """
    rows = []
    for found in segmentations(context):
        row = torch.full_like(context.table[0], 0.0 if found else torch.nan, dtype=torch.float32)
        for ids, times in found.items():
            row += times / found.total() * context.table[list(ids)].float().mean(0)
        rows.append(row)
    return torch.stack(rows)


def segmentations(context: InitContext) -> list[Counter[Ids]]:
    """For each term the sequences of original ids that cover it in the texts, with how often each does.

    A place where an original token covers more than the term is not counted.
    """
    assert context.plan is not None and context.extended is not None and context.tokenizer is not None
    row_of = {token.id: token.row for token in context.plan.tokens}
    encoded = zip(context.texts, encode_plain(context.extended, context.texts), strict=True)
    texts = [text for text, ids in encoded if not row_of.keys().isdisjoint(ids)]
    found: list[Counter[Ids]] = [Counter() for _ in context.terms]
    for new, old in zip(_placed(context.extended, texts), _placed(context.tokenizer, texts), strict=True):
        for i, start, end in new:
            if i in row_of and (ids := _covering(start, end, old)):
                found[row_of[i]][ids] += 1
    return found


def _placed(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> Iterator[list[Placed]]:
    """The tokens of each text with where they start and end, spaces around them taken off; lone spaces are left out."""
    if not texts:
        return
    encoded = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    for text, ids, spans in zip(texts, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        parts = [(i, start, text[start:end]) for i, (start, end) in zip(ids, spans, strict=True)]
        bare = [(i, start + len(part) - len(part.lstrip()), part.strip()) for i, start, part in parts]
        yield [(i, start, start + len(part)) for i, start, part in bare if part]


def _covering(start: int, end: int, tokens: Sequence[Placed]) -> Ids:
    """The ids of the tokens in a span; none when one of them reaches beyond it."""
    inside = [token for token in tokens if token[1] < end and token[2] > start]
    return tuple(i for i, a, b in inside) if all(a >= start and b <= end for _, a, b in inside) else ()
