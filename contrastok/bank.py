"""Encode once, keep: everything the frozen model says is computed a single time and cached on disk.

Nothing but the new rows ever changes, so the frozen side of every contrast is a constant.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import platformdirs
import torch
import torch.nn.functional as F

from contrastok.cache import kept_arrays
from contrastok.candidates import candidates
from contrastok.console import Console
from contrastok.errors import InputError, OutputError
from contrastok.files import atomic_file
from contrastok.models import fingerprint
from contrastok.tensor_file import read_tensors, write_tensors

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedTokenizerFast

SHARD = 2048
"""Inputs a cache file holds. A killed run loses at most one shard of work."""

BATCH = 64
"""Sequences in one forward pass."""

ENCODINGS = "encodings"
"""The one tensor of a cache file. A flipped bit would be a frozen key and nobody would know: the file has a hash."""


class FrozenEncoder:
    """A frozen model on its original tokens, with its outputs cached by model hash.

    Outputs are L2-normalised float32 sentence embeddings of the model's own pooling. Inputs are encoded in
    shards of fixed composition, so a result does not depend, to the bit, on what was cached before.

    Args:
        model: the frozen model; its input embedding must be the original one whenever this encodes.
        tokenizer: the tokenizer before extension.
        cache: keep outputs on disk, in the user's cache folder (`CONTRASTOK_CACHE` names another).
        console: where the progress bar goes.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        tokenizer: PreTrainedTokenizerFast,
        *,
        cache: bool = True,
        console: Console | None = None,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.console = console or Console(quiet=True)
        self.dim = int(model.get_embedding_dimension() or 0)
        self.folder = cache_folder() / _runtime(model) if cache else None

    def encode(self, texts: Sequence[str], description: str = "Encoding texts") -> np.ndarray:
        """Embeddings of texts.

        Returns:
            float32 `[len(texts), dim]`, rows of norm 1.
        """
        limit = self.model.max_seq_length or 512
        return self._cached(
            list(texts),
            lambda shard: self.tokenizer(shard, truncation=True, max_length=limit, verbose=False)["input_ids"],
            description,
        )

    def encode_ids(self, sequences: Sequence[Sequence[int]], description: str = "Encoding tokens") -> np.ndarray:
        """Embeddings of id sequences, given without the special tokens that the model's inputs carry.

        Returns:
            float32 `[len(sequences), dim]`, rows of norm 1.
        """
        frame = special_frame(self.tokenizer)
        return self._cached(
            [list(map(int, ids)) for ids in sequences], lambda shard: [frame(ids) for ids in shard], description
        )

    def encode_words(self, ids: Sequence[int], description: str = "Encoding the vocabulary") -> np.ndarray:
        """Embeddings of entries of the vocabulary, each alone.

        All of its words are encoded, not these alone: training, reports and evaluations ask for different ones, and so
        share what is kept.

        Returns:
            float32 `[len(ids), dim]`, rows of norm 1.
        """
        words = candidates(self.tokenizer).ids
        every = [*words, *sorted(set(ids).difference(words))]
        place = {i: at for at, i in enumerate(every)}
        return self.encode_ids([[i] for i in every], description)[[place[i] for i in ids]]

    def kept(self, name: str, make: Callable[[], Mapping[str, np.ndarray]]) -> Mapping[str, np.ndarray]:
        """Arrays that the model decides, from the cache or made and put there; `name` may hold a folder."""
        return make() if self.folder is None else kept_arrays(self.folder / f"{name}.arrays", make)

    def _cached(
        self, inputs: list[Any], to_ids: Callable[[list[Any]], list[list[int]]], description: str
    ) -> np.ndarray:
        shards = [inputs[i : i + SHARD] for i in range(0, len(inputs), SHARD)]
        found = [self._shard(shard, to_ids) for shard in self.console.track(shards, description)]
        return found[0] if len(found) == 1 else np.concatenate(found or [np.zeros((0, self.dim), np.float32)])

    def _shard(self, shard: list[Any], to_ids: Callable[[list[Any]], list[list[int]]]) -> np.ndarray:
        if self.folder is None:
            return encode_sequences(self.model, self.tokenizer, to_ids(shard))
        key = hashlib.sha256(json.dumps([self.model.max_seq_length, shard]).encode()).hexdigest()
        file = self.folder / f"{key}.safetensors"
        kept = _kept(file, key)
        if kept is not None:
            return kept
        outputs = encode_sequences(self.model, self.tokenizer, to_ids(shard))
        with contextlib.suppress(OutputError), atomic_file(file) as partial:  # unwritable, it costs time, not the run
            write_tensors(partial, {ENCODINGS: torch.from_numpy(outputs)}, {"inputs": key})
        return outputs


def _runtime(model: SentenceTransformer) -> str:
    """What decides a model's output to the bit: its weights, the device and the kernels of this torch."""
    return f"{fingerprint(model)[:32]}-{model.device.type}-{torch.__version__}"


def _kept(file: Path, key: str) -> np.ndarray | None:
    """An array of the cache, mapped into memory copy on write; None when there is none that is whole.

    Args:
        file: of the cache.
        key: hash of the inputs. What the file tells must be this and nothing else: damage could else make of it one of
            those files without a hash that `read_tensors` takes.
    """
    if not file.is_file():
        return None
    with contextlib.suppress(InputError):
        tensors, about = read_tensors(file, "")
        if about == {"inputs": key} and ENCODINGS in tensors:
            return tensors[ENCODINGS].numpy()  # type: ignore[no-any-return]
    with contextlib.suppress(OSError):  # damaged: encode it again
        file.unlink()
    return None


def cache_folder() -> Path:
    """Where encodings are kept between runs."""
    return Path(os.environ.get("CONTRASTOK_CACHE") or platformdirs.user_cache_dir("contrastok"))


def special_frame(tokenizer: PreTrainedTokenizerFast) -> Callable[[list[int]], list[int]]:
    """A function that puts a sequence of ids between the tokenizer's special tokens ([CLS] ... [SEP])."""
    probe = tokenizer("a", add_special_tokens=False)["input_ids"]
    framed = tokenizer("a")["input_ids"]
    start = next(i for i in range(len(framed)) if framed[i : i + len(probe)] == probe)
    before, after = framed[:start], framed[start + len(probe) :]
    return lambda ids: [*before, *ids, *after]


def collate(
    tokenizer: PreTrainedTokenizerFast, sequences: Sequence[Sequence[int]], device: Any
) -> dict[str, torch.Tensor]:
    """Pad id sequences on the tokenizer's side to one batch.

    Returns:
        input_ids and attention_mask, int64 `[B, T]` on `device`.
    """
    width = max(map(len, sequences))
    pad = tokenizer.pad_token_id or 0
    left = tokenizer.padding_side == "left"
    ids, mask = [], []
    for sequence in sequences:
        gap = width - len(sequence)
        ids.append([pad] * gap + list(sequence) if left else list(sequence) + [pad] * gap)
        mask.append([0] * gap + [1] * len(sequence) if left else [1] * len(sequence) + [0] * gap)
    features = {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}
    if "token_type_ids" in tokenizer.model_input_names:
        features["token_type_ids"] = torch.zeros_like(features["input_ids"])
    return {name: tensor.to(device) for name, tensor in features.items()}


@torch.no_grad()
def encode_sequences(
    model: SentenceTransformer, tokenizer: PreTrainedTokenizerFast, sequences: Sequence[Sequence[int]]
) -> np.ndarray:
    """Sentence embeddings of finished id sequences, in batches of similar length.

    Returns:
        float32 `[len(sequences), dim]`, rows of norm 1, in the order given.
    """
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    outputs: list[np.ndarray | None] = [None] * len(sequences)
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        features = collate(tokenizer, [sequences[i] for i in chosen], model.device)
        pooled = F.normalize(model(features)["sentence_embedding"].float(), dim=-1).cpu().numpy()
        for i, row in zip(chosen, pooled, strict=True):
            outputs[i] = row
    return np.stack([row for row in outputs if row is not None])
