"""What gen-pairs tells: one record a term for pairs.json, and the table that people read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from contrastok.console import Console
from contrastok.data_gen.estimate import Estimate
from contrastok.data_gen.evidence import Evidence
from contrastok.data_gen.known import KnownPlan
from contrastok.data_gen.pair_kinds import PAIR_KINDS, Pair
from contrastok.data_gen.relations import Relation
from contrastok.data_gen.terms import Term
from contrastok.evidence import WordEvidence
from contrastok.vocabulary import Skipped

ROWS = 40
"""Terms shown in the table; the weakest come first."""

EXAMPLES = 3
"""Sentences of a term that pairs.json quotes."""


@dataclass(frozen=True)
class TermSummary:
    """The evidence of one term, in numbers.

    Attributes:
        token: the term.
        definition: what the glossary, or the one it was looked up in, says.
        sentences: different sentences found, before the cap.
        kept: sentences used.
        generated: of these, those that a language model wrote.
        definition_generated: whether it wrote the definition.
        pairs: pairs by kind.
        negatives: different texts among the negatives.
        relations: the names of the glossary, and which of them no pair shows.
        examples: some of the sentences.
        warning: why there is too little evidence; "" when there is enough.
    """

    token: str
    definition: str
    sentences: int
    kept: int
    pairs: dict[str, int]
    negatives: int
    relations: tuple[Relation, ...]
    examples: tuple[str, ...]
    warning: str
    generated: int = 0
    definition_generated: bool = False

    def as_json(self) -> dict[str, Any]:
        """The record as it stands in pairs.json."""
        listed = {"relations": list(map(asdict, self.relations)), "examples": list(self.examples)}
        return {**asdict(self), **listed}


@dataclass(frozen=True)
class KnownSummary:
    """The evidence for words that the model has already, in numbers.

    Attributes:
        known_words: all of them.
        known_with_sentences, known_with_definition: those with at least one.
        wordnet: the folder that was used; "" when there is none.
    """

    known_words: int
    known_with_sentences: int
    known_with_definition: int
    wordnet: str


def summarise_known(plan: KnownPlan, words: Iterable[WordEvidence]) -> KnownSummary:
    """Count the evidence of the known ones among words."""
    known = [word for word in words if word.known]
    return KnownSummary(
        known_words=len(plan.words),
        known_with_sentences=sum(bool(word.sentences) for word in known),
        known_with_definition=sum(bool(word.definition) for word in known),
        wordnet=str(plan.wordnet.folder) if plan.wordnet else "",
    )


def summarise(
    term: Term, evidence: Evidence, pairs: Sequence[Pair], relations: tuple[Relation, ...], min_sentences: int
) -> TermSummary:
    """Count what was made of a term, and say what is missing."""
    counts = Counter(pair.kind for pair in pairs)
    return TermSummary(
        token=term.token,
        definition=term.definition,
        sentences=evidence.found,
        kept=len(evidence.sentences),
        pairs={kind: counts[kind] for kind in PAIR_KINDS if counts[kind]},
        negatives=len({text for pair in pairs for text in pair.negatives}),
        relations=relations,
        examples=tuple(sentence.text for sentence in evidence.sentences[:EXAMPLES]),
        warning=_warning(term, evidence, len(pairs), min_sentences),
        generated=evidence.generated,
        definition_generated=evidence.defined,
    )


def _warning(term: Term, evidence: Evidence, pairs: int, min_sentences: int) -> str:
    if pairs and evidence.found >= min_sentences:
        return ""
    found, alike = evidence.found, evidence.repeated
    kind = ("different sentence" if alike else "sentence") + "s" * (found > 1)
    parts = [f"{found} {kind} in the corpus" if found else "no sentence in the corpus"]
    if found and alike:
        parts[0] += f" ({alike} more like {'them' if found > 1 else 'it'} left out)"
    if evidence.generated:
        parts.append(f"{evidence.generated} that a language model wrote")
    if not term.definition:
        parts.append("no definition")
    if not pairs:
        parts.append("no pair could be made, so its row stays where it starts")
    return "; ".join(parts)


def clipped(text: str, length: int = 40) -> str:
    """A name as a table shows it; a term may be as long as a paragraph."""
    return text if len(text) <= length else text[: length - 1] + "…"


def print_summary(console: Console, terms: Sequence[TermSummary], skipped: Sequence[Skipped]) -> None:
    """Print the table of terms, those with too little evidence, and those left out, each with the reason."""
    ranked = sorted(terms, key=lambda t: (sum(t.pairs.values()), t.sentences, t.token))
    console.print(_table(ranked))
    if len(ranked) > ROWS:
        console.print(f"... {len(ranked) - ROWS} more in pairs.json")
    weak = [f"{term.token}: {term.warning}" for term in ranked if term.warning]
    _print_list(console, f"Too little evidence for {len(weak)} of {len(ranked)} terms", weak)
    _print_list(console, f"Left out: {len(skipped)} terms", [f"{item.term}: {item.reason}" for item in skipped])


def print_known(console: Console, known: KnownSummary) -> None:
    """Print what was found about the words that the model has already."""
    if known.known_words:
        console.print(
            f"Known words: {known.known_words:,} ({known.known_with_sentences:,} with sentences, "
            f"{known.known_with_definition:,} with a definition; {_wordnet(known)})"
        )


def _wordnet(known: KnownSummary) -> str:
    return f"WordNet: {escape(known.wordnet)}" if known.wordnet else "no WordNet"


def print_generated(console: Console, account: Mapping[str, Any], counts: Mapping[str, int]) -> None:
    """Print what a language model was asked and what came of it."""
    refused = ", ".join(f"{number} {reason}" for reason, number in account["refused"].items())
    console.print(
        f"Language model: {account['sentences']} sentences and {account['definitions']} definitions for "
        f"{account['terms_asked']} terms; {counts['requests']} requests, {counts['cached']} answers kept from before"
        + (f". Refused: {escape(refused)}" if refused else "")
    )
    silent = account["no_answer"]
    _print_list(console, f"No answer that can be read: {len(silent)} terms", silent)


def print_plan(
    console: Console, tokens: Sequence[str], skipped: Sequence[Skipped], known: KnownSummary, estimate: Estimate
) -> None:
    """Print what a dry run found out."""
    more = f" and {len(tokens) - ROWS} more" if len(tokens) > ROWS else ""
    _print_list(console, f"Would add {len(tokens)} terms", [", ".join(map(clipped, tokens[:ROWS])) + more])
    _print_list(console, f"Left out: {len(skipped)} terms", [f"{item.term}: {item.reason}" for item in skipped])
    basis = "the whole corpus" if estimate.complete else f"its first {estimate.sample_characters / 1e6:.1f} MB"
    if not estimate.size_known:
        basis += " alone, since the size of all of it is unknown"
    console.print(
        f"Corpus: {estimate.corpus_files} files, {estimate.corpus_bytes / 1e6:.1f} MB on disk. Judging by {basis}: "
        f"about {estimate.sentences} sentences with a term, none for {estimate.terms_without_sentence} terms; "
        f"reading takes {estimate.seconds:.0f} s, sentences and pairs {estimate.memory_mb:.0f} MB of memory."
    )
    if known.known_words:
        console.print(f"Would also collect evidence for {known.known_words:,} known words ({_wordnet(known)}).")


def _table(ranked: Sequence[TermSummary]) -> Table:
    kinds = [kind for kind in PAIR_KINDS if any(kind in term.pairs for term in ranked)]
    table = Table(
        title="Evidence, weakest first", title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True
    )
    table.add_column("term", no_wrap=True)
    for name in ("found", *kinds, "negatives"):
        table.add_column(_short(name), justify="right")
    for term in ranked[:ROWS]:
        counts = [term.sentences, *(term.pairs.get(kind, 0) for kind in kinds), term.negatives]
        table.add_row(escape(clipped(term.token)), *map(str, counts), style="yellow" if term.warning else "")
    return table


def _short(name: str) -> str:
    """A column title that fits: "context-substitution" -> "context-", "subst."."""
    return "-\n".join(word if len(word) <= 8 else f"{word[:5]}." for word in name.split("-"))


def _print_list(console: Console, title: str, lines: Sequence[str]) -> None:
    if not lines:
        return
    console.print(f"[bold]{title}[/bold]")
    for line in lines[:ROWS]:
        console.print(f"  {escape(line)}")
    if len(lines) > ROWS:
        console.print(f"  ... {len(lines) - ROWS} more (--json lists all)")
