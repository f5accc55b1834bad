from __future__ import annotations

import dataclasses
import typing
from pathlib import Path

import pytest

from contrastok.cli import main
from contrastok.config import COMMANDS, GenPairsConfig, TrainConfig
from contrastok.console import nothing_written
from contrastok.errors import OutputError
from contrastok.options import OUTPUTS, SOURCES, Common

NO_PATHS = {
    *("text_field", "split", "query_field", "passage_field", "kinds", "views", "methods", "init", "init_norm"),
    *("objective", "trainable", "report_to", "engine", "ray_address", "llm", "llm_model"),
}
"""Options of text that never name a file."""


def holds(kind: type[Common], name: str, wanted: type) -> bool:
    """Whether an option is of a type, may be of it, or takes several of it."""
    hint = typing.get_type_hints(kind)[name]
    return wanted in (hint, *typing.get_args(hint))


def paths(kind: type[Common]) -> list[tuple[str, str]]:
    """Every pair of an output and an input of a command."""
    names = [field.name for field in dataclasses.fields(kind)]
    inputs = [name for name in names if name not in OUTPUTS and (name in SOURCES or holds(kind, name, Path))]
    return [(output, source) for output in OUTPUTS if output in names for source in inputs]


ALL = [(command, *pair) for command, kind in COMMANDS.items() for pair in paths(kind)]


@pytest.mark.parametrize("command", COMMANDS)
def test_an_option_of_text_is_a_source_or_no_path(command: str) -> None:
    kind = COMMANDS[command]
    names = {field.name for field in dataclasses.fields(kind) if holds(kind, field.name, str)}
    assert names <= NO_PATHS | set(SOURCES)


@pytest.mark.parametrize(("command", "output", "source"), ALL)
def test_no_output_replaces_what_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, output: str, source: str
) -> None:
    kind = COMMANDS[command]
    monkeypatch.setattr(kind, "problems", lambda self: [])
    file = tmp_path / "folder" / "deep" / "file"
    file.parent.mkdir(parents=True)
    file.write_text("precious")
    (tmp_path / "link").symlink_to(file)
    (file.parent / "link").symlink_to(tmp_path / "elsewhere")

    def check(read: Path, written: Path) -> None:
        given: object = read if holds(kind, source, Path) else str(read)
        given = (given,) if typing.get_origin(typing.get_type_hints(kind)[source]) is tuple else given
        kind(**{source: given, output: written, "overwrite": True}).validate()

    folder = tmp_path / "folder"
    for read, written in (
        (file, file),
        (file, tmp_path / "link"),
        (tmp_path / "link", file),
        (file, folder),
        (folder, file),
        (folder, folder / "deep"),
        (folder, file.parent / "link"),
        (folder, folder),
    ):
        with pytest.raises(OutputError, match="which this run reads") as told:
            check(read, written)
        assert told.value.where == written and f"--{output}" in told.value.hint
    check(folder, tmp_path / "other")
    check(folder, folder / "new.json")
    check(tmp_path / "missing", tmp_path / "missing")  # whoever reads it says so


def test_commands_refuse_before_they_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    terms, corpus = tmp_path / "terms.jsonl", tmp_path / "corpus"
    terms.write_text('{"token": "halloumi"}\n')
    corpus.mkdir()
    (corpus / "a.txt").write_text("Halloumi squeaks.\n")
    checkpoint = tmp_path / "model"
    checkpoint.mkdir()
    (checkpoint / "contrastok.json").write_text("{}")
    for arguments in (
        ["doctor", "--terms", terms, "--json", terms],
        ["gen-pairs", "--terms", terms, "--corpus", corpus, "--out", tmp_path / "out", "--json", corpus / "a.txt"],
        ["suggest", "--corpus", corpus, "--json", corpus / "a.txt"],
        ["report", checkpoint, "--out", tmp_path / "out.html", "--csv", checkpoint / "contrastok.json"],
        ["train", "--terms", terms, "--pairs", corpus, "--out", tmp_path / "out", "--json", corpus / "a.txt"],
    ):
        assert main([*map(str, arguments), "--overwrite", "--dry-run"]) == 2
        assert "which this run reads" in capsys.readouterr().err
    assert terms.read_text() == '{"token": "halloumi"}\n'
    assert (corpus / "a.txt").read_text() == "Halloumi squeaks.\n"
    assert (checkpoint / "contrastok.json").read_text() == "{}"


def test_names_that_are_no_path_are_no_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("minilm", "train", "text"):
        Path(name).mkdir()
    config = GenPairsConfig(terms=(Path("missing.txt"),), corpus=("a" * 5000, "some/dataset"))
    assert config.inputs == (Path("minilm"),)
    assert TrainConfig(init_vectors=Path("text")).inputs == (Path("minilm"), Path("text"))


def test_a_dry_run_says_what_it_wrote() -> None:
    assert nothing_written(None) == nothing_written(Path("-")) == "Nothing was written."
    assert nothing_written(Path("plan.json")) == "Nothing but the summary was written."
