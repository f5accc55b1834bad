"""What an initialiser may look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from contrastok.evidence import WordEvidence

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from contrastok.bank import FrozenEncoder
    from contrastok.vocabulary import VocabularyPlan


@dataclass(frozen=True)
class InitOptions:
    """The options `--init-*`.

    Attributes:
        norm: policy for the norms of the rows, see `norms.py`.
        vectors: a file of auxiliary word vectors.
        model: a local model whose rows are carried over.
        sentences: looked at for each known word; four times as many for a term.
        dimension: coordinates that `ofa` keeps of the factorised table; all when None.
        hypernet: a folder that `contrastok train-hypernet` wrote; without it one is trained and cached.
    """

    norm: str = "keep"
    vectors: Path | None = None
    model: str | None = None
    sentences: int = 4
    dimension: int | None = None
    hypernet: Path | None = None


@dataclass(frozen=True)
class InitContext:
    """What an initialiser may look at. Only the first four are always there; a method names the others it needs.

    Attributes:
        table: the base model's embedding table, `[V, d]`, any float dtype; never changed.
        terms: the terms, in order of their rows, `n` of them.
        pieces: for each term, the ids of its original tokens as they stand in running text.
        lengths: for each term, the characters that each piece covers.
        seed: for methods that draw.
        options: what the user chose.
        predicted: the rows that a predictor gives, `[n, d]`, where one was learned.
        tokenizer: the tokenizer before extension.
        plan, extended: the new tokens, and the tokenizer that has them.
        encoder: the frozen model on the tokenizer before.
        evidence: of the terms and of words that the model knows, as gen-pairs wrote it.
        texts: different sentences of the user's text, in order of first appearance.
        tell: says a sentence to the user.
    """

    table: torch.Tensor
    terms: tuple[str, ...]
    pieces: tuple[tuple[int, ...], ...]
    lengths: tuple[tuple[int, ...], ...]
    seed: int = 0
    options: InitOptions = field(default_factory=InitOptions)
    predicted: torch.Tensor | None = None
    tokenizer: PreTrainedTokenizerFast | None = None
    plan: VocabularyPlan | None = None
    extended: PreTrainedTokenizerFast | None = None
    encoder: FrozenEncoder | None = None
    evidence: tuple[WordEvidence, ...] = ()
    texts: tuple[str, ...] = ()
    tell: Callable[[str], None] = lambda sentence: None

    @property
    def space(self) -> Path | tuple[str, ...]:
        """What auxiliary vectors come from: the user's file, or else sentences to train some on."""
        return self.options.vectors or self.texts

    def lacks(self, need: str) -> bool:
        """Whether something that a method needs (a key of `NEEDS`) was not given."""
        value = getattr(self, need, None) if hasattr(self, need) else getattr(self.options, need)
        return value is None or (isinstance(value, tuple) and not value)

    def old_rows(self) -> torch.Tensor:
        """The rows that a token has, float32 `[V, d]`; those that pad the table say nothing and are left out."""
        rows = self.table if self.tokenizer is None else self.table[: len(self.tokenizer)]
        return rows.detach().float()

    def of_terms(self) -> list[WordEvidence]:
        """The evidence of each term, in their order; empty evidence where there is none."""
        told = {word.token: word for word in self.evidence if not word.known}
        return [told.get(term, WordEvidence(term, False, "", (), (), ())) for term in self.terms]


@dataclass(frozen=True)
class Need:
    """What a method cannot do without, in words, how to give it, and the option of train that does, if there is one."""

    what: str
    hint: str
    option: str = ""


_PAIRS = "run it through train --pairs, with what gen-pairs wrote"
NEEDS = {
    "predicted": Need("the evidence that gen-pairs writes", "use it with train --pairs"),
    "tokenizer": Need("the model's tokenizer", _PAIRS),
    "plan": Need("the new tokens", _PAIRS),
    "extended": Need("the tokenizer with the new tokens", _PAIRS),
    "space": Need("word vectors, or text to train some on", f"give --init-vectors FILE, or {_PAIRS}", "init_vectors"),
    "encoder": Need("the model itself", _PAIRS),
    "evidence": Need("evidence of terms and known words", _PAIRS),
    "texts": Need("sentences", _PAIRS),
    "vectors": Need("a file of word vectors", "give --init-vectors FILE", "init_vectors"),
    "model": Need("another model, whose rows are carried over", "give --init-model FOLDER", "init_model"),
}
"""What methods may name in `needs`."""
