from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from contrastok.errors import ModelError
from contrastok.models import (
    _load_errors,
    fingerprint,
    frozen_hash,
    load_architecture,
    load_model,
    load_tokenizer,
    require_fast,
    resolve,
    tensor_hash,
    transformer,
    trusting,
)


def test_minilm_is_the_packaged_model() -> None:
    assert (Path(resolve("minilm")) / "model.safetensors").is_file()


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "a/b/c"])
def test_missing_folder(name: str) -> None:
    with pytest.raises(ModelError, match="no such model folder"):
        resolve(name)


def test_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no model"):
        resolve(str(tmp_path))


@pytest.mark.parametrize("name", ["minilmm", "MiniLM", "minlm"])
def test_a_misspelled_short_name_is_told_before_the_hub_is_asked(name: str) -> None:
    with pytest.raises(ModelError, match="no such model") as caught:
        resolve(name)
    assert caught.value.hint == "did you mean 'minilm'?"


def test_a_name_that_cannot_be_loaded_is_compared_with_the_folders_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "biomodel").mkdir()
    (tmp_path / "biomodel" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError) as caught, _load_errors("biomodle"):
        raise OSError("not on the hub")
    assert caught.value.hint.startswith("did you mean 'biomodel'? Or ")


def test_a_hub_name_passes_through() -> None:
    assert resolve("some-owner/some-model") == "some-owner/some-model"


def test_broken_weights_are_one_clear_error(tiny_model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    (broken / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="could not be loaded"):
        load_model(str(broken))


def test_slow_tokenizers_are_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(ModelError, match="slow"):
        require_fast(Slow(), "some/model")


def test_plain_transformer_folders_load(tiny_model: Path) -> None:
    model = load_model(str(tiny_model))
    assert not any(p.requires_grad for p in model.parameters()) and not model.training
    assert load_tokenizer(str(tiny_model)).get_vocab() == model.tokenizer.get_vocab()


def test_hashes_see_every_bit(tiny_model: Path) -> None:
    model: Any = load_model(str(tiny_model))
    before, count = frozen_hash(model, [], 10**9)
    assert count == len(model.state_dict())
    weight = model[0].auto_model.encoder.layer[0].output.dense.weight
    weight.data[0, 0] = torch.nextafter(weight.data[0, 0], torch.tensor(9.0))
    assert frozen_hash(model, [], 10**9)[0] != before
    assert fingerprint(model) != fingerprint(load_model(str(tiny_model)))


def test_new_rows_do_not_count_as_frozen(tiny_model: Path) -> None:
    model: Any = load_model(str(tiny_model))
    table = model[0].auto_model.embeddings.word_embeddings.weight
    before = frozen_hash(model, [5], len(table))
    table.data[5] += 1
    assert frozen_hash(model, [5], len(table)) == before
    table.data[6] += 1
    assert frozen_hash(model, [5], len(table)) != before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_tensor_hash_of_any_dtype(dtype: torch.dtype) -> None:
    one = torch.tensor([[1, 0], [1, 1]]).to(dtype)
    assert tensor_hash(one) == tensor_hash(one.clone())
    assert tensor_hash(one) != tensor_hash(one.reshape(4))
    assert tensor_hash(torch.zeros(0, 3)) != tensor_hash(torch.zeros(0, 4))


class Malice:
    """What touches a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """A file that is there once somebody else's code has run."""
    return tmp_path / "it-ran"


@pytest.fixture
def copied_model(tiny_model: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    return folder


def test_a_pickle_is_never_read(copied_model: Path, mark: Path) -> None:
    (copied_model / "model.safetensors").unlink()
    (copied_model / "pytorch_model.bin").write_bytes(pickle.dumps(Malice(mark)))
    with pytest.raises(ModelError, match=r"pytorch_model\.bin, which can run code"):
        load_model(str(copied_model))
    assert not mark.exists()
    pickle.loads((copied_model / "pytorch_model.bin").read_bytes())
    assert mark.exists()  # it would have


def test_a_pickle_in_a_module_is_never_read(copied_model: Path, mark: Path) -> None:
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Dense": "Dense"}
    modules = [{"idx": i, "name": str(i), "path": p, "type": f"sentence_transformers.models.{k}"}
               for i, (p, k) in enumerate(kinds.items())]  # fmt: skip
    (copied_model / "modules.json").write_text(json.dumps(modules))
    (copied_model / "2_Dense").mkdir()
    (copied_model / "2_Dense" / "pytorch_model.bin").write_bytes(pickle.dumps(Malice(mark)))
    with pytest.raises(ModelError, match="2_Dense"):
        load_model(str(copied_model))
    assert not mark.exists()


CODE = """
from pathlib import Path
from transformers import BertConfig, BertModel
Path({mark!r}).touch()
class OwnConfig(BertConfig):
    model_type = "own"
class OwnModel(BertModel):
    config_class = OwnConfig
"""


def test_code_of_a_model_runs_only_when_asked(
    copied_model: Path, mark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("builtins.input", None)  # nobody is asked at the keyboard
    (copied_model / "own.py").write_text(CODE.format(mark=str(mark)))
    config = json.loads((copied_model / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}}
    (copied_model / "config.json").write_text(json.dumps(config))
    load_tokenizer(str(copied_model))  # brings no code
    for load in (load_model, load_architecture):
        with pytest.raises(ModelError, match=r"--trust-remote-code"):
            load(str(copied_model))
    assert not mark.exists()
    with trusting(True):
        assert type(transformer(load_model(str(copied_model)))).__name__ == "OwnModel"
    assert mark.exists()
    with pytest.raises(ModelError):
        load_model(str(copied_model))


def test_a_module_of_other_code_is_not_imported(copied_model: Path, mark: Path) -> None:
    (copied_model / "own.py").write_text(CODE.format(mark=str(mark)))
    module = {"idx": 0, "name": "0", "path": "", "type": "own.OwnModel"}
    (copied_model / "modules.json").write_text(json.dumps([module]))
    with pytest.raises(ModelError, match="--trust-remote-code"):
        load_model(str(copied_model))
    assert not mark.exists()
