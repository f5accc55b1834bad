from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from contrastok.cli import main
from contrastok.initializers import INITIALIZERS
from contrastok.methods import REGISTRIES


def test_json_holds_every_method_of_the_registry(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--quiet", "--json", "-"]) == 0
    told = capsys.readouterr()
    listed = {method["name"]: method for method in json.loads(told.out)["init"]}
    assert listed.keys() == INITIALIZERS.keys() and told.err == ""
    for name, method in INITIALIZERS.items():
        assert listed[name] == {
            "name": name, "summary": method.summary, "source": method.source, "needs": list(method.needs),
        }  # fmt: skip


def test_the_table_names_every_method_and_what_it_needs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    assert main(["methods"]) == 0
    lines = capsys.readouterr().err.splitlines()
    for name, method in INITIALIZERS.items():
        [line] = [line for line in lines if line.startswith(f"│ {name} ")]
        assert method.summary in line and method.source in line
        assert ("nothing" in line) == (not method.needs)


def test_a_file_that_exists_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "methods.json"
    file.write_text("mine")
    assert main(["methods", "--json", str(file)]) == 2
    assert "exists already" in capsys.readouterr().err and file.read_text() == "mine"
    assert main(["methods", "--quiet", "--overwrite", "--json", str(file)]) == 0
    assert json.loads(file.read_text()).keys() == REGISTRIES.keys()


def test_what_cannot_be_done_without_is_told_of_every_registry(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--quiet", "--json", "-"]) == 0
    listed = json.loads(capsys.readouterr().out)
    needs = {method["name"]: method["needs"] for entries in listed.values() for method in entries}
    assert needs["causal_lm"] == ["a causal language model with its head"] and needs["peft"] == ["the package peft"]
    assert needs["prefix_lm"] == ["an encoder-decoder with its head"] and needs["mlm"] and needs["simcse"]
    assert needs["anchored_pairs"] == needs["rows"] == []


def test_another_registry_needs_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    one = SimpleNamespace(name="nce", summary="A loss.", source="this test", needs=("a GPU",))
    monkeypatch.setitem(REGISTRIES, "objective", ("contrastok.losses", "LISTED"))
    monkeypatch.setattr("contrastok.losses.LISTED", {"nce": one}, raising=False)
    assert main(["methods", "--json", "-"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["objective"] == [vars(one) | {"needs": ["a GPU"]}]
    assert "train --objective" in told.err and "a GPU" in told.err


def test_bad_options_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--seed", "-1"]) == 2
    assert "--seed" in capsys.readouterr().err
