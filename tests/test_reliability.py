"""docs/reliability.md names the tests that keep its promises; they exist."""

from __future__ import annotations

import ast
import re

from tests.conftest import ROOT

NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_every_promise_has_a_test() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    tables = [
        block.splitlines() for block in text.split("\n\n") if block.startswith("| promise")
    ]  # not those of figures
    rows = [row for _, _, *rows in tables for row in rows]
    assert len(rows) > 20 and [row for row in rows if not NAMED.search(row)] == []
    for file, name in NAMED.findall(text):
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{file}::{name}"
