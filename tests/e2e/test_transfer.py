"""train-hypernet and transfer, on tiny models."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from contrastok.hypernet.store import MANIFEST as HYPERNET
from contrastok.models import input_embedding, load_model, load_tokenizer
from contrastok.transfer import MANIFEST
from contrastok.transplant import plan_transfer

from .conftest import KITCHEN, Run

QUICK = ("--epochs", 1, "--layers", 1)


@pytest.fixture(scope="module", autouse=True)
def few_words_do() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("contrastok.hypernet.lesson.MIN_WORDS", 40)
        yield


@pytest.fixture(scope="module")
def new_tokenizer(tokenizers_by_family: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("new-tokenizer")
    tokenizers_by_family["unigram"].save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def hypernet(here: Run, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hypernet") / "net"
    done = here("train-hypernet", "--model", tiny_model, "--corpus", KITCHEN / "corpus", *QUICK, "--out", folder)
    assert "charlen_mean" in done.stderr and "never saw" in done.stderr
    return folder


@pytest.fixture(scope="module")
def moved(
    here: Run, tiny_model: Path, new_tokenizer: Path, hypernet: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("moved") / "model"
    done = here(
        "transfer", "--tokenizer", new_tokenizer, "--model", tiny_model, "--hypernet", hypernet,
        "--texts", KITCHEN / "corpus", "--out", out, "--json", "-",
    )  # fmt: skip
    return out, json.loads(done.stdout)


def test_train_hypernet_tells_what_it_is_worth(hypernet: Path, tiny_model: Path) -> None:
    manifest = json.loads((hypernet / HYPERNET).read_text())
    assert manifest["base_model"]["name"] == str(tiny_model)
    assert set(manifest["recovery_mrr"]) == {"hypernet", "charlen_mean"}
    assert sorted(path.name for path in hypernet.parent.iterdir()) == ["net"]  # no state of the run is left


def test_train_hypernet_is_deterministic(here: Run, hypernet: Path, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    here("train-hypernet", "--model", tiny_model, "--corpus", KITCHEN / "corpus", *QUICK, "--out", out, "--quiet")
    for file in hypernet.iterdir():
        assert (out / file.name).read_bytes() == file.read_bytes()


def test_a_dry_run_writes_nothing(here: Run, tiny_model: Path, new_tokenizer: Path, tmp_path: Path) -> None:
    here("train-hypernet", "--model", tiny_model, "--out", tmp_path / "net", "--dry-run")
    done = here("transfer", "--tokenizer", new_tokenizer, "--model", tiny_model, "--out", tmp_path / "out", "--dry-run")
    assert "copied" in done.stderr and "Nothing was written" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_transfer_asks_the_initialiser_before_the_plan(
    here: Run, tiny_model: Path, new_tokenizer: Path, hypernet: Path, make_model: Callable[..., Path], tmp_path: Path,
    dry: tuple[str, ...],
) -> None:  # fmt: skip
    out, other = tmp_path / "out", make_model("byte-bpe")
    common = ("transfer", "--tokenizer", new_tokenizer, "--out", out, *dry)
    for options, told in (
        (("--model", tiny_model, "--hypernet", tmp_path / "nowhere"), "--hypernet takes a folder that"),
        (("--model", tiny_model, "--hypernet", new_tokenizer), "is no hypernetwork"),
        (("--model", other, "--hypernet", hypernet), "the embedding table of this model is another"),
        (("--model", tiny_model, "--init", "merge_tree"), "does not apply"),
    ):
        done = here(*common, *options, code=2)
        assert told in done.stderr and "copied" not in done.stderr and not out.exists(), done.stderr


def test_a_folder_without_a_tokenizer_is_told(here: Run, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = here("transfer", "--tokenizer", tmp_path / "empty", "--model", tiny_model, "--out", tmp_path / "out", code=2)
    assert "holds no tokenizer (no tokenizer.json)" in done.stderr and "--tokenizer takes a folder" in done.stderr
    done = here("transfer", "--help")
    assert "any other" in " ".join(done.stdout.split())


def test_train_hypernet_names_the_option_of_a_text_that_is_missing(here: Run, tiny_model: Path, tmp_path: Path) -> None:
    options = ("--model", tiny_model, "--corpus", tmp_path / "nowhere", "--out", tmp_path / "net")
    done = here("train-hypernet", *options, code=2)
    assert f"--corpus {tmp_path / 'nowhere'}: no such file or folder" in done.stderr
    assert "--corpus takes .txt" in done.stderr


def test_transfer_copies_bits_and_leaves_the_body(
    moved: tuple[Path, dict[str, Any]], tiny_model: Path, new_tokenizer: Path
) -> None:
    out, told = moved
    old, new = load_model(str(tiny_model)), load_model(str(out))
    plan = plan_transfer(old.tokenizer, load_tokenizer(str(new_tokenizer)))
    counts = (told["copied"], told["predicted"], told["fallen_back"])
    assert counts == (len(plan.copied), len(plan.predicted), len(plan.lost)) and min(counts[:2]) > 50
    before, after = input_embedding(old).weight, input_embedding(new).weight
    assert torch.equal(after[list(plan.copied)], before[list(plan.copied.values())])
    assert told["frozen"]["sha256_before"] == told["frozen"]["sha256_after"]
    states = old.state_dict(), new.state_dict()
    names = {name for name, tensor in states[0].items() if tensor.shape != before.shape}
    assert len(names) > 20 and all(torch.equal(states[0][name], states[1][name]) for name in names)


def test_transfer_loads_with_stock_libraries(moved: tuple[Path, dict[str, Any]], new_tokenizer: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from transformers import AutoModel, AutoTokenizer

    out, told = moved
    text = "the cook likes the halloumi"
    tokenizer, model = AutoTokenizer.from_pretrained(out), AutoModel.from_pretrained(out)
    assert tokenizer(text)["input_ids"] == load_tokenizer(str(new_tokenizer))(text)["input_ids"]
    assert model.get_input_embeddings().weight.shape[0] == told["tokens"] == len(tokenizer)
    assert SentenceTransformer(str(out)).encode([text]).shape == (1, 32)
    assert json.loads((out / MANIFEST).read_text())["copied"] == told["copied"]
    assert -1 <= told["fidelity"]["p5"] <= told["fidelity"]["mean"] <= 1 and told["fidelity"]["texts"] > 100


def test_the_same_tokenizer_gives_the_same_model(here: Run, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = here(
        "transfer", "--tokenizer", tiny_model, "--model", tiny_model, "--init", "charlen_mean", "--out", out,
        "--texts", KITCHEN / "corpus", "--json", "-",
    )  # fmt: skip
    told = json.loads(done.stdout)
    assert told["predicted"] == told["fallen_back"] == 0
    assert told["fidelity"]["mean"] == pytest.approx(1, abs=1e-6)
    tables = [input_embedding(load_model(str(folder))).weight for folder in (tiny_model, out)]
    assert torch.equal(*tables)


@pytest.mark.parametrize("init", ["charlen_mean", "subtoken_mean"])
def test_other_initialisers_predict_too(
    here: Run, tiny_model: Path, new_tokenizer: Path, tmp_path: Path, init: str
) -> None:
    from contrastok.initializers import InitContext, initial_rows

    out = tmp_path / "out"
    here("transfer", "--tokenizer", new_tokenizer, "--model", tiny_model, "--init", init, "--out", out)
    old = load_model(str(tiny_model))
    plan = plan_transfer(old.tokenizer, load_tokenizer(str(new_tokenizer)))
    table = input_embedding(old).weight
    expected = initial_rows(init, InitContext(table, plan.texts, plan.pieces, plan.lengths))
    assert torch.equal(input_embedding(load_model(str(out))).weight[list(plan.predicted)], expected)


def test_bad_input_leaves_nothing(
    here: Run, make_model: Callable[..., Path], tiny_model: Path, new_tokenizer: Path, hypernet: Path, tmp_path: Path
) -> None:
    def refused(*arguments: object) -> str:
        done = here(*arguments, "--out", tmp_path / "out", code=2)
        assert list(tmp_path.iterdir()) == []
        return done.stderr

    move = ("transfer", "--tokenizer", new_tokenizer, "--model")
    assert "--tokenizer is missing" in refused("transfer")
    assert "no initialiser" in refused(*move, tiny_model, "--init", "hypernett")
    assert "tokens of a tokenizer have none; valid: " in refused(*move, tiny_model, "--init", "wechsel")
    assert "--hypernet is for" in refused(*move, tiny_model, "--init", "charlen_mean", "--hypernet", hypernet)
    assert "no hypernetwork" in refused(*move, tiny_model, "--hypernet", tiny_model)
    assert str(tiny_model) in refused(*move, make_model("unigram"), "--hypernet", hypernet)
    assert "counts its positions" in refused("transfer", "--tokenizer", tiny_model, "--model", make_model("byte-bpe"))
    assert "--epochs" in refused("train-hypernet", "--epochs", 0)


def test_outputs_of_others_are_not_replaced(here: Run, tiny_model: Path, hypernet: Path, tmp_path: Path) -> None:
    here("train-hypernet", "--model", tiny_model, "--out", hypernet, code=2)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("x")
    done = here("train-hypernet", "--model", tiny_model, "--out", tmp_path / "mine", "--overwrite", code=2)
    assert "contrastok did not write" in done.stderr
