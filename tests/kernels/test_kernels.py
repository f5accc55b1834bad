from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastok.kernels.gather import overlay_rows
from contrastok.kernels.info_nce import info_nce


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 7), st.integers(1, 5), st.integers(1, 9), st.integers(0, 10_000))
def test_overlay_rows_against_a_plain_loop(n: int, d: int, length: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    frozen = torch.randn(length, d, generator=generator, dtype=torch.float64)
    rows = torch.randn(n, d, generator=generator, dtype=torch.float64, requires_grad=True)
    slots = torch.randint(-1, n, (length,), generator=generator, dtype=torch.int32)
    out = overlay_rows(frozen, rows, slots, 2.0)
    expected = torch.stack([frozen[i] if s < 0 else rows[s] * 2.0 for i, s in enumerate(slots.tolist())])
    assert torch.equal(out, expected)
    out.sum().backward()
    counts = torch.bincount(slots[slots >= 0].long(), minlength=n).double()
    assert rows.grad is not None
    assert torch.equal(rows.grad, (counts * 2.0)[:, None].expand(n, d))


def test_overlay_rows_gradcheck() -> None:
    rows = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    slots = torch.tensor([[0, -1, 2], [2, 2, -1]])
    frozen = torch.randn(2, 3, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda r: overlay_rows(frozen, r, slots, 0.5), (rows,))


def test_info_nce_against_the_formula() -> None:
    """-log exp(s+/T) / sum over unmasked keys exp(s/T), in float64."""
    q = torch.nn.functional.normalize(torch.randn(5, 8, dtype=torch.float64), dim=-1)
    k = torch.nn.functional.normalize(torch.randn(11, 8, dtype=torch.float64), dim=-1)
    targets = torch.tensor([0, 3, 3, 7, 10])
    mask = torch.rand(5, 11) < 0.4
    loss, hit = info_nce(q, k, targets, mask, 0.05)
    for i in range(5):
        keep = [j for j in range(11) if j == targets[i] or not mask[i, j]]
        scores = torch.stack([q[i] @ k[j] / 0.05 for j in keep])
        own = q[i] @ k[targets[i]] / 0.05
        torch.testing.assert_close(loss[i], -(own - torch.logsumexp(scores, 0)))
        assert bool(hit[i]) == bool(own >= scores.max())


def test_info_nce_with_every_negative_masked_is_zero() -> None:
    q = torch.nn.functional.normalize(torch.randn(2, 4), dim=-1).requires_grad_(True)
    loss, hit = info_nce(q, q.detach(), torch.tensor([0, 1]), torch.ones(2, 2, dtype=torch.bool), 0.01)
    loss.sum().backward()
    assert loss.abs().max() < 1e-6 and hit.all()
    assert q.grad is not None and torch.isfinite(q.grad).all()


def test_keys_get_no_gradient() -> None:
    q, k = torch.randn(2, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    info_nce(q, k, torch.tensor([0, 1]), torch.zeros(2, 3, dtype=torch.bool), 1.0)[0].sum().backward()
    assert k.grad is None and q.grad is not None


def test_our_kernels_never_shadow_the_package_of_that_name() -> None:
    """transformers imports the Hugging Face package `kernels`; a regular package here would break AutoModel."""
    root = Path(__file__).resolve().parents[2]
    assert not (root / "kernels" / "__init__.py").exists()
    spec = importlib.util.find_spec("kernels")
    assert spec is None or spec.origin is None or not Path(spec.origin).is_relative_to(root)
