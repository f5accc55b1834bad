"""Does the extended tokenizer give every term its token, and every other text what it gave before?"""

from __future__ import annotations

from collections.abc import Iterator

from contrastok.data_gen.evidence import NOT_ENCODED
from contrastok.doctor.case import Case
from contrastok.doctor.finding import Finding, State, check, named
from contrastok.vocabulary import encode_plain

ADVICE = {
    "reachable": "leave the named terms out",
    "collateral": "use --token-mode added, or leave out the terms that stand in the named texts",
    "round trip": "nothing, if nobody decodes texts with these tokens; else use the other --token-mode",
    "save and reload": "the tokenizer's files cannot say what it does: take another --model",
    "never longer": "leave out the terms that stand in the named texts",
    "embedding table": "the tokenizer gives ids twice: take another --model",
}
"""What to do when a check of the gate fails, by the beginning of its name."""


@check("gate")
def gate(case: Case) -> Iterator[Finding]:
    """The gate that train lets the tokenizer through, check by check."""
    failed = case.gate.failed(case.words.plan.mode, case.config.strict)
    for found in case.gate.checks:
        state: State = "ok" if found.passed else "problem" if found in failed else "warning"
        advice = next(text for name, text in ADVICE.items() if found.name.startswith(name))
        yield Finding(found.name, state, found.detail, "" if found.passed else advice)


@check("in your sentences")
def reached(case: Case) -> Iterator[Finding]:
    """Whether tokenising the sentences that hold a term gives its id."""
    never: list[str] = []
    seldom: list[str] = []
    texts = 0
    for term, sentences in case.sentences.items():
        ids = set(case.words.plan.ids_of(term))
        hits = sum(not ids.isdisjoint(found) for found in encode_plain(case.extended, sentences))
        texts += len(sentences)
        if hits < len(sentences):
            (seldom if hits else never).append(f"{term!r} in {hits} of {len(sentences)}")
    lost = case.mined[0].dropped[NOT_ENCODED] if case.mined else 0
    advice = "another term or the tokenizer's own splitting takes their text; look at these sentences"
    if never:
        yield Finding(
            "in your sentences", "problem", f"{len(never):,} terms never become their token{named(never)}", advice
        )
    if seldom or lost:
        detail = f"{len(seldom):,} terms do not always become their token{named(seldom)}"
        detail += f"; {lost:,} sentences of the corpus were left out for it" if lost else ""
        yield Finding("in your sentences", "warning", detail, advice)
    if texts and not (never or seldom or lost):
        yield Finding("in your sentences", "ok", f"every term is its token in all {texts:,} texts that hold it")
