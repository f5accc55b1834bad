from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from contrastok.bank import encode_sequences
from contrastok.embedding import RowOverlay, looks_up, output_scale
from contrastok.errors import ModelError
from contrastok.kernels.plan import RowPlan
from contrastok.models import frozen_hash, input_embedding, load_model
from contrastok.overlay import attach, detach, merge
from contrastok.vocabulary import extend_tokenizer, plan_vocabulary

TERMS = ["zorblaxin", "brimwax", "quib vexalotl"]


class Scaled(nn.Embedding):
    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return super().forward(ids) * 5.5


class Shifted(nn.Embedding):
    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return super().forward(ids) + 1.0


def test_overlay_gives_old_rows_for_old_ids_and_new_rows_for_new_ids() -> None:
    base = nn.Embedding(10, 4, padding_idx=0)
    rows = torch.randn(2, 4)
    overlay = RowOverlay(base, rows, ids=[8, 12, 15], row_of=[0, 1, 1])
    ids = torch.tensor([[1, 8, 12], [15, 7, 0]])
    out = overlay(ids)
    expected = torch.stack(
        [torch.stack([base.weight[1], rows[0], rows[1]]), torch.stack([rows[1], base.weight[7], base.weight[0]])]
    )
    assert torch.equal(out, expected)


def test_gradient_reaches_only_rows_and_sums_over_positions() -> None:
    base = nn.Embedding(10, 4)
    overlay = RowOverlay(base, torch.zeros(2, 4), ids=[10, 11, 12], row_of=[0, 1, 1])
    weights = torch.randn(1, 5, 4)
    (overlay(torch.tensor([[10, 11, 3, 12, 10]])) * weights).sum().backward()
    assert base.weight.grad is None and not base.weight.requires_grad
    assert overlay.rows.grad is not None
    assert torch.equal(overlay.rows.grad, torch.stack([weights[0, 0] + weights[0, 4], weights[0, 1] + weights[0, 3]]))
    assert [p for p in overlay.parameters() if p.requires_grad] == [overlay.rows]


@pytest.mark.parametrize("kind", [nn.Embedding, Scaled])
def test_a_plan_made_ahead_gives_the_same_bits_and_one_for_other_ids_is_left_aside(kind: type[nn.Embedding]) -> None:
    overlay = RowOverlay(kind(10, 4), torch.randn(2, 4), ids=[10, 11, 12], row_of=[0, 1, 1])
    weights = torch.randn(5, 4)

    def gradient(ids: list[int], plan: RowPlan | None) -> torch.Tensor:
        with nullcontext() if plan is None else overlay.planned(plan):
            out = overlay(torch.tensor([ids]))[0]
        return torch.autograd.grad((out * weights[: len(ids)]).sum(), overlay.rows)[0]

    ids = [10, 11, 3, 12, 10]
    plan = RowPlan.of(overlay.slots[torch.tensor(ids)], 2)
    assert torch.equal(gradient(ids, plan), gradient(ids, None))
    other = RowPlan.of(torch.tensor([0, -1, -1, -1, -1]), 2)
    assert not torch.equal(gradient(ids, other), gradient(ids, None))  # it is the plan that is followed
    assert torch.equal(gradient([11, 3], plan), gradient([11, 3], None))


def test_embed_scale_is_found_and_applied_to_new_rows() -> None:
    base = Scaled(6, 3)
    assert output_scale(base) == pytest.approx(5.5)
    rows = torch.randn(1, 3)
    out = RowOverlay(base, rows, ids=[6], row_of=[0])(torch.tensor([[6, 2]]))
    torch.testing.assert_close(out[0, 0], rows[0] * 5.5)
    assert torch.equal(out[0, 1], base.weight[2] * 5.5)


def test_an_embedding_that_does_more_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match="Shifted"):
        output_scale(Shifted(6, 3))


@pytest.mark.parametrize("family", ["wordpiece", "byte-bpe", "unigram"])
@pytest.mark.parametrize("padding", [0, 2, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_overlay_and_merge_say_the_same_and_nothing_frozen_moves(
    make_model: Callable[..., Path], family: str, padding: int, dtype: torch.dtype
) -> None:
    """Padded tables, half precision, every family: overlay output == merged output, all frozen bits equal."""
    folder = str(make_model(family, padding, dtype))
    model = load_model(folder)
    plan = plan_vocabulary(model.tokenizer, TERMS)
    extended = extend_tokenizer(model.tokenizer, plan)
    table_rows = input_embedding(model).weight.shape[0]
    before = frozen_hash(model, list(plan.ids), table_rows)
    old = extended(["the cheese is old", "bread and a knife"])["input_ids"]
    new = extended(["the zorblaxin is old", "brimwax and a quib vexalotl"])["input_ids"]
    assert set(plan.ids) & {i for ids in new for i in ids}
    untouched = encode_sequences(model, extended, old)

    rows = torch.randn(len(plan.terms), input_embedding(model).weight.shape[1]).to(dtype).float()
    attach(model, plan, rows)
    overlaid = encode_sequences(model, extended, new)
    assert (encode_sequences(model, extended, old) == untouched).all()
    assert [n for n, p in model.named_parameters() if p.requires_grad] == [
        n for n, _ in model.named_parameters() if n.endswith(".rows")
    ]

    merge(model, plan, rows, extended)
    assert input_embedding(model).weight.shape[0] == max(table_rows, max(plan.ids) + 1)
    assert frozen_hash(model, list(plan.ids), table_rows) == before
    assert (encode_sequences(model, extended, new) == overlaid).all()
    assert (encode_sequences(model, extended, old) == untouched).all()


def test_detach_restores_the_model(tiny_model: Path) -> None:
    model = load_model(str(tiny_model))
    base = input_embedding(model)
    plan = plan_vocabulary(model.tokenizer, TERMS)
    attach(model, plan, torch.zeros(3, 32))
    assert isinstance(input_embedding(model), RowOverlay)
    detach(model)
    assert input_embedding(model) is base


def test_two_table_gradient_equals_the_full_table(tiny_model: Path) -> None:
    """The gradient of the rows is that of the same rows inside a resized table trained whole."""
    model: Any = load_model(str(tiny_model)).double()
    plan = plan_vocabulary(model.tokenizer, TERMS)
    extended = extend_tokenizer(model.tokenizer, plan)
    features = extended(["zorblaxin and brimwax", "a quib vexalotl, a zorblaxin"], padding=True, return_tensors="pt")
    rows = torch.randn(3, 32, dtype=torch.float64)
    target = torch.randn(2, 32, dtype=torch.float64)

    overlay = attach(model, plan, rows)
    overlay.rows.data = rows.clone()
    (model(dict(features))["sentence_embedding"] * target).sum().backward()
    ours = overlay.rows.grad

    merge(model, plan, rows, extended)
    weight = input_embedding(model).weight.requires_grad_(True)
    (model(dict(features))["sentence_embedding"] * target).sum().backward()
    torch.testing.assert_close(ours, weight.grad[list(plan.ids)], rtol=1e-12, atol=1e-12)


class Named(nn.Embedding):
    """As Hugging Face scales: the factor is named, and cast to the table's dtype."""

    embed_scale = torch.tensor(640**0.5)  # Gemma's: in bfloat16 it is 25.25, which no single row tells

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return super().forward(ids) * self.embed_scale.to(self.weight.dtype)


@pytest.mark.parametrize("kind", [nn.Embedding, Named, Scaled])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_frozen_rows_are_the_modules_own_bits(kind: type[nn.Embedding], dtype: torch.dtype) -> None:
    """Plain and named lookups are read directly, a class of its own is called; all say the same."""
    base = kind(50, 24).to(dtype)
    overlay = RowOverlay(base, torch.ones(1, 24), ids=[50], row_of=[0])
    assert overlay.direct == (kind is not Scaled)
    assert torch.equal(overlay(torch.arange(51).view(3, 17)).flatten(0, 1)[:50], base(torch.arange(50)))


def test_a_lookup_that_something_hooks_into_is_called() -> None:
    base = nn.Embedding(5, 4)
    base.register_forward_hook(lambda module, args, output: output)
    assert not looks_up(base, 1.0) and looks_up(nn.Embedding(5, 4), 1.0)
    assert not looks_up(nn.Embedding(5, 4, max_norm=1.0), 1.0)
