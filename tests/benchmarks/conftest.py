"""The benchmarks are no installed package, and a library of ours ships a folder of the same name."""

from __future__ import annotations

import sys

from tests.conftest import ROOT

sys.path.insert(0, str(ROOT))
