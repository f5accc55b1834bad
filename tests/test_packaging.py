from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_every_package_is_listed() -> None:
    """setuptools cannot find packages below the mapped folders by itself, so the list is checked against the tree."""
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {"contrastok"}
    for top in ("contrastok", "kernels", "data_gen", "eval"):
        prefix = "" if top == "contrastok" else "contrastok."
        for file in (ROOT / top).rglob("*.py"):
            found.add(prefix + ".".join(file.relative_to(ROOT).parent.parts))
    assert listed == found


def test_templates_are_package_data() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    for folder, package in (("contrastok", "contrastok"), ("eval", "contrastok.eval")):
        for file in (ROOT / folder).glob("*.j2"):
            assert any(file.match(pattern) for pattern in data[package]), file


def test_a_clone_runs_without_installation(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import contrastok.kernels.gather, contrastok.data_gen.terms, contrastok.eval; import transformers"],
        cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_public_names_load() -> None:
    import contrastok

    for name in contrastok.__all__:
        assert getattr(contrastok, name) is not None


def test_the_top_level_is_the_fixed_one() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.splitlines()
    if not tracked:
        pytest.skip("not a git checkout")
    allowed = {
        "pyproject.toml", "README.md", "contrastok", "kernels", "tests", "data_gen", "eval", "benchmarks", "docs", "examples",
        ".ci", "Makefile", "LICENSE", ".gitignore", "CHANGELOG.md", "CONTRIBUTING.md",
    }  # fmt: skip
    assert {path.split("/")[0] for path in tracked} <= allowed
