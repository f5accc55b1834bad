from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from contrastok.errors import ConfigError
from contrastok.initializers import INITIALIZERS, InitContext, InitOptions, initial_rows, initializer
from contrastok.initializers.context import NEEDS

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
        """A row that is not wholly numbers, and not wholly unknown."""
        return torch.tensor([[1.0] * 6, [float("nan"), 1.0, 1.0, 1.0, 1.0, 1.0]])

    with pytest.raises(ConfigError, match="not finite"):
        initial_rows("broken", CONTEXT)


def test_every_method_says_what_it_is_and_where_it_comes_from() -> None:
    for method in INITIALIZERS.values():
        assert method.summary.endswith(".") and method.source


def test_what_a_method_needs_is_told_before_it_runs() -> None:
    with pytest.raises(ConfigError, match=r"--init predictor needs the evidence.*\n.*--pairs"):
        initial_rows("predictor", CONTEXT)
    for method in INITIALIZERS.values():
        assert set(method.needs) <= set(NEEDS)


def test_terms_of_which_a_method_knows_nothing_start_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contrastok.initializers.INITIALIZERS", dict(INITIALIZERS))

    @initializer("half", source="this test")
    def half(context: InitContext) -> torch.Tensor:
        """Rows of ones, of the first term alone."""
        return torch.tensor([[1.0] * 6, [float("nan")] * 6])

    said: list[str] = []
    rows = initial_rows("half", replace(CONTEXT, tell=said.append))
    assert torch.equal(rows[0], torch.ones(6)) and torch.equal(rows[1], initial_rows("charlen_mean", CONTEXT)[1])
    assert said == ["half knows nothing of 1 of 2 terms (b); they start at charlen_mean."]


def test_norm_policies() -> None:
    plain, norms = initial_rows("charlen_mean", CONTEXT), TABLE.norm(dim=-1)

    def under(policy: str) -> torch.Tensor:
        return initial_rows("charlen_mean", replace(CONTEXT, options=InitOptions(norm=policy)))

    torch.testing.assert_close(under("median").norm(dim=-1), norms.median().expand(2))
    torch.testing.assert_close(under("constituents").norm(dim=-1), torch.stack([norms[3:5].mean(), norms[5:8].mean()]))
    torch.testing.assert_close(under("scale:0.5"), 0.5 * plain)
    for policy in ("median", "constituents"):
        torch.testing.assert_close(torch.cosine_similarity(under(policy), plain), torch.ones(2))
    for policy, said in (("mediam", "median"), ("scale:x", "number"), ("scale:-1", "above 0")):
        with pytest.raises(ConfigError, match=said):
            under(policy)
