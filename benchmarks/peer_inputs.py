"""What published functions and ours are given alike: MiniLM, disease names, word vectors and a donor of medical text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from benchmarks import SHARED
from benchmarks.disease_data import read_records
from benchmarks.step_data import Lesson, prepare
from contrastok.auxiliary import Auxiliary, auxiliary
from contrastok.bank import FrozenEncoder
from contrastok.data_gen.corpus import read_corpus
from contrastok.data_gen.sentences import split_sentences
from contrastok.donor import donor_vectors
from contrastok.export import init_context
from contrastok.initializers import InitContext, InitOptions, initial_rows
from contrastok.initializers.linear_alignment import rows_of
from contrastok.models import load_model
from contrastok.vocabulary import encode_plain, extend_tokenizer, plan_vocabulary
from contrastok.word_vectors import DIMENSION, train_word_vectors

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

DONOR = 8_000
"""Entries of the donor's vocabulary."""
STEP_TERMS, STEP_PAIRS = 100, 320
"""New tokens and pairs of the batch whose gradient is compared, as in `benchmarks.train_step`."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """What every comparison looks at.

    Attributes:
        model: its name or folder.
        context: with tokenizers, text, and a donor.
        lesson: pairs for a step of training; None where no step is compared.
    """

    model: str
    context: InitContext
    lesson: Lesson | None = None

    @cached_property
    def table(self) -> torch.Tensor:
        """The old rows, float32 `[V, d]`."""
        return self.context.table.detach().float().cpu()

    @cached_property
    def words(self) -> Auxiliary:
        """Word vectors trained on the text."""
        return auxiliary(self.context, "words")

    @cached_property
    def tokens(self) -> Auxiliary:
        """Vectors trained on the text in tokens."""
        return auxiliary(self.context, "tokens")

    @cached_property
    def donor(self) -> Auxiliary:
        """Rows of the donor."""
        return donor_vectors(self.context)

    def known_rows(self, space: Auxiliary) -> torch.Tensor:
        """The anchors' rows, float64 `[a, d]`."""
        return rows_of(self.context, space)

    def ours(self, init: str) -> torch.Tensor:
        """The rows that `--init` gives, float32 `[n, d]`."""
        return initial_rows(init, self.context).cpu()


def told(space: Auxiliary) -> torch.Tensor:
    """Which terms have a vector, bool `[n]`."""
    return space.new.isfinite().all(dim=-1)


def real_inputs(folder: Path, model: str, terms: int, documents: int = 0) -> Inputs:
    """Names of rare diseases and the answers of MedQuAD.

    Args:
        folder: where the donor and the models of the step go.
        model: what gets the names.
        terms: names.
        documents: answers that are read; all when 0.
    """
    answers = [one.text for one in read_corpus([str(SHARED / "medquad" / "medquad.jsonl.gz")], "answer")]
    answers = answers[: documents or None]
    sentences = tuple(dict.fromkeys(sentence for answer in answers for sentence in split_sentences(answer)))
    names = [record["word"] for record in read_records(SHARED, terms)]
    lesson = prepare(folder, "minilm", STEP_TERMS, STEP_PAIRS)
    return make_inputs(model, names, sentences, folder / "donor", lesson)


def make_inputs(model: str, terms: Sequence[str], texts: Sequence[str], donor: Path, lesson: Lesson | None) -> Inputs:
    """The same of any model, terms and texts.

    Args:
        model: its name or folder.
        terms: to add.
        texts: different sentences.
        donor: a folder for the donor, made anew.
        lesson: see `Inputs`.
    """
    loaded = load_model(model)
    tokenizer = loaded.tokenizer
    plan = plan_vocabulary(tokenizer, terms)
    write_donor(donor, tokenizer, texts)
    context = replace(
        init_context(loaded, plan),
        extended=extend_tokenizer(tokenizer, plan),
        encoder=FrozenEncoder(loaded, tokenizer),  # keeps what was trained for the next run
        texts=tuple(texts),
        options=InitOptions(model=str(donor)),
    )
    return Inputs(model, context, lesson)


def write_donor(folder: Path, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> None:
    """A model with another vocabulary and another space: a tokenizer of the text, and word vectors of its tokens as rows.

    Only its rows are ever looked at; the body around them is as it was drawn.

    Args:
        folder: where to.
        tokenizer: of the kind that is trained.
        texts: what on.
    """
    from transformers import BertConfig, BertModel

    own = tokenizer.train_new_from_iterator(iter(texts), DONOR, show_progress=False)
    names = own.convert_ids_to_tokens(range(len(own)))
    trained = dict(train_word_vectors([[names[i] for i in ids] for ids in encode_plain(own, texts)], 0))
    config = BertConfig(
        vocab_size=len(own),
        hidden_size=DIMENSION,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=DIMENSION,
        pad_token_id=own.pad_token_id,
    )
    body = BertModel(config)
    with torch.no_grad():
        for i, name in enumerate(names):
            body.embeddings.word_embeddings.weight[i] = torch.tensor(trained[name]) if name in trained else 0.0
    body.save_pretrained(folder)
    own.save_pretrained(folder)
