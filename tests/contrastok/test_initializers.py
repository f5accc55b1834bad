from __future__ import annotations

import pytest
import torch

from contrastok.errors import ConfigError
from contrastok.initializers import INITIALIZERS, InitContext, initial_rows, initializer

TABLE = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
CONTEXT = InitContext(TABLE, ("a", "b"), ((3, 4), (5, 6, 7)), ((4, 2), (1, 1, 6)))


def test_subtoken_mean() -> None:
    rows = initial_rows("subtoken_mean", CONTEXT)
    torch.testing.assert_close(rows, torch.stack([TABLE[[3, 4]].mean(0), TABLE[[5, 6, 7]].mean(0)]))


def test_charlen_mean_weighs_by_characters() -> None:
    rows = initial_rows("charlen_mean", CONTEXT)
    torch.testing.assert_close(rows[0], (4 * TABLE[3] + 2 * TABLE[4]) / 6)
    torch.testing.assert_close(rows[1], (TABLE[5] + TABLE[6] + 6 * TABLE[7]) / 8)


def test_unknown_name_says_the_closest() -> None:
    with pytest.raises(ConfigError, match="charlen_mean"):
        initial_rows("charlen-mean", CONTEXT)


def test_the_registry_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contrastok.initializers.INITIALIZERS", dict(INITIALIZERS))

    @initializer("ones", source="this test")
    def ones(context: InitContext) -> torch.Tensor:
        """Rows of ones."""
        return torch.ones(len(context.terms), context.table.shape[1])

    assert initial_rows("ones", CONTEXT).sum() == 12


def test_bad_rows_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contrastok.initializers.INITIALIZERS", dict(INITIALIZERS))

    @initializer("broken", source="this test")
    def broken(context: InitContext) -> torch.Tensor:
        """Rows that are no numbers."""
        return torch.full((2, 6), float("nan"))

    with pytest.raises(ConfigError, match="not finite"):
        initial_rows("broken", CONTEXT)


def test_every_method_says_what_it_is_and_where_it_comes_from() -> None:
    for method in INITIALIZERS.values():
        assert method.summary.endswith(".") and method.source
