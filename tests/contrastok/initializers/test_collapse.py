from __future__ import annotations

import itertools

import pytest
import torch

from contrastok.initializers.collapse import mean_pairwise_cosine


def test_it_is_the_mean_over_pairs() -> None:
    rows = torch.randn(7, 5, generator=torch.Generator().manual_seed(0)) + 0.5
    pairs = [torch.cosine_similarity(a, b, dim=0) for a, b in itertools.combinations(rows.double(), 2)]
    assert mean_pairwise_cosine(rows) == pytest.approx(float(sum(pairs)) / len(pairs))


def test_collapse_is_measured() -> None:
    rows = torch.randn(50, 64, generator=torch.Generator().manual_seed(0))
    assert abs(mean_pairwise_cosine(rows)) < 0.1
    assert mean_pairwise_cosine(rows[:1].repeat(5, 1)) == pytest.approx(1.0)


def test_rows_of_zeros_have_no_direction() -> None:
    rows = torch.eye(3)
    assert mean_pairwise_cosine(torch.zeros(4, 3)) == 1.0
    assert mean_pairwise_cosine(torch.cat([rows, torch.zeros(2, 3)])) == mean_pairwise_cosine(rows) == 0.0
