"""What the pages mark as runnable runs: ```bash run and ```python run, in the order of the page, in one folder a page.

A reader trains for some minutes; here `train` and `gen-pairs` are asked for less where a page leaves the choice to them.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.e2e.conftest import Outcome, Run
from tests.pages import blocks, name_of, pages

LESS = {"gen-pairs": {"--known-sentences": "0"}, "train": {"--epochs": "1", "--init": "charlen_mean"}}
"""Options that save time and change nothing of what a page says."""

Shell = dict[str, Callable[[Sequence[str]], object]]
RUNNABLE = [page for page in pages() if any(block.run for block in blocks(page))]


def run_script(words: Sequence[str]) -> None:
    """`python FILE ...` in this process, which has imported the libraries already."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", list(words))
        runpy.run_path(words[0], run_name="__main__")


@pytest.fixture
def shell(here: Run) -> Shell:
    """What a runnable block may call, by its first word."""

    def command(words: Sequence[str]) -> None:
        extra = (pair for pair in LESS.get(words[0], {}).items() if pair[0] not in words)
        here(*words, *(word for pair in extra for word in pair))

    return {"contrastok": command, "python": run_script}


@pytest.mark.parametrize("page", RUNNABLE, ids=name_of)
def test_a_page_runs(
    page: Path,
    shell: Shell,
    kitchen: Outcome,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every page asks for the kitchen: what its report encoded of MiniLM's vocabulary is cached for the reports of all."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "demo").symlink_to(kitchen.folder)  # what `make demo` leaves
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks(page):
        if block.run and block.language == "python":
            exec(compile(block.text, f"{page.name}:{block.line}", "exec"), names)
        elif block.run:
            for words in block.commands():
                shell[words[0]](words[1:])


def test_each_use_has_a_page_that_runs() -> None:
    uses = {"quickstart", "search", "classifier", "decoders", "chat-tokens", "python-api"}
    assert uses <= {page.stem for page in RUNNABLE}
