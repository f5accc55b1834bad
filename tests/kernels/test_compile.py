"""What the kernels become on an H100 or H200, without one: compiled for sm_90, and the machine code read."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SHARED_LIMIT = 232_448
"""Bytes of shared memory that a block may have on sm_90."""

Measured = dict[str, dict[str, int]]


@pytest.fixture(scope="module")
def measured() -> Measured:
    spec = importlib.util.find_spec("triton")
    if spec is None or spec.origin is None:
        pytest.skip("triton is missing")
    if not (Path(spec.origin).parent / "backends" / "nvidia" / "bin" / "cuobjdump").exists():
        pytest.skip("this triton comes without cuobjdump")
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    script = Path(__file__).with_name("compile_kernels.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    found: Measured = json.loads(done.stdout)
    return found


def test_registers_hold_everything_and_shared_memory_suffices(measured: Measured) -> None:
    for name, use in measured.items():
        assert use["stack"] == use["local"] == use["spills"] == 0, f"{name}: {use}"
        assert use["shared"] <= SHARED_LIMIT, f"{name}: {use}"


def test_rows_move_in_sixteen_bytes(measured: Measured) -> None:
    for name, use in measured.items():
        if "info_nce" not in name:
            assert use["wide_loads"] and use["wide_stores"] and not use["narrow_loads"], f"{name}: {use}"


def test_products_of_halves_run_on_tensor_cores_and_loads_run_ahead(measured: Measured) -> None:
    for name, use in measured.items():
        if "info_nce" in name:
            assert use["tensor_core"] and use["async_copies"], f"{name}: {use}"


def test_no_address_is_a_product_of_32_bits(measured: Measured) -> None:
    """Row x width passes 2^31 in a table of 524,288 x 4096."""
    for name, use in measured.items():
        assert not use["products_32"], f"{name}: {use}"
