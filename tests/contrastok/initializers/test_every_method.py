"""Every registered method on a tiny model of each tokenizer family: it gives rows, or says why it does not apply."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch

from contrastok.errors import ContrastokError
from contrastok.hypernet.training import HypernetSettings
from contrastok.initializers import INITIALIZERS, InitContext, initial_rows
from contrastok.initializers.context import NEEDS
from tests.conftest import FAMILIES

NOT_FOR = {("merge_tree", "wordpiece"), ("merge_tree", "unigram")}
"""Methods that do not apply, and say so."""


@pytest.fixture
def a_little_training_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Word vectors and hypernetworks are trained for a moment, on tiny vocabularies: that they run is asked here."""
    for name, value in (("ENOUGH", 1), ("EPOCHS", 1), ("BUCKETS", 1000)):
        monkeypatch.setattr(f"contrastok.word_vectors.{name}", value)
    monkeypatch.setattr("contrastok.hypernet.lesson.MIN_WORDS", 100)
    quick = partial(HypernetSettings, layers=1, epochs=1, batch_size=64)
    monkeypatch.setattr("contrastok.hypernet.training.HypernetSettings", quick)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", sorted(INITIALIZERS))
def test_it_gives_rows_or_says_why_not(
    few_known_words_do: None,
    a_little_training_does: None,
    make_context: Callable[[str], InitContext],
    name: str,
    family: str,
) -> None:
    said: list[str] = []
    context = replace(make_context(family), tell=said.append)
    before = context.table.detach().clone()
    lacking = [need for need in INITIALIZERS[name].needs if context.lacks(need)]
    if lacking or (name, family) in NOT_FOR:
        with pytest.raises(ContrastokError) as caught:
            initial_rows(name, context)
        assert (NEEDS[lacking[0]].what if lacking else "does not apply") in str(caught.value) and caught.value.hint
        return
    rows = initial_rows(name, context)
    assert rows.shape == (3, 32) and rows.dtype == torch.float32 and torch.isfinite(rows).all()
    assert torch.equal(rows, initial_rows(name, context)), "the same seed gives the same rows"
    assert torch.equal(context.table, before), "old rows never change"
    if name not in ("zero", "mean", "hf_resize"):
        assert len(rows.unique(dim=0)) == 3, said
