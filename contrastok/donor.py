"""Another local model's rows, as vectors for old tokens and new terms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from contrastok.auxiliary import Auxiliary, usable
from contrastok.candidates import Candidates, candidates
from contrastok.errors import ModelError
from contrastok.models import input_embedding, load_model, load_tokenizer, resolve
from contrastok.vocabulary import pieces_of

if TYPE_CHECKING:
    from contrastok.initializers.context import InitContext


TAKES = "--init-model takes the folder of a local model, or minilm"


def donor_folder(name: str) -> str:
    """The folder of the model that `--init-model` names.

    Raises:
        ModelError: there is no such local model.
    """
    try:
        folder = resolve(name)
    except ModelError as error:
        hint = "; ".join(part for part in (error.hint, TAKES) if part)
        raise ModelError(error.what, where=f"--init-model {name}", hint=hint) from None
    if not Path(folder).is_dir():
        raise ModelError("is no local model", where=f"--init-model {name}", hint=TAKES)
    return folder


def check_donor(context: InitContext) -> None:
    """Refuse a donor that is no local model or has no fast tokenizer; its weights are not read.

    Raises:
        ModelError: says what is wrong with it.
    """
    assert context.options.model is not None  # a need of the methods
    donor_folder(context.options.model)
    load_tokenizer(context.options.model)


def donor_vectors(context: InitContext) -> Auxiliary:
    """Rows of the model that `--init-model` names: a SentenceTransformer's or a Hugging Face folder.

    Old tokens and the donor's are the same where they are the same word (`shared_words`): whole words, without the
    marks by which WordPiece, SentencePiece and byte-level BPE tell them from parts of words. A term has the donor's own
    row where it is one token there, and else the mean of the rows of its pieces there. The donor's output for it would
    lie in another space than the rows that a map is fitted on.

    Raises:
        ModelError: there is no such local model, or it has no table or fast tokenizer.
        InputError: the vocabularies share no word.
    """
    assert context.options.model is not None and context.tokenizer is not None  # needs of the methods
    name = context.options.model
    donor_folder(name)
    model = load_model(name)
    rows = input_embedding(model).weight.detach().double()
    ours, theirs = shared_words(candidates(context.tokenizer), candidates(model.tokenizer))
    split = pieces_of(model.tokenizer, context.terms)
    unknown = model.tokenizer.unk_token_id
    new = [_mean(rows, [] if unknown in ids else ids) for ids in split]
    return usable(context, torch.tensor(ours, dtype=torch.int64), rows[theirs], torch.stack(new), name)


def _mean(rows: torch.Tensor, ids: Sequence[int]) -> torch.Tensor:
    return rows[list(ids)].mean(0) if ids else torch.full_like(rows[0], torch.nan)


def shared_words(ours: Candidates, theirs: Candidates) -> tuple[list[int], list[int]]:
    """Ids of the words that two vocabularies share, one entry of each to one of the other, by ascending id of ours.

    The same spelling goes before one that differs in case alone ("Paris" in a model that knows "paris" only).
    """
    exact = dict(zip(reversed(theirs.words), reversed(theirs.ids), strict=True))
    folded = dict(zip((word.casefold() for word in reversed(theirs.words)), reversed(theirs.ids), strict=True))
    pairs: dict[int, int] = {}
    for word, i in zip(ours.words, ours.ids, strict=True):
        if word in exact and exact[word] not in pairs:
            pairs[exact[word]] = i
    for word, i in zip(ours.words, ours.ids, strict=True):
        other = folded.get(word.casefold())
        if word not in exact and other is not None:
            pairs.setdefault(other, i)
    found = sorted((mine, other) for other, mine in pairs.items())
    return [mine for mine, _ in found], [other for _, other in found]
