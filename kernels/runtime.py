"""Which implementation of a kernel runs, and in which dtype it adds up: the one place that decides."""

from __future__ import annotations

import os
from importlib.util import find_spec

import torch

BACKEND = "CONTRASTOK_BACKEND"
"""Environment variable: `torch` or `triton` overrides the choice."""


def interpreting() -> bool:
    """Whether Triton's kernels run in its interpreter, on the CPU and without tensor cores."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def use_triton(tensor: torch.Tensor) -> bool:
    """Whether an operation on a tensor runs as a Triton kernel: on CUDA or in the interpreter, where there is Triton.

    The kernels compute in float32, so float64 always goes to plain torch.

    Raises:
        ValueError: the environment variable `CONTRASTOK_BACKEND` is neither `torch` nor `triton`.
    """
    wanted = os.environ.get(BACKEND, "")
    if wanted not in ("", "torch", "triton"):
        raise ValueError(f"{BACKEND}={wanted}: it can be torch or triton")
    if tensor.dtype == torch.float64 or wanted == "torch":
        return False
    return wanted == "triton" or ((tensor.is_cuda or interpreting()) and find_spec("triton") is not None)


def accumulator(tensor: torch.Tensor) -> torch.dtype:
    """The dtype of sums over a tensor: float64 for float64, float32 for all others."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32
