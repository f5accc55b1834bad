from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from contrastok.bank import FrozenEncoder
from contrastok.candidates import candidates
from contrastok.evidence import WordEvidence
from contrastok.export import init_context
from contrastok.initializers import InitContext
from contrastok.models import load_model
from contrastok.vocabulary import extend_tokenizer, plan_vocabulary
from tests.conftest import kitchen_lines

TERMS = ("zorblaxin", "brimwax", "quib vexalotl")
TOLD = {
    "zorblaxin": ("a hard cheese from the hills", ("hill cheese",), ("nosuchthing", "cheese")),
    "brimwax": ("a long knife for the bread", ("knife",), ("cheese",)),
    "quib vexalotl": ("", (), ()),
}
SENTENCES = {
    "zorblaxin": ("We bought zorblaxin at the market.", "Zorblaxin is on the table, with salt."),
    "brimwax": ("Cut the bread with a brimwax", "The cook likes her brimwax and a pan."),
    "quib vexalotl": ("A bowl of quib vexalotl and water.", "Heat the quib vexalotl for an hour."),
}


@pytest.fixture(scope="session")
def make_context(make_model: Callable[..., Path]) -> Callable[[str], InitContext]:
    """A function family -> all that an initialiser may look at, for a tiny model; nothing is cached on disk."""
    made: dict[str, InitContext] = {}

    def make(family: str) -> InitContext:
        if family not in made:
            made[family] = _context(make_model(family))
        return made[family]

    return make


def _context(folder: Path) -> InitContext:
    model = load_model(str(folder))
    plan = plan_vocabulary(model.tokenizer, TERMS)
    assert plan.terms == TERMS
    lines = kitchen_lines()
    words = [word for word in candidates(model.tokenizer).words if word.isalpha() and len(word) > 2]
    known = [
        WordEvidence(word, True, f"what is like {word[::-1]}", (), (), tuple(held[:2]), 1.0)
        for word in words
        if (held := [line for line in lines if f" {word} " in line])
    ]
    terms = [
        WordEvidence(term, False, definition, synonyms, broader, SENTENCES[term])
        for term, (definition, synonyms, broader) in TOLD.items()
    ]
    context = init_context(model, plan, seed=3)
    predicted = torch.randn(len(TERMS), context.table.shape[1], generator=torch.Generator().manual_seed(1))
    return dataclasses.replace(
        context,
        predicted=predicted,
        extended=extend_tokenizer(model.tokenizer, plan),
        encoder=FrozenEncoder(model, model.tokenizer, cache=False),
        evidence=(*terms, *known),
        texts=tuple(text for word in (*terms, *known) for text in word.sentences),
    )
