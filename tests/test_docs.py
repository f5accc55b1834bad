"""What the pages say is there: commands, options, links, names. `tests/e2e/test_pages.py` runs what they mark as runnable."""

from __future__ import annotations

import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import contrastok
from contrastok.cli import RUNNERS, parse
from contrastok.config import COMMANDS
from tests.conftest import ROOT
from tests.pages import blocks, name_of, pages

DOCS = ROOT / "docs"
LINK = re.compile(r"\]\(([^)\s]+)\)")
NAME = re.compile(r"`(contrastok(?:\.\w+)+)`")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_commands_take_the_options_that_a_page_gives_them(page: Path) -> None:
    for block in blocks(page):
        for words in block.commands() if block.language == "bash" else ():
            if words[0] == "contrastok":
                try:
                    parse(words[1:]).validate()
                except (SystemExit, contrastok.ContrastokError) as error:
                    raise AssertionError(f"{page.name}:{block.line}: {' '.join(words)}\n{error}") from error
            elif words[:2] == ["python", "-m"] and words[2].startswith("benchmarks."):
                assert (ROOT / f"{words[2].replace('.', '/')}.py").is_file(), f"{page.name}:{block.line}: {words[2]}"


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_python_on_a_page_is_python(page: Path) -> None:
    for block in blocks(page):
        if block.language == "python":
            compile(block.text, f"{page.name}:{block.line}", "exec")


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(FENCED.sub("", page.read_text(encoding="utf-8"))):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


def test_the_index_leads_to_every_page() -> None:
    index = set(LINK.findall((DOCS / "README.md").read_text(encoding="utf-8")))
    assert {page.name for page in DOCS.glob("*.md")} - {"README.md"} <= index
    assert {f"../examples/{page.parent.name}/README.md" for page in ROOT.glob("examples/*/README.md")} <= index
    assert {folder.name for folder in (ROOT / "examples").iterdir() if folder.is_dir()} == {
        page.parent.name for page in ROOT.glob("examples/*/README.md")
    }


def told_names() -> set[str]:
    return set(NAME.findall((DOCS / "python-api.md").read_text(encoding="utf-8")))


def test_every_name_on_the_page_of_the_api_is_there() -> None:
    assert [name for name in told_names() if pkgutil.resolve_name(name) is None] == []


def test_every_public_name_is_on_the_page_of_the_api() -> None:
    public = {f"contrastok.{name}" for name in contrastok.__all__}
    assert public - told_names() == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_on_the_page_of_the_api(command: str) -> None:
    """With its function and its configuration, by a public name where there is one."""
    wanted = [pkgutil.resolve_name(":".join(RUNNERS[command])), COMMANDS[command]]
    text = (DOCS / "python-api.md").read_text(encoding="utf-8")
    (row,) = (line for line in text.splitlines() if line.startswith(f"| `{command}` |"))
    told = [pkgutil.resolve_name(name) for name in NAME.findall(row)]
    assert told == wanted
    (parameter,) = inspect.signature(wanted[0]).parameters.values()
    assert parameter.annotation == COMMANDS[command].__name__


def test_figures_and_pages_name_no_place_on_somebodys_machine() -> None:
    own = re.compile(r"(?<![\w.~/$-])/(?:tmp|work|root|home|Users)/")
    files = [*(ROOT / "benchmarks" / "results").iterdir(), *pages()]
    assert len(files) > 20 and [file.name for file in files if own.search(file.read_text(encoding="utf-8"))] == []
