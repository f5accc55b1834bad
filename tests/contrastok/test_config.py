from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from contrastok.cli import main, parse
from contrastok.config import (
    COMMANDS,
    GROUPS,
    ApplyConfig,
    GenPairsConfig,
    TrainConfig,
    as_json,
)
from contrastok.errors import ConfigError, did_you_mean


def test_every_problem_is_listed_in_one_message() -> None:
    with pytest.raises(ConfigError) as error:
        GenPairsConfig(max_sentences=0, hold_out=2.0, negatives=-1).validate()
    text = str(error.value)
    for part in (
        "--terms is missing",
        "--corpus is missing",
        "--out is missing",
        "--max-sentences",
        "--hold-out",
        "--negatives",
    ):
        assert part in text
    assert "contrastok gen-pairs --help" in text


def test_train_problems() -> None:
    with pytest.raises(ConfigError) as error:
        TrainConfig(temperature=0, learning_rate=-1.0, batch_size=0, epochs=-1, init="charlen", seed=-1).validate()
    for part in ("--pairs", "--temperature", "--learning-rate", "--batch-size", "--epochs", "charlen_mean", "--seed"):
        assert part in str(error.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none(value: float) -> None:
    with pytest.raises(ConfigError) as error:
        TrainConfig(temperature=value, learning_rate=value, contrast_weight=value, distill_weight=value).validate()
    for part in ("--temperature", "--learning-rate", "--contrast-weight", "--distill-weight"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["doctor", "--epochs", "1"], "--epochs is an option of train, train-hypernet, eval recovery, compare, not of doctor; "
         "set it under [train] in the file of --config"),
        (["compare", "--hold-out=0.5"], "option of gen-pairs, not of compare; set it under [gen-pairs] in"),
        (["report", "m", "--plot", "a.png"], "--plot is an option of suggest, not of report\n"),
    ],
)  # fmt: skip
def test_an_option_of_another_command_is_told(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert told in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([arguments[0], "--nosuch", "--quiet", "--json", "-"])
    assert "is an option of" not in capsys.readouterr().err


def test_help_speaks_of_no_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert "{None}" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "close"),
    [(["eval", "relatednes"], "relatedness"), (["evl"], "eval"), (["eval", "noharm"], "no-harm")],
)
def test_the_closest_command_is_named(arguments: list[str], close: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert f"did you mean {close!r}" in capsys.readouterr().err


def test_an_option_before_the_command_is_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(["eval", "--limit", "3"])
    assert stop.value.code == 2 and "relatedness" in capsys.readouterr().err


def test_config_as_json_leaves_out_how_it_is_shown() -> None:
    facts = as_json(TrainConfig(terms=(Path("a"),), quiet=True, out=Path("x")))
    assert facts["terms"] == ["a"] and not {"quiet", "out", "json", "dry_run"} & facts.keys()


def test_unknown_flags_exit_with_2_and_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(["train", "--temprature", "1"])
    assert stop.value.code == 2 and "--temperature" in capsys.readouterr().err


def test_missing_options_exit_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["apply"]) == 2
    assert "--rows is missing" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["", *GROUPS, *COMMANDS])
def test_help_has_an_example_and_loads_nothing_heavy(command: str) -> None:
    code = (
        "import sys; from contrastok.cli import main\n"
        f"try: main({[*command.split(), '--help']!r})\n"
        "except SystemExit as stop: assert not stop.code\n"
        "heavy = {'torch', 'transformers', 'sentence_transformers', 'datasets', 'faiss', 'numpy', 'altair'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Example: contrastok" in done.stdout


def test_help_answers_at_once() -> None:
    """What takes seconds to import stays out; a bound in seconds would ask how busy the machine is."""
    told = (
        "import sys, contextlib\n"
        "from contrastok.cli import main\n"
        "for arguments in (['--help'], ['train', '--help'], ['gen-pairs', '--help'], ['report', '--help']):\n"
        "    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(sys.stderr):\n"
        "        main(arguments)\n"
        "heavy = 'torch transformers sentence_transformers tokenizers datasets pyarrow numpy pandas scipy sklearn faiss'\n"
        "print(*sorted(set(heavy.split()) & set(sys.modules)), 'contrastok.config' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, check=True, text=True)
    assert done.stdout.split() == ["True"] and "--learning-rate" in done.stderr


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("contrastok ")


def test_closest_name() -> None:
    assert "did you mean 'charlen_mean'" in did_you_mean("charlen_men", ["charlen_mean", "subtoken_mean"])
    assert did_you_mean("xyz", ["b", "a"]) == "valid: a, b"


def test_apply_takes_its_file_as_an_argument() -> None:
    config = parse(["apply", "rows.safetensors", "--out", "x"])
    assert isinstance(config, ApplyConfig) and config.rows == Path("rows.safetensors")


@pytest.mark.parametrize(("command", "kept"), [(["train"], True), (["eval", "recovery"], False)])
def test_an_interruption_promises_no_more_than_is_kept(
    command: list[str], kept: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("contrastok.cli._runner", lambda name: interrupt)
    assert main(command) == 130
    told = capsys.readouterr().err
    assert "interrupted" in told and ("goes on" in told) is kept
