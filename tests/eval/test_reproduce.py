from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path

import pytest

from contrastok.checkpoint import read_manifest
from contrastok.cli import parse
from contrastok.config import Common, GenPairsConfig, TrainConfig, as_json
from contrastok.data_gen.pipeline import gen_pairs
from contrastok.eval.data import ReportData
from contrastok.eval.html import render
from contrastok.eval.reproduce import command, commands_again
from contrastok.files import sha256_file
from contrastok.trainer import train

TRAIN = TrainConfig(
    terms=(Path("a b.jsonl"), Path("c.csv")), pairs=Path("my pairs"), seed=3, learning_rate=1e-4, strict=True,
    compile=True, objective="simcse", epochs=1,
)  # fmt: skip
GEN_PAIRS = GenPairsConfig(
    terms=(Path("a b.jsonl"),), corpus=("c d/", "e.txt"), kinds=("context-definition",), seed=5, hold_out=0.5, wordnet="none",
)  # fmt: skip


def parsed(line: str) -> Common:
    _, *arguments = shlex.split(line)
    return parse(arguments)


@pytest.mark.parametrize(("name", "config"), [("train", TRAIN), ("gen-pairs", GEN_PAIRS)])
def test_the_command_gives_the_same_options_back(name: str, config: Common) -> None:
    line = command(name, as_json(config), "out/")
    assert "--batch-size" not in line and "--max-words" not in line
    assert as_json(parsed(line)) == as_json(config)


def test_pairs_are_made_before_they_are_trained_on_and_where_training_looks_for_them() -> None:
    for pairs in ("my pairs", "my pairs/pairs.parquet"):
        training = {"options": as_json(TRAIN) | {"pairs": pairs}, "gen_pairs": as_json(GEN_PAIRS)}
        first, second = commands_again(training).splitlines()
        assert first.startswith("contrastok gen-pairs --") and second.startswith("contrastok train --")
        made = parsed(first)
        assert isinstance(made, GenPairsConfig) and made.out == Path("my pairs") and made.seed == 5


def test_without_options_there_is_no_command_and_unknown_ones_are_left_out() -> None:
    assert commands_again({}) == command("train", {}, "model/") == ""
    line = "contrastok train --seed 1 --out model/"
    assert command("train", {"seed": 1, "of_another_version": 2, "out": "x"}, "model/") == line
    assert commands_again({"options": {"seed": 1}}) == line  # an older manifest, or pairs of another program


def test_the_page_shows_both_commands(data: ReportData) -> None:
    told = {**data.training, "options": {"seed": 1}, "gen_pairs": {"seed": 2}}
    page = render(dataclasses.replace(data, training=told))
    assert "<code>contrastok gen-pairs --seed 2 --out pairs\ncontrastok train --seed 1 --out model/</code>" in page


def test_a_run_is_made_again_from_its_manifest(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "terms.jsonl").write_text(json.dumps({"token": "zorblaxin", "definition": "a sour cheese"}))
    (tmp_path / "text.txt").write_text("".join(f"We ate the zorblaxin on day {day} of May.\n" for day in range(9)))
    terms = (tmp_path / "terms.jsonl",)
    gen_pairs(
        GenPairsConfig(
            terms=terms,
            corpus=(str(tmp_path / "text.txt"),),
            model=str(tiny_model),
            out=tmp_path / "pairs",
            seed=4,
            max_sentences=5,
            quiet=True,
        )
    )
    train(
        TrainConfig(
            terms=terms,
            pairs=tmp_path / "pairs",
            model=str(tiny_model),
            out=tmp_path / "model",
            init="subtoken_mean",
            epochs=0,
            device="cpu",
            quiet=True,
        )
    )
    training = read_manifest(tmp_path / "model")["training"]
    assert training["gen_pairs"]["seed"] == 4
    made = parsed(commands_again(training).splitlines()[0])
    assert isinstance(made, GenPairsConfig) and made.out == tmp_path / "pairs"
    gen_pairs(dataclasses.replace(made, out=tmp_path / "again", quiet=True))
    assert sha256_file(tmp_path / "again" / "pairs.parquet") == training["pairs_sha256"]
