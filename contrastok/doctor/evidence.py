"""Is there enough to learn each term from?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from contrastok.doctor.case import Case
from contrastok.doctor.finding import Finding, check, named
from contrastok.fit import MIN_WORDS
from contrastok.predictor import enough_known


@check("evidence")
def of_terms(case: Case) -> Iterator[Finding]:
    """Sentences and definition of each term."""
    if case.mined is None and case.pairs is None:
        detail = "neither --corpus nor --pairs was given: sentences were not looked for"
        yield Finding("evidence", "warning", detail, "name the text that holds the terms")
    least, defined = case.gen_pairs.min_sentences, _definitions(case)
    counts = _sentences(case)
    if not counts:
        return
    bare = [term for term, count in counts.items() if not count and not defined.get(term)]
    few = [f"{term!r} {count}" for term, count in counts.items() if count < least and (count or defined.get(term))]
    enough = len(counts) - len(bare) - len(few)
    told = f"{enough:,} of {len(counts):,} terms have {least} sentences and more{_basis(case)}"
    if bare:
        detail = f"{told}; {len(bare):,} have neither sentence nor definition{named(list(map(repr, bare)))}"
        advice = "give definitions (--glossary) or text that holds them, or take them off: nothing can be learned"
        yield Finding("evidence", "problem" if len(bare) == len(counts) else "warning", detail, advice)
    if few:
        detail = f"{told}; {len(few):,} have fewer{named(few)}"
        yield Finding("evidence", "warning", detail, "give more text; those with a definition learn from that alone")
    if not bare and not few:
        yield Finding("evidence", "ok", f"{told}, {sum(map(bool, defined.values())):,} a definition")


def _sentences(case: Case) -> Mapping[str, int]:
    """Different sentences of each term that gets a token; those of the pairs where there are any."""
    terms = case.words.plan.terms
    if case.pairs is not None:
        told = {entry["token"]: entry["sentences"] for entry in case.pairs.about.get("terms", [])}
        return {term: told.get(term, len(case.sentences[term])) for term in terms}
    return {term: found.found for term, found in case.mined[0].evidence.items()} if case.mined is not None else {}


def _definitions(case: Case) -> Mapping[str, str]:
    """Of each term what its file, a glossary or gen-pairs says."""
    own = {term.token: term.definition for term in case.words.terms}
    told = case.pairs.about.get("terms", []) if case.pairs is not None else []
    return own | {entry["token"]: entry["definition"] for entry in told if entry.get("definition")}


def _basis(case: Case) -> str:
    if case.pairs is not None or case.mined is None or case.mined[1].complete:
        return ""
    return f" in the first {case.mined[1].sample_characters:,} characters"


@check("known words")
def of_known_words(case: Case) -> Iterator[Finding]:
    """Whether the initialiser has words of the model's own to learn from, and definitions if the terms have them."""
    if case.pairs is None:
        return
    known = [word for word in case.evidence or () if word.known]
    defined = sum(bool(word.definition) for word in known)
    if not enough_known(case.evidence):
        detail = (
            f"the pairs tell of {len(known):,} words that the model knows; the predictor of rows needs {MIN_WORDS:,}"
        )
        advice = "give gen-pairs more text, or --wordnet; rows start at the mean of their pieces else"
        yield Finding("known words", "warning", detail, advice)
    elif any(_definitions(case).values()) and defined < MIN_WORDS:
        detail = (
            f"terms have definitions, but of {len(known):,} known words only {defined:,} have: too few to learn from"
        )
        yield Finding("known words", "warning", detail, "give gen-pairs a --glossary of common words, or --wordnet")
    else:
        yield Finding("known words", "ok", f"{len(known):,}, {defined:,} of them with a definition")
