from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from contrastok.evidence import WordEvidence
from contrastok.hiding import pieces_of
from contrastok.initializers import InitContext, initial_rows

Context = Callable[[str], InitContext]


def telling(context: InitContext, said: list[str], **told: tuple[str, tuple[str, ...], tuple[str, ...]]) -> InitContext:
    """The context with other evidence of its terms."""
    words = tuple(WordEvidence(term, False, *told.get(term, ("", (), ())), ()) for term in context.terms)
    return replace(context, evidence=words, tell=said.append)


def test_definition_mean_drops_what_only_gives_form(make_context: Context) -> None:
    said: list[str] = []
    context = telling(
        make_context("wordpiece"), said, zorblaxin=("The cheese, with the salt!", (), ()), brimwax=("of the", (), ())
    )
    cheese, salt = (ids[0] for ids in pieces_of(context.tokenizer, ["cheese", "salt"]))  # type: ignore[arg-type]
    rows = initial_rows("definition_mean", context)
    torch.testing.assert_close(rows[0], context.table.detach()[[cheese, salt]].mean(0))
    assert torch.equal(rows[1:], initial_rows("charlen_mean", context)[1:])
    assert said == [
        "definition_mean knows nothing of 2 of 3 terms (brimwax, quib vexalotl); they start at charlen_mean."
    ]


@pytest.mark.parametrize("family", ["wordpiece", "byte-bpe", "unigram"])
def test_copy_takes_the_first_name_that_is_one_token(make_context: Context, family: str) -> None:
    said: list[str] = []
    context = telling(
        make_context(family),
        said,
        zorblaxin=("", ("hard cheese", "nosuchthing"), ("cheese", "salt")),
        brimwax=("", ("cheese",), ("salt",)),
    )
    [(cheese,)] = pieces_of(context.tokenizer, ["cheese"])  # type: ignore[arg-type]
    rows, row = initial_rows("copy", context), context.table.detach()[cheese]
    assert ((rows[:2] - row).abs() < 0.06 * context.table.detach().std(0)).all()
    assert not torch.equal(rows[0], rows[1]), "two terms that copy one row can be told apart"
    assert said[0].startswith("copy knows nothing of 1 of 3 terms (quib vexalotl)")
    assert not torch.equal(rows[0], initial_rows("copy", replace(context, seed=4))[0])


def test_copy_never_takes_what_the_model_does_not_know(make_context: Context) -> None:
    said: list[str] = []
    context = telling(make_context("wordpiece"), said, zorblaxin=("", ("☃", "[MASK]"), ()))
    assert context.tokenizer is not None
    assert pieces_of(context.tokenizer, ["☃", "[MASK]"]) == [
        (context.tokenizer.unk_token_id,),
        (context.tokenizer.mask_token_id,),
    ]
    initial_rows("copy", context)
    assert said[0].startswith("copy knows nothing of 3 of 3 terms")
