"""Can the model be loaded, and is its table sound?"""

from __future__ import annotations

from collections.abc import Iterator

from contrastok.doctor.case import Case
from contrastok.doctor.finding import Finding, check
from contrastok.models import input_embedding, transformer
from contrastok.objectives import OBJECTIVES
from contrastok.token_modes import tokenizer_family


@check("model")
def loads(case: Case) -> Iterator[Finding]:
    """The model, its tokenizer and its table."""
    model = case.model
    OBJECTIVES[case.train.objective].build.check(model, case.train)
    table, tokens = input_embedding(model).weight, len(model.tokenizer)
    broken = int((~table.isfinite().all(dim=1)).sum())
    if tokens > len(table):
        advice = "give the model its own tokenizer, or resize its table"
        detail = f"the tokenizer has {tokens:,} tokens, the embedding table {len(table):,} rows"
        yield Finding("model", "problem", detail, advice)
    elif broken:
        yield Finding("model", "problem", f"{broken:,} rows of the table hold NaN or infinity", "take another --model")
    else:
        family = tokenizer_family(model.tokenizer.backend_tokenizer)
        name = type(transformer(model)).__name__
        yield Finding("model", "ok", f"{name}, {len(table):,} rows of {table.shape[1]:,}, {family} tokenizer")
