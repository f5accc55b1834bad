"""Can every term become a token, and do terms get into each other's way?"""

from __future__ import annotations

from collections.abc import Iterator

import ahocorasick_rs

from contrastok.data_gen.matcher import stands_alone
from contrastok.doctor.case import Case
from contrastok.doctor.finding import Finding, State, check, named


@check("terms")
def become_tokens(case: Case) -> Iterator[Finding]:
    """Terms that are a token already, are the same as another one, or cannot be added."""
    plan = case.words.plan
    added = f"{len(plan.terms):,} terms become tokens ({plan.family}, mode {plan.mode})"
    if not plan.skipped:
        yield Finding("terms", "ok", added)
        return
    left_out = named([f"{item.term!r} {item.reason}" for item in plan.skipped])
    advice = "take them off the list" + ("" if case.config.strict else ", or leave it: they do no harm")
    state: State = "problem" if case.config.strict else "warning"
    yield Finding("terms", state, f"{added}, {len(plan.skipped):,} do not{left_out}", advice)


@check("collisions")
def overlap(case: Case) -> Iterator[Finding]:
    """Terms that stand in other terms: as words of their own, or, where that can matter, as a part of one."""
    plan, fold = case.words.plan, case.words.fold
    whole: list[str] = []
    part: list[str] = []
    for inner, outer, alone in _contained({term: fold.key(term) for term in plan.terms}):
        (whole if alone else part).append(f"{inner!r} in {outer!r}")
    if whole:
        detail = f"{len(whole):,} terms stand in a longer one, whose token takes their place there{named(whole)}"
        yield Finding("collisions", "warning", detail, "fine if that is meant: the longer term learns for itself")
    if part and plan.mode == "vocab":
        detail = f"{len(part):,} terms are a part of a longer word that is a term, too{named(part)}"
        yield Finding("collisions", "warning", detail, "use --token-mode added, which matches whole words alone")
    if not whole and (not part or plan.mode == "added"):
        parts = f"; {len(part):,} are a part of a longer word, which matters not to whole words" if part else ""
        yield Finding("collisions", "ok", f"no term stands in another one{parts}")


def _contained(keys: dict[str, str]) -> Iterator[tuple[str, str, bool]]:
    """Inner term, outer term, and whether the inner one is a word of its own there."""
    terms = list(keys)
    automaton = ahocorasick_rs.AhoCorasick([keys[term] for term in terms])
    for outer, key in keys.items():
        hits = automaton.find_matches_as_indexes(key, overlapping=True)
        places: dict[str, bool] = {}
        for pattern, start, end in hits:
            if terms[pattern] != outer:
                places[terms[pattern]] = places.get(terms[pattern], False) or stands_alone(key, start, end)
        yield from ((inner, outer, alone) for inner, alone in places.items())
