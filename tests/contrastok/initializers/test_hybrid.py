from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from contrastok.candidates import candidates
from contrastok.initializers import InitContext, initial_rows
from contrastok.initializers.hybrid import similar_mix


def test_the_mix_of_the_nearest() -> None:
    generator = torch.Generator().manual_seed(0)
    terms, words = (F.normalize(torch.randn(n, 4, generator=generator), dim=-1) for n in (2, 9))
    rows = torch.randn(9, 5, generator=generator)
    for mix, term in zip(similar_mix(terms, words, rows).double().numpy(), terms.double().numpy(), strict=True):
        cosines = words.double().numpy() @ term
        best = sorted(range(9), key=lambda i: -cosines[i])[:3]
        weights = np.exp(cosines[best] / 0.3)
        np.testing.assert_allclose(mix, weights @ rows.double().numpy()[best] / weights.sum(), rtol=1e-5)


def test_parts_have_the_same_norm_before_they_are_mixed(make_context: Callable[[str], InitContext]) -> None:
    context = make_context("wordpiece")
    assert context.tokenizer is not None and context.encoder is not None
    ids = candidates(context.tokenizer).ids
    words = torch.from_numpy(context.encoder.encode_ids([[i] for i in ids]))
    terms = torch.from_numpy(context.encoder.encode(context.terms))
    mix = similar_mix(terms, words, context.table.detach()[list(ids)])
    own = initial_rows("charlen_mean", context)
    scaled = mix * (own.norm(dim=1) / mix.norm(dim=1))[:, None]
    torch.testing.assert_close(initial_rows("hybrid", context), 0.7 * own + 0.3 * scaled, rtol=1e-4, atol=1e-5)
