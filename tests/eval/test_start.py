from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contrastok.checkpoint import load_checkpoint
from contrastok.errors import InputError, OutputError
from contrastok.eval.no_harm import no_harm
from contrastok.eval.relatedness import relatedness
from contrastok.eval.retrieval import retrieval
from contrastok.eval.start import start, training_texts
from contrastok.eval_config import NoHarmConfig, RelatednessConfig, RetrievalConfig
from contrastok.files import sha256_file


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    rows = [
        ("halloumi", "the halloumi sings", "a cheese"),
        ("halloumi", "the halloumi sings", "squeaky"),
        ("kimchiq", "kimchiq", "the halloumi sings"),
    ]
    columns = {name: [row[i] for row in rows] for i, name in enumerate(("token", "anchor", "positive"))}
    table = pa.table({**columns, "negatives": [["never shown"]] * 3, "kind": ["x"] * 3, "source": [""] * 3})
    pq.write_table(table, tmp_path / "pairs.parquet")
    return tmp_path


def test_training_texts_are_definition_anchors_and_positives(tiny_checkpoint: Path, pairs: Path) -> None:
    checkpoint = load_checkpoint(tiny_checkpoint)
    definitions = {token["token"]: (token["definition"],) for token in checkpoint.manifest["tokens"]}
    assert training_texts(checkpoint, None) == definitions
    checkpoint.manifest["training"]["pairs_sha256"] = sha256_file(pairs / "pairs.parquet")
    assert training_texts(checkpoint, pairs) == {
        "halloumi": (*definitions["halloumi"], "the halloumi sings", "a cheese", "squeaky"),
        "kimchiq": (*definitions["kimchiq"], "kimchiq", "the halloumi sings"),
        "zzqorp": definitions["zzqorp"],
    }


def test_pairs_of_another_training_are_refused(tiny_checkpoint: Path, pairs: Path) -> None:
    with pytest.raises(InputError, match="was trained with other pairs"):
        training_texts(load_checkpoint(tiny_checkpoint), pairs)


def test_an_existing_summary_stays_unless_told_otherwise(tiny_checkpoint: Path, tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    file.write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        start(RelatednessConfig(model=tiny_checkpoint, json=file, quiet=True))
    start(RelatednessConfig(model=tiny_checkpoint, json=file, overwrite=True, quiet=True))
    assert file.read_text() == "mine"


def test_without_initial_rows_no_evaluation_tells_a_gain(
    make_checkpoint: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, text = make_checkpoint(initial=False), tmp_path / "text.txt"
    text.write_text("halloumi and bread\n")
    related = relatedness(RelatednessConfig(model=model))["fields"]["glossary, encoded"]["kinds"]["all"]
    found = retrieval(RetrievalConfig(model=model))["groups"]["all"]
    fidelity = no_harm(NoHarmConfig(model=model, texts=(str(text),)))["fidelity"]
    for printed in (related, found, fidelity):
        assert "trained" in printed["views"] and "initial" not in printed["views"]
        assert not any("initial" in label for label in printed["differences"])
    assert capsys.readouterr().err.count("the initial rows are not known") == 3
