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

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from contrastok.kernels import (
    bank_info_nce,
    bank_info_nce_triton,
    gather_triton,
    info_nce_triton,
    row_adamw_triton,
    segment_triton,
)

TARGET = GPUTarget("cuda", 90, 32)
CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"

Case = tuple[Any, dict[str, str], dict[str, Any], dict[str, int]]
"""A kernel, the types of its arguments, its constants, and the options of the launch."""


def gather(table: str, d: int, scaled: bool = False) -> Case:
    kernel = gather_triton.gather_kernel
    args = {"ids": "*i64", "slots": "*i32", "frozen": table, "rows": "*fp32", "out": table, "N": "i32", "stride": "i32"}
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


def row_adamw(grad: str, d: int, ordered: bool) -> Case:
    state = {"rows": "*fp32", "exp_avg": "*fp32", "exp_avg_sq": "*fp32", "steps": "*i32"}
    args = {"src": grad, "order": "*i32", "offsets": "*i32", "place": "*i32", **state}
    args |= dict.fromkeys(("lr", "fresh1", "fresh2", "log1", "log2", "eps", "keep", "scale"), "fp32")
    constants = {"D": d, "ORDERED": ordered, "BLOCK": min(triton.next_power_of_2(d), 512), "TILE": segment_triton.TILE}
    return row_adamw_triton.row_adamw_kernel, args, constants, {"num_warps": 4}


def info_nce(kernel: Any, dtype: torch.dtype, d: int, masked: bool) -> Case:
    tensor = {torch.float32: "*fp32", torch.bfloat16: "*bf16"}[dtype]
    pointers = {"queries": tensor, "keys": tensor, "targets": "*i32", "out": tensor, "lse": "*fp32", "grad": "*fp32"}
    optional = {"mask": "*u8", "row_groups": "*i32", "key_groups": "*i32"} if masked else {}
    args = {**pointers, **optional, "loss": "*fp32", "hits": "*i8", "B": "i32", "K": "i32", "scale": "fp32"}
    axes = ("KEYS", "ROWS") if kernel is info_nce_triton.key_grad_kernel else ("ROWS", "KEYS")
    options = info_nce_triton.launch_options(dtype, d, *axes)
    launch = {"num_warps": options.pop("num_warps")}
    return kernel, args, {**options, "D": d, "GROUPED": masked, "MASKED": masked, "UP": False}, launch


def bank(d: int, masked: bool) -> Case:
    hidden = {"mask": "*i32"} if masked else {"row_groups": "*i32", "bank_groups": "*i32"}
    tensors = {"queries": "*bf16", "own": "*fp32", "bank": "*bf16", **hidden}
    results = {"tops": "*fp32", "totals": "*fp32", "pulls": "*fp32"}
    options = bank_info_nce_triton.launch_options(d, masked)
    launch = {name: options.pop(name) for name in ("num_warps", "num_stages")}
    args = {**tensors, **results, "B": "i32", "K": "i32", "length": "i32", "scale": "fp32"}
    return (
        bank_info_nce_triton.slice_kernel,
        args,
        {**options, "GROUPED": not masked, "MASKED": masked, "UP": False},
        launch,
    )


CASES: dict[str, Case] = {
    "gather bf16 384": gather("*bf16", 384),
    "gather fp32 384": gather("*fp32", 384),
    "gather scaled bf16 640": gather("*bf16", 640, scaled=True),
    "segment_sum bf16 384": segment("*bf16", 384, True),
    "segment_sum of chunks 384": segment("*fp32", 384, False),
    "row_adamw bf16 384": row_adamw("*bf16", 384, True),
    "row_adamw of chunks 4096": row_adamw("*fp32", 4096, False),
    **{
        f"info_nce {part} {str(dtype)[6:]} {d}{' masked' * masked}": info_nce(kernel, dtype, d, masked)
        for part, kernel in (
            ("loss", info_nce_triton.loss_kernel),
            ("dq", info_nce_triton.query_grad_kernel),
            ("dk", info_nce_triton.key_grad_kernel),
        )
        for dtype, d, masked in ((torch.bfloat16, 384, True), (torch.float32, 384, True))
    },
    **{
        f"bank_info_nce {d}{' masked' * masked}": bank(d, masked)
        for d in (384, bank_info_nce.TILED_WIDTH)
        for masked in (False, True)
    },
}


def measure(case: Case) -> dict[str, int]:
    kernel, args, constants, options = case
    aligned = [i for i, name in enumerate(kernel.arg_names) if args.get(name, "")[:1] == "*" or name == "stride"]
    signature = {name: args.get(name, "constexpr") for name in kernel.arg_names}
    fixed = {name: constants.get(name) for name in kernel.arg_names if name not in args}
    source = ASTSource(kernel, signature, fixed, {(i,): [["tt.divisibility", 16]] for i in aligned})
    compiled = triton.compile(source, target=TARGET, options=options)
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernel.cubin"
        cubin.write_bytes(compiled.asm["cubin"])
        usage, code = (
            subprocess.run([CUOBJDUMP, flag, cubin], capture_output=True, text=True, check=True).stdout
            for flag in ("-res-usage", "-sass")
        )
    found = dict(re.findall(r"(REG|STACK|LOCAL):(\d+)", usage))
    narrow = len(re.findall(r"arith\.muli .*: tensor<\w*xi32", compiled.asm["ttir"]))
    counted = {name: len(re.findall(pattern, code)) for name, pattern in OPCODES.items()}
    return {
        **{name.lower(): int(n) for name, n in found.items()},
        "shared": compiled.metadata.shared,
        "products_32": narrow,
        **counted,
    }


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
