"""An adapter of PEFT's Trainable Tokens (`peft.TrainableTokensConfig`): new rows alone, in the files that PEFT reads.

PEFT calls the rows deltas, and they are not: each takes the place of the table's row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contrastok.errors import InputError, ModelError
from contrastok.files import to_json
from contrastok.json_file import COUNT, TEXT, check_shape, fields, list_of, read_json
from contrastok.tensor_file import read_tensors

if TYPE_CHECKING:
    import torch

AGAIN = "save the adapter again"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
KIND = "TRAINABLE_TOKENS"
PREFIX, ROWS, TABLE = "base_model.model.", ".trainable_tokens_delta", ".weight"
"""What PEFT puts before the path of a module, and behind it for its rows and for a table that it stores whole."""


@dataclass(frozen=True)
class Adapter:
    """What an adapter's folder holds.

    Attributes:
        folder: where it lies.
        ids: the token of each row.
        rows: rows `[n, d]` by the path of the module that they belong to.
        tables: whole tables `[V, d]` by path, which PEFT stores beside the rows when the model was resized.
        about: what contrastok noted about the rows (see `contrastok.export.read_delta`); None in PEFT's own files.
    """

    folder: Path
    ids: tuple[int, ...]
    rows: Mapping[str, torch.Tensor]
    tables: Mapping[str, torch.Tensor]
    about: Mapping[str, Any] | None

    @property
    def file(self) -> Path:
        """Where the rows are stored."""
        return self.folder / WEIGHTS


def path_of(model: Any, wanted: Any) -> str:
    """Where in a model one of its modules stands, as in `embeddings.word_embeddings`."""
    return str(next(path for path, module in model.named_modules() if module is wanted))


def token_tables(model: Any) -> dict[str, torch.Tensor]:
    """The tables of a Hugging Face model that have a row for each token, `[V, d]`, by path; tied ones are the same.

    Raises:
        ModelError: PEFT would lose the bias of its head.
    """
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if getattr(head, "bias", None) is not None:
        raise ModelError(
            "its output head has a bias, which PEFT's Trainable Tokens leave out",
            where=type(model).__name__,
            hint="use the checkpoint itself: stock libraries load it",
        )
    return {path_of(model, module): module.weight for module in (embedding, head) if module is not None}


def write_adapter(folder: Path, model: Any, ids: Sequence[int], base: str, about: Mapping[str, Any]) -> None:
    """Write a model's rows as an adapter.

    Args:
        folder: an empty folder.
        model: a Hugging Face model that has the rows in its tables, of the class that the adapter is to be loaded into.
        ids: the tokens.
        base: name of the model without them; `peft.AutoPeftModel` loads it.
        about: what `Adapter.about` is to give back.

    Raises:
        ModelError: see `token_tables`.
    """
    from safetensors.torch import save_file

    tables = token_tables(model)
    first, *others = tables
    targets = [first, *(path for path in others if tables[path] is not tables[first])]  # PEFT finds tied ones itself
    told = {
        "peft_type": KIND,
        "task_type": None,
        "auto_mapping": {"base_model_class": type(model).__name__, "parent_library": "transformers"},
        "base_model_name_or_path": base,
        "target_modules": targets,
        "token_indices": list(ids),
        "init_weights": True,
        "inference_mode": True,
    }
    (folder / CONFIG).write_text(to_json(told), encoding="utf-8")
    metadata = {"format": "pt", "contrastok": json.dumps(about, ensure_ascii=False)}
    rows = {f"{PREFIX}{path}{ROWS}": table.detach()[list(ids)] for path, table in tables.items()}
    save_file(rows, folder / WEIGHTS, metadata=metadata)


def read_adapter(folder: Path) -> Adapter:
    """Read the adapter in a folder.

    Raises:
        InputError: it is none of Trainable Tokens, trains more than rows of tokens, or is broken.
    """
    ids = _token_indices(folder)
    tensors, about = read_tensors(folder / WEIGHTS, f"{AGAIN}, with PEFT's safe_serialization=True")
    rows = {_path(name, ROWS): tensor for name, tensor in tensors.items() if name.endswith(ROWS)}
    tables = {_path(name, TABLE): tensor for name, tensor in tensors.items() if name.endswith(TABLE)}
    others = [name for name in tensors if not name.endswith((ROWS, TABLE))]
    if others or not rows:
        what = f"holds {others[0]}, which is no row of a token" if others else "holds no rows of tokens"
        raise InputError(
            what, where=folder / WEIGHTS, hint="only adapters of TrainableTokensConfig alone can be imported"
        )
    if any(tensor.ndim != 2 or len(tensor) != len(ids) for tensor in rows.values()):
        raise InputError(f"does not hold a row for each of the {len(ids)} token_indices", where=folder / WEIGHTS)
    return Adapter(folder, ids, rows, tables, about)


def _token_indices(folder: Path) -> tuple[int, ...]:
    """The ids that an adapter's configuration names."""
    file = folder / CONFIG
    if not file.is_file():
        raise InputError(
            f"is no adapter of PEFT (it holds no {CONFIG})",
            where=folder,
            hint="--adapter names a folder that contrastok export or PEFT's save_pretrained wrote",
        )
    told = read_json(file, fields(peft_type=TEXT), AGAIN)
    kind = told["peft_type"]
    if kind != KIND:
        raise InputError(
            f"is an adapter of type {kind}, and only rows of tokens ({KIND}) can become a checkpoint",
            where=file,
            hint="merge it with PEFT (merge_and_unload), and save the model",
        )
    check_shape(told, fields(token_indices={"anyOf": [{"type": "null"}, list_of(COUNT)]}), file, AGAIN)
    ids = tuple(told["token_indices"] or ())
    if not ids or len(set(ids)) < len(ids):
        raise InputError("names no token_indices, or one of them twice", where=file)
    return ids


def _path(name: str, end: str) -> str:
    """The path of a module in the model, from the name of one of its tensors."""
    return name.removeprefix(PREFIX).removesuffix(end).removesuffix(".base_layer").removesuffix(".token_adapter")
