from __future__ import annotations

import dataclasses
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from contrastok.adapter import CONFIG, WEIGHTS, read_adapter, write_adapter
from contrastok.checkpoint import INITIAL_ROWS, MANIFEST, ROWS, hash_weights, load_checkpoint, read_manifest
from contrastok.config import ExportConfig, ImportConfig, TrainConfig
from contrastok.errors import InputError, ModelError, OutputError
from contrastok.exchange import export_adapter, import_adapter, token_rows
from contrastok.export import apply
from contrastok.files import sha256_file, to_json
from contrastok.models import load_model, load_tokenizer
from contrastok.tensor_file import write_tensors
from contrastok.trainer import train

peft = pytest.importorskip("peft")
TEXTS = ["we bought zorblaxin at the market", "Brimwax is on the table", "a quib vexalotl with cheese", "no new word"]
WORDS = ["flumgrot", "snorbel"]


def states(model: Any, tokenizer: Any, texts: list[str] = TEXTS) -> torch.Tensor:
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        found: torch.Tensor = model(**batch)[0]
    return found[batch["attention_mask"].bool()]


def as_peft_users_do(base: str, adapter: Path, kind: Any = None) -> tuple[Any, Any]:
    """What docs/peft.md says: tokenizer of the adapter, base resized if it is too small, adapter."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(adapter)
    model = (kind or AutoModel).from_pretrained(base)
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    return peft.PeftModel.from_pretrained(model, adapter).eval(), tokenizer


@pytest.fixture(scope="module", params=[("wordpiece", 0), ("byte-bpe", 0), ("wordpiece", 9)], ids=str)
def exported(
    request: pytest.FixtureRequest, make_config: Callable[..., TrainConfig], tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrainConfig, Path]:
    """A checkpoint and its adapter; with 9 rows of padding the new ids lie inside the table."""
    family, padding = request.param
    config = make_config(family, padding, epochs=1)
    train(config)
    out = tmp_path_factory.mktemp("exported") / "adapter"
    summary = export_adapter(ExportConfig(model=config.out, out=out, quiet=True))
    assert summary["tokens"] == 3 and len(summary["ids"]) == (6 if family == "byte-bpe" else 3)
    return config, out


def test_stock_peft_computes_what_the_checkpoint_does(exported: tuple[TrainConfig, Path]) -> None:
    from transformers import AutoModel, AutoTokenizer

    config, adapter = exported
    model, tokenizer = as_peft_users_do(config.model, adapter)
    wanted = states(AutoModel.from_pretrained(config.out), AutoTokenizer.from_pretrained(config.out))
    assert torch.equal(states(model, tokenizer), wanted)
    assert torch.equal(states(model.merge_and_unload(), tokenizer), wanted)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = peft.AutoPeftModel.from_pretrained(adapter).eval()  # base and size from the adapter's own files
    assert torch.equal(states(alone, tokenizer), wanted)


def test_an_adapter_holds_the_new_rows_alone(exported: tuple[TrainConfig, Path]) -> None:
    config, adapter = exported
    ids = json.loads((adapter / CONFIG).read_text())["token_indices"]
    (rows,) = load_file(adapter / WEIGHTS).values()
    assert torch.equal(rows, torch.from_numpy(load_checkpoint(Path(str(config.out))).table())[ids])
    assert not list(adapter.glob("*.bin")) and not (adapter / "model.safetensors").exists()
    with pytest.raises(OutputError, match="exists already"):
        export_adapter(ExportConfig(model=config.out, out=adapter, quiet=True))
    other = adapter.with_name("other")
    planned = export_adapter(ExportConfig(model=config.out, out=other, quiet=True, dry_run=True))
    assert planned["ids"] == ids and planned["dry_run"] and not other.exists()
    assert planned["modules"] == ["embeddings.word_embeddings"]


def brought_back(checkpoint: Path, adapter: Path, base: str, out: Path) -> None:
    import_adapter(ImportConfig(adapter=adapter, model=base, out=out, quiet=True))
    for name in ("model.safetensors", "tokenizer.json", "config.json", ROWS, INITIAL_ROWS, MANIFEST):
        assert sha256_file(out / name) == sha256_file(checkpoint / name), name


def test_an_imported_adapter_is_the_checkpoint(exported: tuple[TrainConfig, Path], tmp_path: Path) -> None:
    config, adapter = exported
    out = tmp_path / "back"
    brought_back(Path(str(config.out)), adapter, config.model, out)
    then, now = (load_checkpoint(Path(str(path))).manifest for path in (config.out, out))
    assert now["tokens"] == then["tokens"]  # definitions and evidence too


def test_what_rounding_and_evidence_made_comes_back(
    make_config: Callable[..., TrainConfig], make_model: Callable[..., Path], tmp_path: Path
) -> None:
    """Float32 rows over a bf16 table, and first rows that nothing can make again."""
    config = make_config(model=str(make_model("wordpiece", dtype=torch.bfloat16)), epochs=1, out=tmp_path / "model")
    train(config)
    write_tensors(tmp_path / "model" / INITIAL_ROWS, {"rows": torch.rand(3, 32)})
    told = read_manifest(tmp_path / "model") | {"files": hash_weights(tmp_path / "model")}
    (tmp_path / "model" / MANIFEST).write_text(to_json(told), encoding="utf-8")
    adapter = tmp_path / "adapter"
    export_adapter(ExportConfig(model=tmp_path / "model", out=adapter, quiet=True))
    brought_back(tmp_path / "model", adapter, config.model, tmp_path / "back")

    (name, rows), *_ = load_file(adapter / WEIGHTS).items()  # trained on with PEFT
    importing = {"adapter": copied(adapter, tmp_path / "on", {name: rows + 1}), "model": config.model, "quiet": True}
    import_adapter(ImportConfig(out=tmp_path / "other", **importing))
    assert torch.equal(load_file(tmp_path / "other" / ROWS)["rows"], (rows + 1).float())


def test_first_rows_of_other_terms_are_left_alone(exported: tuple[TrainConfig, Path], tmp_path: Path) -> None:
    """What PEFT saved over our files has a term for each form, and our first rows one for all forms."""
    config, adapter = exported
    theirs = copied(adapter, tmp_path / "theirs")
    told = import_adapter(ImportConfig(adapter=theirs, model=config.model, out=tmp_path / "out", quiet=True))
    assert told["initial_rows_known"] is (told["tokens"] == 3)


def test_a_table_is_compared_in_one_pass_over_the_ids(foreign: tuple[Path, Path, Any, Any]) -> None:
    class Counted(tuple[int, ...]):
        passes = 0

        def __iter__(self) -> Any:
            Counted.passes += 1
            return super().__iter__()

    base, folder, *_ = foreign
    adapter = read_adapter(folder)
    assert adapter.tables
    token_rows(dataclasses.replace(adapter, ids=Counted(adapter.ids)), load_model(str(base)))
    assert Counted.passes == 1


def test_another_base_model_is_refused(exported: tuple[TrainConfig, Path], tmp_path: Path) -> None:
    _, adapter = exported
    with pytest.raises(InputError, match=r"trained for|coordinates"):
        import_adapter(ImportConfig(adapter=adapter, model="minilm", out=tmp_path / "out", quiet=True))
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def foreign(make_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Any, Any]:
    """Base, adapter, model and tokenizer of somebody who never heard of us: PEFT's training, PEFT's files."""
    from transformers import AutoModel

    base, folder = make_model("wordpiece"), tmp_path_factory.mktemp("foreign")
    tokenizer = load_tokenizer(str(base))
    first = len(tokenizer)
    tokenizer.add_tokens(WORDS)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|tool|>"]})
    model = AutoModel.from_pretrained(base)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    ids = [first + 2, first, first + 1]  # in no order
    trained = peft.get_peft_model(model, peft.TrainableTokensConfig(token_indices=ids)).train()
    optimizer = torch.optim.AdamW([p for p in trained.parameters() if p.requires_grad], lr=0.1)
    batch = tokenizer(["a flumgrot", "the snorbel <|tool|> here"], padding=True, return_tensors="pt")
    for _ in range(2):
        trained(**batch)[0].square().mean().backward()
        optimizer.step()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it writes the whole table
        trained.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return base, folder, trained.eval(), tokenizer


def test_what_peft_trained_becomes_a_checkpoint(foreign: tuple[Path, Path, Any, Any], tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    base, adapter, model, tokenizer = foreign
    texts = ["a flumgrot and the snorbel", "flumgrots <|tool|> here", "no new word"]
    out = tmp_path / "model"
    import_adapter(ImportConfig(adapter=adapter, model=str(base), out=out, quiet=True))
    stock = SentenceTransformer(str(out), device="cpu")
    assert stock.tokenizer(texts)["input_ids"] == tokenizer(texts)["input_ids"]  # with the user's rules, not ours
    assert torch.equal(states(stock[0].auto_model, stock.tokenizer, texts), states(model, tokenizer, texts))
    checkpoint = load_checkpoint(out)
    assert [token["token"] for token in checkpoint.manifest["tokens"]] == [*WORDS, "<|tool|>"]
    assert checkpoint.manifest["frozen"]["sha256_before"] == checkpoint.manifest["frozen"]["sha256_after"]
    from contrastok.config import ApplyConfig

    apply(ApplyConfig(rows=out / "new_rows.safetensors", model=str(base), out=tmp_path / "again", quiet=True))
    assert sha256_file(tmp_path / "again" / "tokenizer.json") == sha256_file(out / "tokenizer.json")


def copied(adapter: Path, folder: Path, tensors: dict[str, Any] | None = None, **settings: Any) -> Path:
    """The adapter with other settings and tensors; a tensor of None is left out."""
    folder.mkdir()
    for file in adapter.iterdir():
        if file.name != MANIFEST:
            (folder / file.name).write_bytes(file.read_bytes())
    told = json.loads((folder / CONFIG).read_text()) | settings
    (folder / CONFIG).write_text(json.dumps(told))
    kept = load_file(adapter / WEIGHTS) | (tensors or {})
    save_file({name: tensor for name, tensor in kept.items() if tensor is not None}, folder / WEIGHTS)
    return folder


def spoil_old_id(adapter: Path, folder: Path) -> Path:
    ids = json.loads((adapter / CONFIG).read_text())["token_indices"]
    return copied(adapter, folder, token_indices=[7, *ids[1:]])


def spoil_old_row(adapter: Path, folder: Path) -> Path:
    name = next(name for name in load_file(adapter / WEIGHTS) if name.endswith(".weight"))
    table = load_file(adapter / WEIGHTS)[name].clone()
    table[3, 0] += 1
    return copied(adapter, folder, {name: table})


def spoil_head(adapter: Path, folder: Path) -> Path:
    return copied(adapter, folder, {"base_model.model.lm_head.trainable_tokens_delta": torch.ones(3, 32)})


def spoil_tokenizer(adapter: Path, folder: Path) -> Path:
    copied(adapter, folder)
    (folder / "tokenizer.json").unlink()
    return folder


def spoil_extra_token(adapter: Path, folder: Path) -> Path:
    tokenizer = load_tokenizer(str(copied(adapter, folder)))
    tokenizer.add_tokens(["grumbole"])
    tokenizer.save_pretrained(folder)
    return folder


def spoil_normalizer(adapter: Path, folder: Path) -> Path:
    state = json.loads((copied(adapter, folder) / "tokenizer.json").read_text())
    state["normalizer"]["lowercase"] = False
    (folder / "tokenizer.json").write_text(json.dumps(state))
    return folder


def spoil_weights(adapter: Path, folder: Path) -> Path:
    (copied(adapter, folder) / WEIGHTS).write_bytes(b"no tensors")
    return folder


SPOILT: list[tuple[Callable[[Path, Path], Path], str]] = [
    (spoil_old_id, "rows of 1 old tokens"),
    (spoil_old_row, "old rows are not those of the model"),
    (spoil_head, "rows of their own for lm_head"),
    (spoil_tokenizer, "no such file"),
    (spoil_extra_token, "its new tokens have the ids"),
    (spoil_normalizer, "in more than its new tokens"),
    (spoil_weights, "is broken"),
    (lambda adapter, folder: copied(adapter, folder, peft_type="LORA"), "of type LORA"),
    (lambda adapter, folder: copied(adapter, folder, token_indices=[]), "names no token_indices"),
    (lambda adapter, folder: copied(adapter, folder, token_indices=[1, 2]), "a row for each of the 2"),
    (lambda adapter, folder: copied(adapter, folder, {"base_model.model.x.lora_A": torch.ones(1)}), "is no row"),
    (lambda adapter, folder: folder, "is no adapter"),
]


@pytest.mark.parametrize(("spoil", "says"), SPOILT, ids=[says for _, says in SPOILT])
def test_what_cannot_be_imported_is_told(
    foreign: tuple[Path, Path, Any, Any], tmp_path: Path, spoil: Callable[[Path, Path], Path], says: str
) -> None:
    base, adapter, *_ = foreign
    spoilt = spoil(adapter, tmp_path / "spoilt")
    with pytest.raises(InputError, match=says):
        import_adapter(ImportConfig(adapter=spoilt, model=str(base), out=tmp_path / "out", quiet=True))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("padding", [0, 4], ids=["grown", "padded"])
def test_decoders_get_the_rows_of_their_head(tmp_path: Path, tied: bool, padding: int) -> None:
    """A tied head follows the input's rows; an untied one has its own in the adapter."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(3)
    base = LlamaForCausalLM(LlamaConfig(vocab_size=40 + padding, tie_word_embeddings=tied, **sizes)).eval()
    base.save_pretrained(tmp_path / "base")
    ids = [40, 41, 42]
    if not padding:
        base.resize_token_embeddings(43, mean_resizing=False)
    with torch.no_grad():
        for table in {base.get_input_embeddings().weight, base.get_output_embeddings().weight}:
            table[ids] = torch.randn(3, 16)
    write_adapter(tmp_path, base, ids, str(tmp_path / "base"), {})
    targets = json.loads((tmp_path / CONFIG).read_text())["target_modules"]
    assert targets == (["model.embed_tokens"] if tied else ["model.embed_tokens", "lm_head"])
    again = LlamaForCausalLM.from_pretrained(tmp_path / "base")
    if not padding:
        again.resize_token_embeddings(43, mean_resizing=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Found missing adapter keys")
        loaded = peft.PeftModel.from_pretrained(again, tmp_path).eval()
    text = torch.tensor([[3, 40, 7, 42, 41]])
    assert torch.equal(loaded(text).logits, base(text).logits)


def test_a_head_with_a_bias_is_refused(tmp_path: Path) -> None:
    """PEFT drops the bias, and every logit would be wrong."""
    from transformers import BertConfig, BertForMaskedLM, PhiConfig, PhiForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    for model in (
        BertForMaskedLM(BertConfig(vocab_size=40, **sizes)),
        PhiForCausalLM(PhiConfig(vocab_size=40, **sizes)),
    ):
        with pytest.raises(ModelError, match="has a bias"):
            write_adapter(tmp_path, model, [39], "base", {})
    assert not any(tmp_path.iterdir())


def test_a_dry_run_refuses_what_the_run_would(exported: tuple[TrainConfig, Path], tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForMaskedLM

    config, _ = exported
    folder = shutil.copytree(str(config.out), tmp_path / "with-head")
    AutoModelForMaskedLM.from_config(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    with pytest.raises(ModelError, match="has a bias"):
        export_adapter(ExportConfig(model=folder, out=tmp_path / "adapter", quiet=True, dry_run=True))
