from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastok.kernels.plan import CHUNK, RowPlan

BATCHES = st.tuples(st.integers(1, 9), st.integers(0, 300), st.integers(0, 10_000), st.floats(0, 1))


def draw(n: int, length: int, seed: int, share: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(n, (length,), generator=generator, dtype=torch.int32)
    return torch.where(torch.rand(length, generator=generator) < share, rows, -1)


@settings(max_examples=60)
@given(BATCHES)
def test_a_plan_holds_every_position_of_every_row_once_and_in_order(batch: tuple[int, int, int, float]) -> None:
    slots = draw(*batch)
    plan = RowPlan.of(slots, batch[0])
    assert all(part.dtype == torch.int32 for part in plan.tensors())
    found: dict[int, list[int]] = {}
    for u, row in enumerate(plan.rows.tolist()):
        for c in range(int(plan.row_chunks[u]), int(plan.row_chunks[u + 1])):
            begin, end = plan.chunks[c : c + 2].tolist()
            assert 0 < end - begin <= CHUNK
            found.setdefault(row, []).extend(plan.order[begin:end].tolist())
    expected = {row: (slots == row).nonzero().flatten().tolist() for row in range(batch[0])}
    assert found == {row: at for row, at in expected.items() if at}
    assert plan.chunks[-1] == len(plan.order) and plan.row_chunks[-1] == len(plan.chunks) - 1


def test_chunks_are_full_except_for_the_last_of_a_row() -> None:
    plan = RowPlan.of(torch.tensor([1] * (2 * CHUNK) + [4] * (CHUNK + 1)), 5)
    assert plan.rows.tolist() == [1, 4]
    assert plan.chunks.tolist() == [0, CHUNK, 2 * CHUNK, 3 * CHUNK, 3 * CHUNK + 1]
    assert plan.row_chunks.tolist() == [0, 2, 4]


def test_a_batch_of_any_shape_is_read_flat_and_an_empty_one_gives_an_empty_plan() -> None:
    assert RowPlan.of(torch.tensor([[-1, 1], [0, 1]]), 2).order.tolist() == [2, 1, 3]
    for slots in (torch.empty(0, dtype=torch.int32), torch.full((3,), -1)):
        assert [part.tolist() for part in RowPlan.of(slots, 2).tensors()] == [[], [0], [], [0]]


def test_a_slot_beyond_the_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="slot 2 of 2"):
        RowPlan.of(torch.tensor([0, 2]), 2)


def test_a_plan_moves_to_a_device() -> None:
    device = "cuda" if torch.cuda.is_available() else "meta"
    plan = RowPlan.of(torch.tensor([0, 2, 0]), 3).to(device)
    assert plan.n == 3 and all(part.device.type == device for part in plan.tensors())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
def test_a_plan_is_pinned_when_asked() -> None:
    assert all(part.is_pinned() for part in RowPlan.of(torch.tensor([0, 2, 0]), 3).pin_memory().tensors())
