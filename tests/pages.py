"""The pages that readers see, and the blocks of code in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

FENCE = re.compile(r"^```(?P<language>\w*)(?P<run> run)?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """Code between fences.

    Attributes:
        language: `bash`, `python`, `toml` ...; "" where the fence says nothing.
        run: whether the page promises that it runs as it stands (```bash run).
        text: what stands between the fences.
        line: where in the page it begins, from 1 on.
    """

    language: str
    run: bool
    text: str
    line: int

    def commands(self) -> Iterator[list[str]]:
        """The lines of a shell's block as words, without comments; a backslash continues a line."""
        for line in self.text.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield words


def pages() -> list[Path]:
    """Every page of the project."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/*.md")]
    return sorted(found)


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in their order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(found["language"], bool(found["run"]), found["text"], text[: found.start()].count("\n") + 2)
        for found in FENCE.finditer(text)
    ]


def name_of(page: Path) -> str:
    """A page as a test's id."""
    return page.relative_to(ROOT).as_posix()
