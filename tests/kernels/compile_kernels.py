"""Compile every kernel for sm_90 without a GPU and print what the machine code uses, as JSON.

Run by test_compile.py in a process of its own: Triton's interpreter, if it is on, has to be off here.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from contrastok.kernels import gather_triton, segment_triton

TARGET = GPUTarget("cuda", 90, 32)
CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"

Case = tuple[Any, dict[str, str], dict[str, Any], dict[str, int]]
"""A kernel, the types of its arguments, its constants, and the options of the launch."""


def gather(table: str, d: int, scaled: bool = False) -> Case:
    kernel = gather_triton.gather_kernel
    args = {"ids": "*i64", "slots": "*i32", "frozen": table, "rows": "*fp32", "out": table, "N": "i32", "stride": "i64"}
    block = min(triton.next_power_of_2(d), 1024)
    tokens = max(1, gather_triton.WORK // block)
    return (
        kernel,
        {**args, "scale": "fp32"},
        {"SCALED": scaled, "D": d, "BLOCK": block, "TOKENS": tokens},
        {"num_warps": 4},
    )


def segment(grad: str, d: int, ordered: bool) -> Case:
    args = {"src": grad, "order": "*i32", "offsets": "*i32", "place": "*i32", "out": "*fp32"}
    constants = {"D": d, "ORDERED": ordered, "PLACED": True, "BLOCK": min(triton.next_power_of_2(d), 512)}
    return segment_triton.segment_sum_kernel, args, {**constants, "TILE": segment_triton.TILE}, {"num_warps": 4}


CASES: dict[str, Case] = {
    "gather bf16 384": gather("*bf16", 384),
    "gather fp32 384": gather("*fp32", 384),
    "gather bf16 4096": gather("*bf16", 4096),
    "gather scaled bf16 640": gather("*bf16", 640, scaled=True),
    "segment_sum bf16 384": segment("*bf16", 384, True),
    "segment_sum fp32 4096": segment("*fp32", 4096, True),
    "segment_sum of chunks 384": segment("*fp32", 384, False),
}


def measure(case: Case) -> dict[str, int]:
    kernel, args, constants, options = case
    aligned = [i for i, name in enumerate(kernel.arg_names) if args.get(name, "")[:1] == "*" or name == "stride"]
    signature = {name: args.get(name, "constexpr") for name in kernel.arg_names}
    source = ASTSource(kernel, signature, constants, {(i,): [["tt.divisibility", 16]] for i in aligned})
    compiled = triton.compile(source, target=TARGET, options=options)
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernel.cubin"
        cubin.write_bytes(compiled.asm["cubin"])
        usage, code = (
            subprocess.run([CUOBJDUMP, flag, cubin], capture_output=True, text=True, check=True).stdout
            for flag in ("-res-usage", "-sass")
        )
    found = dict(re.findall(r"(REG|STACK|LOCAL):(\d+)", usage))
    counted = {name: len(re.findall(pattern, code)) for name, pattern in OPCODES.items()}
    return {**{name.lower(): int(n) for name, n in found.items()}, "shared": compiled.metadata.shared, **counted}


OPCODES = {
    "spills": r"\b(?:STL|LDL)\b",
    "wide_loads": r"\bLDG\.E\.(?:\w+\.)*128\b",
    "narrow_loads": r"\bLDG\.E\.(?:U8|U16|S8)\b",
    "wide_stores": r"\bSTG\.E\.(?:\w+\.)*128\b",
    "tensor_core": r"\bHGMMA\b",
    "async_copies": r"\bLDGSTS\b",
}

if __name__ == "__main__":
    wanted = sys.argv[1:] or list(CASES)
    print(json.dumps({name: measure(CASES[name]) for name in wanted}))  # noqa: T201
