"""One command for every figure in the README and the docs. Each prints ratios against peers of the same run."""

from pathlib import Path

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
"""Public data beside the checkout."""
