"""Another tokenizer for a model: which of its rows exist already, and how the new table gets into the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from contrastok.errors import ModelError
from contrastok.lm_head import Seq2SeqHead
from contrastok.models import input_embedding, language_head, transformer
from contrastok.token_modes import tokenizer_family
from contrastok.token_text import READERS, Splitter, TokenText, token_texts

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedTokenizerFast

ROLES = {
    "cls": ("cls", "bos"),
    "sep": ("sep", "eos"),
    "mask": ("mask",),
    "unk": ("unk",),
    "bos": ("bos", "cls"),
    "eos": ("eos", "sep"),
    "pad": ("pad",),
}
"""What a special token is for, and which roles of the old tokenizer's do the same, best first. A token with two roles
goes by the first of them in this list."""


ONE_TABLE = (
    "only models whose input table alone has a row for each token can get another tokenizer: save its body alone "
    "(model.base_model.save_pretrained), or tie its head"
)


@dataclass(frozen=True)
class TransferPlan:
    """Where each row of the new table comes from.

    Attributes:
        size: rows of the new table.
        copied: old id by new id.
        predicted: ids of tokens that the old tokenizer writes in several pieces, ascending.
        texts: what these stand for.
        pieces: old ids of the pieces of each.
        lengths: characters that each piece covers.
        lost: ids of which the old tokenizer knows nothing (and unused ids), ascending.
        same_frame: whether both tokenizers put the same special tokens around a text.
    """

    size: int
    copied: Mapping[int, int]
    predicted: tuple[int, ...]
    texts: tuple[str, ...]
    pieces: tuple[tuple[int, ...], ...]
    lengths: tuple[tuple[int, ...], ...]
    lost: tuple[int, ...]
    same_frame: bool

    def table(self, old: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """The new table: copied rows to the bit, predicted ones, and the mean of the old rows for what is lost.

        Args:
            old: the old table, `[V, d]`.
            rows: of the predicted tokens, `[len(predicted), d]`.

        Returns:
            `[size, d]` in the dtype of the old table.
        """
        new = old.float().mean(0).to(old).repeat(self.size, 1)
        new[list(self.copied)] = old[list(self.copied.values())]
        new[list(self.predicted)] = rows.to(old)
        return new


def plan_transfer(old: PreTrainedTokenizerFast, new: PreTrainedTokenizerFast) -> TransferPlan:
    """Find the rows that a new tokenizer's tokens have already.

    Special tokens go by their role. Any other token is copied where both tokenizers write the same string with the same
    marks, or where the old tokenizer writes its text, in its place (after a space or within a word), as one token.
    """
    copied = {**_same_strings(old, new), **_special(old, new)}
    splitter, sizes = Splitter(old), token_texts(old)
    added = {str(token): i for i, token in old.backend_tokenizer.get_added_tokens_decoder().items()}
    several: dict[int, tuple[str, tuple[int, ...]]] = {}
    for i, told in token_texts(new).items():
        if i in copied:
            continue
        pieces = (added[told.text],) if told.text in added and told.starts else splitter.pieces(told)
        if len(pieces) == 1:
            copied[i] = pieces[0]
        elif pieces:
            several[i] = (told.text, pieces)
    size = max(new.get_vocab().values()) + 1
    one = TokenText(" ", False)
    return TransferPlan(
        size,
        dict(sorted(copied.items())),
        tuple(several),
        tuple(text for text, _ in several.values()),
        tuple(pieces for _, pieces in several.values()),
        tuple(tuple(len(sizes.get(i, one).text) for i in pieces) for _, pieces in several.values()),
        tuple(i for i in range(size) if i not in copied and i not in several),
        _frame(old) == [copied.get(i) for i in _frame(new)],
    )


def _same_strings(old: PreTrainedTokenizerFast, new: PreTrainedTokenizerFast) -> dict[int, int]:
    """Tokens that both vocabularies hold, if both write with the same marks; reserved ones and bytes are among them."""
    families = [tokenizer_family(tokenizer.backend_tokenizer) for tokenizer in (old, new)]
    known = old.get_vocab()
    if READERS[families[0]] is not READERS[families[1]]:
        return {}
    return {i: known[token] for token, i in new.get_vocab().items() if token in known}


def _special(old: PreTrainedTokenizerFast, new: PreTrainedTokenizerFast) -> dict[int, int]:
    """Special tokens: those with a role by it, others where the old tokenizer has the same one."""
    known = old.get_vocab()
    found = {new.convert_tokens_to_ids(token): known[token] for token in new.all_special_tokens if token in known}
    by_role: dict[int, int] = {}
    for role, same in ROLES.items():
        own = getattr(new, f"{role}_token_id", None)
        others = (getattr(old, f"{name}_token_id", None) for name in same)
        other = next((i for i in others if i is not None), None)
        if own is not None and other is not None:
            by_role.setdefault(own, other)
    return found | by_role


def _frame(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """The special tokens around a text, in order."""
    return list(tokenizer("")["input_ids"])


def require_replaceable(model: SentenceTransformer, new: PreTrainedTokenizerFast) -> None:
    """Refuse a model or a tokenizer for which a new table would not be all that changes.

    Raises:
        ModelError: says what is in the way.
    """
    body, embedding = transformer(model), input_embedding(model)
    if not hasattr(model[0], "processor") or model[0].processor is not model.tokenizer:
        raise ModelError("reads more than text, or keeps its tokenizer elsewhere", where=type(model[0]).__name__)
    table = embedding.weight
    head = language_head(model)
    if head is not None and (not head.tied or head.linear.bias is not None or isinstance(head, Seq2SeqHead)):
        raise ModelError("has an output head with rows of its own", where=type(body).__name__, hint=ONE_TABLE)
    for name, tensor in body.named_parameters():
        if tensor.shape[:1] == table.shape[:1] and tensor.data_ptr() != table.data_ptr():
            raise ModelError(f"its {name} has a row for each token too", where=type(body).__name__, hint=ONE_TABLE)
    if new.pad_token_id is None:
        raise ModelError("the new tokenizer has no padding token", hint="give it one, and save it again")
    pad = model.tokenizer.pad_token_id
    others = (module for module in body.modules() if isinstance(module, nn.Embedding) and module is not embedding)
    if new.pad_token_id != pad and any(module.padding_idx is not None for module in others):
        raise ModelError(
            f"counts its positions from the id of its padding token, {pad}, and that of the new tokenizer is "
            f"{new.pad_token_id}",
            where=type(body).__name__,
            hint=f"train the new tokenizer with its special tokens in an order that gives the padding token id {pad}",
        )


@torch.no_grad()
def replace_tokenizer(model: SentenceTransformer, new: PreTrainedTokenizerFast, table: torch.Tensor) -> None:
    """Put a new tokenizer and its table into a model; nothing else in it changes.

    How texts are cut and padded, and which inputs the model gets, stays as the old tokenizer had it.

    Args:
        model: it is changed in place.
        new: the new tokenizer.
        table: `[V, d]`, see `TransferPlan.table`.
    """
    old, limit = model.tokenizer, model.max_seq_length
    new.padding_side, new.truncation_side = old.padding_side, old.truncation_side
    new.model_input_names, new.model_max_length = old.model_input_names, old.model_max_length
    embedding, body = input_embedding(model), transformer(model)
    embedding.weight = nn.Parameter(table, requires_grad=False)
    embedding.num_embeddings = len(table)
    if embedding.padding_idx is not None:
        embedding.padding_idx = new.pad_token_id
    body.set_input_embeddings(embedding)  # models that hold it twice must see the same table twice
    _tell_config(body.config.get_text_config(), new, len(table))
    model[0].processor = new  # what sentence-transformers reads and saves its tokenizer from
    model[0].do_lower_case = False  # the new tokenizer is taken as it is
    model.max_seq_length = limit


def _tell_config(config: Any, new: PreTrainedTokenizerFast, size: int) -> None:
    """Size and special ids, where the model's configuration names them."""
    config.vocab_size = size
    for role in ROLES:
        name = f"{role}_token_id"
        if getattr(config, name, None) is not None:
            setattr(config, name, getattr(new, name, None))
