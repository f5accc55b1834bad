from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from contrastok.kernels.runtime import BACKEND, use_triton

ROOT = Path(__file__).resolve().parents[2]


def test_the_environment_overrides_and_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BACKEND, "triton")
    assert use_triton(torch.ones(1)) and not use_triton(torch.ones(1, dtype=torch.float64))
    monkeypatch.setenv(BACKEND, "torch")
    assert not use_triton(torch.ones(1))
    monkeypatch.setenv(BACKEND, "cuda")
    with pytest.raises(ValueError, match="cuda"):
        use_triton(torch.ones(1))


def test_without_a_choice_the_cpu_runs_triton_in_the_interpreter_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    monkeypatch.delenv(BACKEND, raising=False)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert use_triton(torch.ones(1))
    monkeypatch.delenv("TRITON_INTERPRET")
    assert not use_triton(torch.ones(1))


def test_operators_import_and_run_without_triton() -> None:
    modules = [file.stem for file in (ROOT / "kernels").glob("*.py") if not file.stem.endswith("_triton")]
    assert "gather" in modules
    code = "\n".join(
        [
            "import sys; sys.modules['triton'] = None",
            *(f"import contrastok.kernels.{name}" for name in modules),
            "import torch; from contrastok.kernels.gather import gather_rows",
            "slots = torch.tensor([-1, 0], dtype=torch.int32)",
            "out = gather_rows(torch.tensor([1, 9]), slots, torch.eye(2), torch.ones(1, 2, requires_grad=True))",
            "out.sum().backward(); assert out.tolist() == [[0, 1], [1, 1]]",
        ]
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_our_kernels_never_shadow_the_package_of_that_name() -> None:
    """transformers imports the Hugging Face package `kernels`; a regular package here would break AutoModel."""
    assert not (ROOT / "kernels" / "__init__.py").exists()
    spec = importlib.util.find_spec("kernels")
    assert spec is None or spec.origin is None or not Path(spec.origin).is_relative_to(ROOT)
