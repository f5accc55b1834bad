from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from contrastok.checkpoint import load_checkpoint
from contrastok.console import Console
from contrastok.errors import InputError, ModelError
from contrastok.eval.harm import encode_both, load_base, measure_harm
from contrastok.eval.no_harm import no_harm
from contrastok.eval.sts import RatedPairs, read_sts, sts_spearman
from contrastok.eval_config import NoHarmConfig
from contrastok.models import transformer

from .conftest import documented

TEXTS = ["cheese and bread", "halloumi with salt", "a glass of water", "salt, oil and zzqorp", "bread"]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps({"body": text}) + "\n" for text in TEXTS))
    return file


@pytest.fixture
def sts(tmp_path: Path) -> Path:
    file = tmp_path / "sts.csv"
    file.write_text('cheese,bread,1\n"salt, oil",water,2.5\nhalloumi,cheese,5\n')
    return file


@pytest.mark.parametrize("family", ["wordpiece", "byte-bpe", "unigram"])
def test_text_without_a_new_token_is_the_same(
    family: str, make_checkpoint: Callable[..., Path], texts: Path, sts: Path
) -> None:
    config = NoHarmConfig(model=make_checkpoint(family), texts=(str(texts),), text_field="body", sts=sts, quiet=True)
    summary = no_harm(config)
    assert summary["identical"] is True
    assert (summary["texts"], summary["without_new_token"], summary["with_new_token"]) == (5, 3, 2)
    assert summary["ids_changed"] == summary["embeddings_changed"] == 0 and not summary["changed_examples"]
    assert set(summary["fidelity"]["views"]) == documented("no-harm", "text")
    trained = summary["fidelity"]["views"]["trained"]
    assert trained["p5"] <= trained["mean"] <= 1 and trained["units"] == 2
    assert summary["sts"]["pairs"] == 3 and summary["sts"]["sentences_with_new_token"] == 1
    assert summary["sts"]["same_bits"] is False and summary["sts"]["changed"] == 0


def test_rated_pairs_without_a_new_token_keep_their_bits_and_their_figure(tiny_checkpoint: Path) -> None:
    checkpoint = load_checkpoint(tiny_checkpoint)
    rated = RatedPairs(("cheese", "bread", "oil"), ("salt", "water", "a pan"), (1.0, 2.0, 3.0))
    sts = measure_harm(checkpoint, load_base(checkpoint), TEXTS, rated, 0, Console(quiet=True))["sts"]
    assert sts["same_bits"] is True and sts["base"] == sts["result"]


def test_one_bit_of_a_weight_is_found(make_checkpoint: Callable[..., Path]) -> None:
    checkpoint = load_checkpoint(make_checkpoint())
    base = load_base(checkpoint)
    assert not encode_both(checkpoint, base, TEXTS).harmed().any()
    weight = transformer(checkpoint.model).encoder.layer[0].output.dense.weight
    with torch.no_grad():
        weight[0, 0] = torch.nextafter(weight[0, 0], torch.tensor(9.0)) + 1e-3
    both = encode_both(checkpoint, base, TEXTS)
    assert both.harmed().tolist() == [True, False, True, False, True]
    summary = measure_harm(checkpoint, base, TEXTS, None, 0, Console(quiet=True))
    assert summary["identical"] is False and summary["embeddings_changed"] == 3 and summary["ids_changed"] == 0
    assert summary["changed_examples"] == [TEXTS[0], TEXTS[2], TEXTS[4]]


def test_another_split_of_a_word_is_found(tiny_checkpoint: Path) -> None:
    checkpoint = load_checkpoint(tiny_checkpoint)
    base = load_base(checkpoint)
    base.tokenizer.add_tokens(["w"])  # an old entry, which now takes itself out of the middle of "water"
    both = encode_both(checkpoint, base, TEXTS[:3:2])
    assert both.same_ids.tolist() == [True, False] and both.harmed().tolist() == [False, True]


def test_fidelity_is_the_cosine_to_the_base_model(tiny_checkpoint: Path) -> None:
    checkpoint = load_checkpoint(tiny_checkpoint)
    base = load_base(checkpoint)
    both = encode_both(checkpoint, base, TEXTS)
    summary = measure_harm(checkpoint, base, TEXTS, None, 0, Console(quiet=True))
    cosines = np.sum(both.base * both.ours, axis=1)[both.holds]
    assert summary["fidelity"]["views"]["trained"]["mean"] == pytest.approx(cosines.mean(), abs=1e-5)
    assert summary["fidelity"]["views"]["trained"]["p5"] == pytest.approx(np.quantile(cosines, 0.05), abs=1e-5)


def test_only_text_with_a_new_token_proves_nothing(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("halloumi with salt\n")
    summary = no_harm(NoHarmConfig(model=tiny_checkpoint, texts=(str(tmp_path / "t.txt"),), quiet=True))
    assert summary["identical"] is None
    (tmp_path / "t.txt").write_text("\n\n")
    with pytest.raises(InputError, match="there is no text"):
        no_harm(NoHarmConfig(model=tiny_checkpoint, texts=(str(tmp_path / "t.txt"),), quiet=True))


def test_a_lost_base_model_is_asked_for_and_another_is_refused(
    tiny_checkpoint: Path, make_model: Callable[..., Path], tmp_path: Path
) -> None:
    checkpoint = load_checkpoint(tiny_checkpoint)
    folder = checkpoint.manifest["base_model"]["name"]
    shutil.copytree(folder, tmp_path / "elsewhere")
    checkpoint.manifest["base_model"]["name"] = str(tmp_path / "gone")
    with pytest.raises(ModelError) as error:
        load_base(checkpoint)
    assert "--base" in str(error.value) and "cannot be found" in str(error.value)
    load_base(checkpoint, str(tmp_path / "elsewhere"))
    with pytest.raises(ModelError, match="is not the model that this checkpoint grew from"):
        load_base(checkpoint, str(make_model("byte-bpe")))


@pytest.mark.parametrize(
    "content",
    ['a,b,1\n\n"c, d",e,2.5\n', 'score,Sentence1,x,sentence2\n1,a,?,b\n2.5,"c, d",?,e\n'],
)
def test_rated_pairs_with_and_without_a_header(tmp_path: Path, content: str) -> None:
    file = tmp_path / "sts.csv"
    file.write_text(content)
    rated = read_sts(file)
    assert (rated.first, rated.second, rated.scores) == (("a", "c, d"), ("b", "e"), (1.0, 2.5))


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("a,b,1\na,b,x\nc,d\n", "sts.csv:2"),
        ("first,second,score\na,b,1\n", "no column 'sentence1'"),
        ("a,b,1\nc,d,1\n", "rated differently"),
        ("a,b,1\nc,d,nan\n", "needs two sentences and a number"),
        ("", "rated differently"),
    ],
)
def test_broken_rated_pairs(tmp_path: Path, content: str, part: str) -> None:
    file = tmp_path / "sts.csv"
    file.write_text(content)
    with pytest.raises(InputError, match=part):
        read_sts(file)


def test_spearman_looks_at_the_order_alone() -> None:
    first = np.eye(3, dtype=np.float32)
    second = np.array([[0.1, 0.99, 0], [0, 0.5, 0.8], [0.1, 0, 0.99]], np.float32)
    assert sts_spearman(first, second, (1, 2, 9)) == pytest.approx(1.0)
    assert sts_spearman(first, second, (9, 2, 1)) == pytest.approx(-1.0)


def test_a_dry_run_encodes_nothing(tiny_checkpoint: Path, texts: Path, sts: Path) -> None:
    config = NoHarmConfig(model=tiny_checkpoint, texts=(str(texts),), sts=sts, dry_run=True, quiet=True)
    assert no_harm(config) == {"dry_run": True, "files": 1, "bytes": texts.stat().st_size, "rated_pairs": 3}
