"""Rows between the term's own pieces and the words that it resembles."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from contrastok.candidates import candidates
from contrastok.initializers import InitContext, initializer
from contrastok.initializers.composition import charlen_mean

SHARE, NEIGHBORS, TEMPERATURE = 0.7, 3, 0.3
"""TokenAdapt's: the weight of the pieces, similar words that are mixed, and what their cosines are divided by."""
CHUNK = 1024
"""Terms that are compared with the vocabulary at once."""


@initializer("hybrid", source="TokenAdapt, arXiv:2505.09738; norms matched", needs=("tokenizer", "encoder"))
def hybrid(context: InitContext) -> torch.Tensor:
    """0.7 of charlen_mean and 0.3 of the mix of the 3 words that the model itself finds most like the term.

    Words and terms are compared by what the frozen model makes of each alone, so no other model is needed. The mix is
    given the norm of the pieces' mean first: a mix of rows is shorter than rows are, and 0.3 of it would be less.
    """
    assert context.tokenizer is not None and context.encoder is not None  # its needs
    ids = candidates(context.tokenizer).ids
    words = torch.from_numpy(context.encoder.encode_words(ids))
    terms = torch.from_numpy(context.encoder.encode_ids(context.pieces, "Encoding the terms' pieces"))
    own = charlen_mean(context).cpu()
    mix = similar_mix(terms, words, context.table[list(ids)].float().cpu())
    matched: torch.Tensor = F.normalize(mix, dim=-1) * own.norm(dim=-1, keepdim=True)
    return SHARE * own + (1 - SHARE) * matched


def similar_mix(terms: torch.Tensor, words: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """The rows of each term's nearest words, weighted by the softmax of cosine / temperature.

    Args:
        terms: unit vectors, float32 `[n, dim]`.
        words: unit vectors, float32 `[V, dim]`.
        rows: of the words, float32 `[V, d]`.

    Returns:
        float32 `[n, d]`.
    """
    mixes = []
    for part in torch.split(terms, CHUNK):
        cosines, nearest = (part @ words.T).topk(min(NEIGHBORS, len(words)), dim=1)
        mixes.append(torch.einsum("nk,nkd->nd", (cosines / TEMPERATURE).softmax(1), rows[nearest]))
    return torch.cat(mixes)
