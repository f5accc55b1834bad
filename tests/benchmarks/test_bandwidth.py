from __future__ import annotations

import torch

from benchmarks.bandwidth import NEW, jobs, share
from benchmarks.embedding_op import Shape


def test_what_is_timed_moves_the_bytes_that_are_said() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        for name, (call, moved) in jobs(Shape(2000, 16, dtype), 256).items():
            made = call()
            read = 256 * 16 * dtype.itemsize  # the rows of the positions, or their gradients
            assert moved == read + made.nbytes, name
            assert made.shape == ((256, 16) if name == "gather_rows" else (NEW, 16))


def test_a_call_that_does_nothing_is_faster_than_a_copy_and_one_that_copies_much_is_slower() -> None:
    big = torch.zeros(2**24)
    assert share(lambda: None, 2**24, 3) > 1 > share(lambda: big.clone(), 2**16, 3)
