"""The same pairs for every trainer of `benchmarks.train_step`, and the model that all of them start from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from benchmarks import SHARED
from benchmarks.disease_data import read_records, write_terms
from contrastok.config import GenPairsConfig
from contrastok.data_gen.pipeline import gen_pairs
from contrastok.export import init_context
from contrastok.initializers import initial_rows
from contrastok.models import input_embedding, load_model, tokenizer_fingerprint, transformer
from contrastok.overlay import merge
from contrastok.pairs import PairTable, read_pairs
from contrastok.vocabulary import VocabularyPlan, extend_tokenizer, plan_vocabulary

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedTokenizerFast

MODELS = {"minilm": 0, "minilm-250k": 250_037}
"""Rows of the embedding table: its own, or as many as multilingual MiniLM has, around the same body."""
TEMPERATURE = 0.05


@dataclass(frozen=True)
class Lesson:
    """What a trainer gets.

    Attributes:
        base: folder of the model without the new tokens.
        merged: folder of a stock model that has them, at their initial rows.
        terms: the new tokens.
        pairs: each with its own anchor, which holds a new token; positive and negatives hold none.
    """

    base: Path
    merged: Path
    terms: tuple[str, ...]
    pairs: PairTable

    def plan(self, tokenizer: PreTrainedTokenizerFast) -> VocabularyPlan:
        """The new tokens in the tokenizer of `base`."""
        return plan_vocabulary(tokenizer, self.terms)


def prepare(folder: Path, model: str, terms: int, count: int) -> Lesson:
    """Disease names in sentences of MedQuAD, with their definitions and one hard negative.

    Args:
        folder: where the models go.
        model: a key of MODELS.
        terms: new tokens.
        count: pairs at most.
    """
    write_terms(read_records(SHARED, terms), folder / "terms.jsonl")
    gen_pairs(
        GenPairsConfig(
            terms=(folder / "terms.jsonl",),
            corpus=(str(SHARED / "medquad" / "medquad.jsonl.gz"),),
            text_field="answer",
            kinds=("context-definition",),
            out=folder / "pairs",
            negatives=1,
            max_sentences=max(4, 2 * count // terms),
            known_sentences=0,
            hold_out=0.0,
            quiet=True,
        )
    )
    base = load_model("minilm")
    if MODELS[model]:
        widen(base, MODELS[model])
    base.save_pretrained(str(folder / "base"))
    pairs = read_pairs(folder / "pairs", tokenizer_fingerprint(base.tokenizer))
    plan = plan_vocabulary(base.tokenizer, list(dict.fromkeys(pairs.token)))
    extended = extend_tokenizer(base.tokenizer, plan)
    chosen = clean(pairs, extended, set(plan.ids), count)
    merge(base, plan, initial_rows("charlen_mean", init_context(base, plan)), extended)
    base.save_pretrained(str(folder / "merged"))
    return Lesson(folder / "base", folder / "merged", plan.terms, chosen)


@torch.no_grad()
def widen(model: SentenceTransformer, rows: int) -> None:
    """Give a model a table of so many rows; the further ones are copies that no text reaches."""
    old = input_embedding(model)
    table = old.weight.repeat(-(-rows // len(old.weight)), 1)[:rows].clone()
    transformer(model).set_input_embeddings(nn.Embedding.from_pretrained(table, padding_idx=old.padding_idx))
    transformer(model).config.vocab_size = rows


def clean(pairs: PairTable, extended: PreTrainedTokenizerFast, new: set[int], count: int) -> PairTable:
    """Pairs whose anchor is seen once and holds a new token, and whose other texts hold none; spread over all terms."""

    def holds(texts: list[str]) -> list[bool]:
        return [not new.isdisjoint(ids) for ids in extended(texts, verbose=False)["input_ids"]]

    negatives = [found[0] if found else "" for found in pairs.negatives]
    told = zip(holds(pairs.anchor), holds(pairs.positive), holds(negatives), negatives, strict=True)
    fit = [i for i, (anchor, *others, negative) in enumerate(told) if anchor and not any(others) and negative]
    first = list({pairs.anchor[i]: i for i in reversed(fit)}.values())[::-1]
    step = max(1, len(first) // count)
    kept = first[::step][:count]
    columns = {name: [getattr(pairs, name)[i] for i in kept] for name in ("token", "anchor", "positive", "kind")}
    return PairTable(**columns, negatives=[[negatives[i]] for i in kept], about={}, sha256="")
