"""Where the kernels are tested: plain torch and Triton, on the CPU (Triton interpreted) and on CUDA if there is one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
import torch

from contrastok.kernels.runtime import BACKEND, interpreting

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic algorithms ask for it

Close = Callable[[torch.Tensor, torch.Tensor, float], None]


@pytest.fixture(params=["cpu-torch", *(["cuda-torch", "cuda-triton"] if torch.cuda.is_available() else ["cpu-triton"])])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """A device, with the backend chosen for the test."""
    kind, backend = request.param.split("-")
    if backend == "triton":
        pytest.importorskip("triton")
    if kind == "cpu" and backend == "triton" and not interpreting():
        pytest.skip("TRITON_INTERPRET is not 1")
    monkeypatch.setenv(BACKEND, backend)
    return torch.device(kind)


@pytest.fixture(autouse=True)
def uninitialised_memory_is_nan() -> Iterator[None]:
    """What a kernel does not write is NaN."""
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def close() -> Close:
    """Compare with float64 by relative norm."""

    def compare(ours: torch.Tensor, truth: torch.Tensor, tolerance: float) -> None:
        assert ours.shape == truth.shape
        away = float((ours.double() - truth.double()).norm())
        assert away <= tolerance * float(truth.double().norm()), f"{away} of {float(truth.double().norm())}"

    return compare


@pytest.fixture
def random() -> Callable[..., torch.Tensor]:
    """Normal numbers, the same in every run; each call draws anew."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return draw
