"""One command for every figure in the README and the docs. Each prints ratios against peers of the same run."""
