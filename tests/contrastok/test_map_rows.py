from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from contrastok import map_rows as stage
from contrastok.bank import FrozenEncoder
from contrastok.candidates import candidates
from contrastok.console import Console
from contrastok.fit import Predicted
from contrastok.map_rows import MapSettings, WordBank, WordObjective, mahalanobis, map_rows, outputs_of
from contrastok.models import fingerprint, input_embedding, load_model

QUIET, CPU = Console(quiet=True), torch.device("cpu")
NEW = 7


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    return load_model(str(tiny_model))


@pytest.fixture(scope="module")
def words(model: Any) -> tuple[Predicted, WordBank]:
    """What a prior might say of seven words, and the outputs of forty known ones."""
    ids = list(candidates(model.tokenizer).ids[:40])
    bank = FrozenEncoder(model, model.tokenizer, cache=False).encode_ids([[i] for i in ids])
    table = input_embedding(model).weight.detach()
    generator = torch.Generator().manual_seed(0)
    rows = table[ids[:NEW]] + 0.3 * torch.randn(NEW, 32, generator=generator)
    expected = F.normalize(torch.from_numpy(bank[:NEW]) + 0.1 * torch.randn(NEW, 32, generator=generator), dim=1)
    scale = np.linspace(0.5, 2, NEW, dtype=np.float32)
    precision = torch.randn(32, 32, generator=generator)
    return (
        Predicted(rows.numpy(), expected.numpy(), scale, np.ones(NEW, np.float32)),
        WordBank(torch.from_numpy(bank), precision @ precision.T / 32 + torch.eye(32), float(table.std(0).mean())),
    )


def objective(words: tuple[Predicted, WordBank], masked: Any = ((),) * NEW, **settings: Any) -> WordObjective:
    return WordObjective(*words, MapSettings(**settings), masked, CPU)


def in_double(words: tuple[Predicted, WordBank]) -> tuple[Predicted, WordBank]:
    predicted, bank = words
    return (
        Predicted(*(getattr(predicted, name).astype(np.float64) for name in Predicted.__dataclass_fields__)),
        WordBank(bank.outputs.double(), bank.precision.double(), bank.unit),
    )


@pytest.mark.parametrize("weight", [0.0, 0.01, 3.0])
def test_the_gradient_is_that_of_finite_differences(words: tuple[Predicted, WordBank], weight: float) -> None:
    index = torch.tensor([4, 0, 2])
    masked = ((8, 9), (), (3,), (), (1,), (), ())
    exact = objective(in_double(words), masked, temperature=0.2, prior_weight=weight)
    generator = torch.Generator().manual_seed(1)
    queries = torch.randn(3, 32, generator=generator, dtype=torch.float64).requires_grad_()
    rows = (exact.mean[index] + torch.randn(3, 32, generator=generator, dtype=torch.float64)).requires_grad_()

    def loss(queries: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return exact(F.normalize(queries, dim=-1), rows, index, exact.mask(index))

    assert torch.autograd.gradcheck(loss, (queries, rows))
    expected = torch.autograd.grad(loss(queries, rows), (queries, rows), allow_unused=True, materialize_grads=True)
    single = [value.detach().float().requires_grad_() for value in (queries, rows)]
    usual = objective(words, masked, temperature=0.2, prior_weight=weight)
    found = usual(F.normalize(single[0], dim=-1), single[1], index, usual.mask(index))
    for a, b in zip(
        torch.autograd.grad(found, single, materialize_grads=True, allow_unused=True), expected, strict=True
    ):
        torch.testing.assert_close(a.double(), b, rtol=1e-3, atol=1e-5)


def test_mahalanobis_against_a_plain_loop() -> None:
    generator = torch.Generator().manual_seed(2)
    rows, mean, factor = (torch.randn(*shape, generator=generator) for shape in ((4, 6), (4, 6), (6, 6)))
    covariance, scale = factor @ factor.T + torch.eye(6), torch.tensor([0.5, 1.0, 2.0, 4.0])
    found = mahalanobis(rows, mean, scale, torch.linalg.inv(covariance))
    for i in range(4):
        away = rows[i] - mean[i]
        assert float(found[i]) == pytest.approx(
            float(0.5 * away @ torch.linalg.solve(scale[i] * covariance, away)), rel=1e-4
        )


def test_masked_words_and_near_ones_are_no_negatives(words: tuple[Predicted, WordBank]) -> None:
    predicted, bank = words
    index, masked = torch.tensor([3]), ((), (), (), (20,), (), (), ())
    queries, rows = torch.from_numpy(predicted.outputs[[3]]), torch.from_numpy(predicted.rows[[3]])

    def loss(at: int, toward: float) -> float:
        """The loss when one word of the bank has an output with this cosine to the key."""
        outputs = bank.outputs.clone()
        key, other = queries[0], outputs[at]
        across = F.normalize(other - (other @ key) * key, dim=0)
        outputs[at] = toward * key + (1 - toward**2) ** 0.5 * across
        task = objective((predicted, WordBank(outputs, bank.precision, bank.unit)), masked)
        return float(task(queries, rows, index, task.mask(index)))

    assert loss(20, -0.5) == loss(20, 0.5) == loss(20, 0.8) == loss(20, 0.99)
    assert loss(21, 0.8) > loss(21, 0.5) + 1e-3 > loss(21, -0.5)
    assert loss(21, 0.95) == loss(21, 0.99) < loss(21, 0.5)


def test_the_loss_falls_and_the_prior_holds(model: Any, words: tuple[Predicted, WordBank]) -> None:
    mean, moved = torch.from_numpy(words[0].rows), {}
    for weight in (0.0, 0.01, 1e6):
        task = objective(words, prior_weight=weight)
        rows = map_rows(model, model.tokenizer, task, QUIET)
        moved[weight] = float((rows - mean).norm(dim=1).mean())
        index = torch.arange(NEW)
        before, after = (
            float(task(outputs_of(model, model.tokenizer, r), r, index, task.mask(index))) for r in (mean, rows)
        )
        assert after < before or weight == 1e6
    assert moved[0.0] > 0.1 and moved[1e6] < 0.05 * moved[0.0]


def test_no_steps_leave_the_mean(model: Any, words: tuple[Predicted, WordBank]) -> None:
    rows = map_rows(model, model.tokenizer, objective(words, steps=0), QUIET)
    assert torch.equal(rows, torch.from_numpy(words[0].rows))


def test_the_model_is_as_before(model: Any, words: tuple[Predicted, WordBank], monkeypatch: pytest.MonkeyPatch) -> None:
    before, base = fingerprint(model), input_embedding(model)
    map_rows(model, model.tokenizer, objective(words), QUIET)
    outputs_of(model, model.tokenizer, torch.from_numpy(words[0].rows))
    assert input_embedding(model) is base and fingerprint(model) == before
    assert all(p.grad is None and not p.requires_grad for p in model.parameters())

    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(WordObjective, "__call__", broken)
    with pytest.raises(KeyboardInterrupt):
        map_rows(model, model.tokenizer, objective(words), QUIET)
    assert input_embedding(model) is base and fingerprint(model) == before


def test_words_placed_at_once_do_not_matter(
    model: Any, words: tuple[Predicted, WordBank], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = map_rows(model, model.tokenizer, objective(words), QUIET)
    assert torch.equal(rows, map_rows(model, model.tokenizer, objective(words), QUIET))
    for chunk in (1, 3):
        monkeypatch.setattr(stage, "CHUNK", chunk)
        torch.testing.assert_close(
            map_rows(model, model.tokenizer, objective(words), QUIET), rows, rtol=1e-3, atol=1e-3
        )


def test_outputs_are_those_of_the_words_alone(
    model: Any, words: tuple[Predicted, WordBank], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "CHUNK", 16)
    table = input_embedding(model).weight.detach()
    found = outputs_of(model, model.tokenizer, table[list(candidates(model.tokenizer).ids[:40])])
    torch.testing.assert_close(found, words[1].outputs, rtol=1e-5, atol=1e-5)


def test_noise_is_each_words_own_and_leaves_no_trace(model: Any, words: tuple[Predicted, WordBank]) -> None:
    """The rows do not depend on which words are placed together, and without noise none is added."""
    task = objective(words, steps=3, noise=0.5)
    some = torch.tensor([4, 1])
    assert torch.equal(task.noise(2, torch.arange(NEW))[some], task.noise(2, some))
    assert not torch.equal(task.noise(1, some), task.noise(2, some))
    assert float(task.noise(0, torch.arange(NEW)).std()) == pytest.approx(0.5 * task.unit, rel=0.2)
    noisy = map_rows(model, model.tokenizer, task, QUIET)
    assert torch.equal(noisy, map_rows(model, model.tokenizer, task, QUIET))
    plain = map_rows(model, model.tokenizer, objective(words, steps=3), QUIET)
    assert not torch.equal(noisy, plain)
    assert (noisy - plain).abs().max() < 3 * 2 * 0.1 * task.unit  # three of Adam's steps each way, not the noise


def test_where_calibration_rejects_the_contrast_only_the_prior_is_left(words: tuple[Predicted, WordBank]) -> None:
    task, index = objective(words, steps=0), torch.arange(3)
    rows, mask = task.mean[:3] + 1, task.mask(index)
    away, near = (float(task(queries, rows, index, mask)) for queries in (-task.keys[:3], task.keys[:3]))
    assert away == near > 0 == float(task(task.keys[:3], task.mean[:3], index, mask))
    tried = objective(words, steps=1)
    assert float(tried(-task.keys[:3], rows, index, mask)) > float(tried(task.keys[:3], rows, index, mask)) > near
