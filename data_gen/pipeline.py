"""The command `gen-pairs`: terms and text in, contrastive training pairs out.

Each stage takes plain data and returns plain data:

    read_words -> mine_shards -> find_negatives -> build_term (for each term) -> known_evidence -> write
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from contrastok import __version__
from contrastok.config import GenPairsConfig, as_json
from contrastok.console import Console, emit_json, nothing_written
from contrastok.data_gen.corpus import empty_hint, read_corpus, whole_shards
from contrastok.data_gen.corpus_size import corpus_size
from contrastok.data_gen.engines import Job
from contrastok.data_gen.estimate import estimate_run
from contrastok.data_gen.evidence import Confirm, Evidence, Mined, MiningOptions, conclude, mine
from contrastok.data_gen.findings import Findings
from contrastok.data_gen.fold import Fold
from contrastok.data_gen.known import KnownOptions, KnownPlan, known_evidence, plan_known
from contrastok.data_gen.matcher import contains_name
from contrastok.data_gen.mining import KeptShards, mine_shards
from contrastok.data_gen.missing import fill_missing, generated_by, without_written
from contrastok.data_gen.negatives import NegativeSource, describing_text, negative_sources, with_negatives
from contrastok.data_gen.pair_kinds import Pair, PairContext, PairKind, choose_kinds
from contrastok.data_gen.relations import names_of, split_relations, without_leaks
from contrastok.data_gen.shards import cut_shards
from contrastok.data_gen.summary import (
    KnownSummary,
    TermSummary,
    print_known,
    print_plan,
    print_summary,
    summarise,
    summarise_known,
)
from contrastok.data_gen.term_readers import TermGlossary, read_glossaries
from contrastok.data_gen.terms import Term
from contrastok.data_gen.text_sample import CHARACTERS, TextSample
from contrastok.data_gen.writer import write_evidence, write_pairs
from contrastok.errors import InputError
from contrastok.evidence import EVIDENCE_FILE, WordEvidence
from contrastok.files import atomic_folder, check_output, sha256_file, to_json
from contrastok.models import load_model, load_tokenizer, tokenizer_fingerprint
from contrastok.vocabulary import VocabularyPlan, encode_plain, extend_tokenizer, plan_terms

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class Words:
    """What is to be taught, and the tokenizer that will know it.

    Attributes:
        terms: the glossary's entries of the terms that become tokens, in the order of their rows.
        plan: how they become tokens, and which terms do not.
        base: the tokenizer before.
        fold: text as that tokenizer sees it.
        confirm: whether the extended tokenizer finds terms, given by their index here, in texts.
        known: the words that the model has already; none when they are not wanted.
    """

    terms: tuple[Term, ...]
    plan: VocabularyPlan
    base: PreTrainedTokenizerFast
    fold: Fold
    confirm: Confirm
    known: KnownPlan


def gen_pairs(config: GenPairsConfig) -> dict[str, Any]:
    """Find evidence for each term and write contrastive training pairs.

    Args:
        config: the options; the folder `out` appears whole or not at all.

    Returns:
        The content of pairs.json; with `dry_run` the token plan and an estimate.

    Raises:
        ContrastokError: for every problem that the user can mend.
    """
    config.validate()
    assert config.out is not None  # validate() saw to it
    kinds = choose_kinds(config.kinds)
    console = Console(config.quiet)
    check_output(config.out, config.overwrite, marker="pairs.json", inputs=config.inputs, json=config.json)
    sources = whole_shards(config.corpus, config.text_field, config.split)
    words = read_words(config)
    if config.dry_run:
        return _dry_run(config, words, console)
    job = mining_job(words, config)
    kept = KeptShards.of(config.out, job, tokenizer_fingerprint(words.base))
    with kept.told():
        findings = mine_shards(cut_shards(sources), job, config, kept, console)
        try:
            summary = _make_pairs(words, findings, kinds, config, console)
        except InputError:  # mended by other terms or options, which find other sentences
            kept.clear()
            raise
    kept.clear()
    emit_json(summary, config.json)
    return summary


def _make_pairs(
    words: Words, findings: Findings, kinds: Sequence[PairKind], config: GenPairsConfig, console: Console
) -> dict[str, Any]:
    """Everything that comes after the corpus was read; returns the content of pairs.json."""
    assert config.out is not None
    mined = conclude(findings, [term.token for term in words.terms], words.confirm)
    terms, evidence, written = fill_missing(words.terms, mined.evidence, words.fold, words.confirm, config, console)
    words, mined = replace(words, terms=terms), replace(mined, evidence=evidence)
    _require_evidence(words, mined, config, console)
    sources = find_negatives(words, mined, config, console)
    built = [
        build_term(row, mined.evidence[term.token], source, kinds, words, config)
        for row, (term, source) in enumerate(zip(words.terms, sources, strict=True))
    ]
    pairs = [pair for made, _ in built for pair in made]
    summaries = [summarised for _, summarised in built]
    _require_pairs(pairs, config)
    told = collect_evidence(words, mined, summaries, findings.sample, config, console)
    known = summarise_known(words.known, told)
    summary = _write(config.out, pairs, told, summaries, known, words, mined, written, config)
    print_summary(console, summaries, words.plan.skipped)
    print_known(console, known)
    console.print(f"{len(pairs)} pairs for {len(summaries)} terms in {escape(str(config.out))}")
    return summary


def read_words(config: GenPairsConfig) -> Words:
    """Read the terms and plan their tokens.

    Raises:
        InputError: the terms, a glossary or WordNet cannot be read; no term can become a token; or, with
            `strict`, one cannot.
    """
    terms, glossaries = read_glossaries(config.terms, config.glossary)
    base = load_tokenizer(config.model)
    plan = plan_terms(base, terms, config.token_mode)
    plan.require_terms(config.strict)
    by_token = {term.token: term for term in terms}
    new = tuple(by_token.pop(token) for token in plan.terms)
    described = TermGlossary(by_token.values())  # terms that are one token already come with what is said of them
    known = (
        plan_known(base, plan.terms, (described, *glossaries), config.wordnet)
        if config.known_sentences
        else KnownPlan({})
    )
    return Words(new, plan, base, Fold(base), confirm_by(base, plan), known)


def confirm_by(base: PreTrainedTokenizerFast, plan: VocabularyPlan) -> Confirm:
    """A function that asks the extended tokenizer whether texts hold an id of a term, given by its index."""
    extended = extend_tokenizer(base, plan)
    index = {term: i for i, term in enumerate(plan.terms)}
    term_of = {token.id: index[token.term] for token in plan.tokens}
    return lambda texts, term: [any(term_of.get(i) == term for i in ids) for ids in encode_plain(extended, texts)]


def mining_job(words: Words, config: GenPairsConfig) -> Job:
    """What is looked for in the corpus: sentences for each term, and a sample of all text for the known words."""
    return Job(
        terms=tuple(term.token for term in words.terms),
        fold=words.fold,
        options=MiningOptions(config.seed, config.max_sentences, config.min_words, config.max_words),
        text_field=config.text_field,
        split=config.split,
        special=words.plan.special,
        sampled=CHARACTERS if words.known.words else 0,
    )


def _require_evidence(words: Words, mined: Mined, config: GenPairsConfig, console: Console) -> None:
    where = ", ".join(config.corpus)
    if not mined.documents:
        raise InputError("the corpus holds no text", where=where, hint=empty_hint(config.corpus))
    if any(evidence.sentences for evidence in mined.evidence.values()):
        return
    if not any(term.definition for term in words.terms):
        raise InputError(
            "no sentence holds any of the terms, and none has a definition",
            where=where,
            hint="give text in which the terms occur, or definitions (--glossary)",
        )
    console.print(
        "[yellow]No sentence of the corpus holds any of the terms; the pairs come from the glossary alone.[/yellow]"
    )


def _require_pairs(pairs: Sequence[Pair], config: GenPairsConfig) -> None:
    if not pairs:
        raise InputError(
            f"no pair could be made of the kinds {', '.join(config.kinds) or 'that there are'}",
            hint="ask for more --kinds, or give definitions (--glossary) or more text (--corpus)",
        )


def find_negatives(words: Words, mined: Mined, config: GenPairsConfig, console: Console) -> list[NegativeSource]:
    """For each term the texts its negatives are chosen from; nothing, and no model is loaded, when none are wanted."""
    if not config.negatives:
        return [NegativeSource(()) for _ in words.terms]
    from contrastok.bank import FrozenEncoder

    model = load_model(config.model)
    texts = [describing_text(term, mined.evidence[term.token]) for term in words.terms]
    embeddings = FrozenEncoder(model, model.tokenizer, console=console).encode(texts, "Comparing terms")
    return list(negative_sources(words.terms, mined.evidence, embeddings, words.fold, config.seed))


def build_term(
    row: int,
    evidence: Evidence,
    source: NegativeSource,
    kinds: Sequence[PairKind],
    words: Words,
    config: GenPairsConfig,
) -> tuple[list[Pair], TermSummary]:
    """The pairs of one term, given by its index, with their negatives, and what there is to say about them."""
    term, fold = words.terms[row], words.fold
    relations = split_relations(term, fold, config.seed, config.hold_out)
    token = fold.key(term.token)
    context = PairContext(
        # A synonym that holds the token ("halloumi cheese") would put the token into what replaces it.
        synonyms=tuple(n for n in names_of(relations, "synonym") if not contains_name(fold.key(n), token)),
        broader=names_of(relations, "broader"),
        min_sentences=config.min_sentences,
        holds_token=lambda text: words.confirm([text], row)[0],
    )
    made = _different_pairs(term, evidence, context, kinds)
    if evidence.generated or evidence.defined:
        found = _different_pairs(*without_written(term, evidence), context, kinds)
        made = {key: pair if key in found else replace(pair, source=generated_by(config)) for key, pair in made.items()}
    pairs = with_negatives(list(made.values()), source, config.negatives, term.definition)
    shown = [text for pair in pairs for text in (pair.anchor, pair.positive)]
    shown += [term.definition, *(sentence.text for sentence in evidence.sentences)]
    return pairs, summarise(term, evidence, pairs, without_leaks(relations, shown, fold), config.min_sentences)


def _different_pairs(
    term: Term, evidence: Evidence, context: PairContext, kinds: Sequence[PairKind]
) -> dict[tuple[str, str], Pair]:
    """The pairs of a term by anchor and positive; of equal ones the first kind's."""
    made: dict[tuple[str, str], Pair] = {}
    for kind in kinds:
        for pair in kind.build(term, evidence, context):
            made.setdefault((pair.anchor, pair.positive), pair)
    return made


def collect_evidence(
    words: Words,
    mined: Mined,
    terms: Sequence[TermSummary],
    sample: TextSample,
    config: GenPairsConfig,
    console: Console,
) -> tuple[WordEvidence, ...]:
    """What is known of each term, in the order of their rows, and then of each word that the model has."""
    million = mined.characters / 1e6 or 1.0
    new = [
        term_evidence(term, mined.evidence[term.token], told, million)
        for term, told in zip(words.terms, terms, strict=True)
    ]
    options = KnownOptions(config.seed, config.known_sentences, config.min_words, config.max_words)
    held_out = [name.name for term in terms for name in term.relations if name.kind == "synonym" and name.held_out]
    known = known_evidence(
        words.known, sample.blocks(), words.base, options, console, terms=words.plan.terms, held_out=held_out
    )
    return (*new, *known)


def term_evidence(term: Term, evidence: Evidence, told: TermSummary, million: float) -> WordEvidence:
    """What training may use of a term: no name that is held out. The corpus has `million` million characters."""
    sentences = tuple(sentence.text for sentence in evidence.sentences)
    synonyms, broader = (names_of(told.relations, kind) for kind in ("synonym", "broader"))
    frequency = evidence.found / million
    return WordEvidence(term.token, False, term.definition, synonyms, broader, sentences, frequency)


def _write(
    out: Path,
    pairs: Sequence[Pair],
    evidence: Sequence[WordEvidence],
    terms: Sequence[TermSummary],
    known: KnownSummary,
    words: Words,
    mined: Mined,
    written: dict[str, Any],
    config: GenPairsConfig,
) -> dict[str, Any]:
    """Write the folder; returns the content of its pairs.json."""
    with atomic_folder(out, config.overwrite) as folder:
        write_pairs(folder / "pairs.parquet", pairs)
        write_evidence(folder / EVIDENCE_FILE, evidence)
        summary = {
            "format": 1,
            "contrastok": __version__,
            "seed": config.seed,
            "options": as_json(config),
            "model": config.model,
            "tokenizer_sha256": tokenizer_fingerprint(words.base),
            "pairs_sha256": sha256_file(folder / "pairs.parquet"),
            "evidence": {"sha256": sha256_file(folder / EVIDENCE_FILE), **asdict(known)},
            "corpus": {
                "documents": mined.documents,
                "characters": mined.characters,
                "sentences_with_a_term": mined.sentences,
                "dropped": dict(mined.dropped),
            },
            "generated": written,
            "counts": {
                "pairs": len(pairs),
                "generated": sum(pair.source == generated_by(config) for pair in pairs),
                "by_kind": dict(sorted(Counter(pair.kind for pair in pairs).items())),
                "terms": len(terms),
            },
            "terms": [term.as_json() for term in terms],
            "skipped": [asdict(item) for item in words.plan.skipped],
        }
        (folder / "pairs.json").write_text(to_json(summary), encoding="utf-8")
    return summary


def _dry_run(config: GenPairsConfig, words: Words, console: Console) -> dict[str, Any]:
    """Show what would be done; write nothing but the summary that was asked for."""
    job = mining_job(words, config)
    sample, matcher = TextSample(config.seed, job.sampled), job.matcher()
    estimate = estimate_run(
        read_corpus(config.corpus, config.text_field, config.split),
        lambda head: mine(head, job.terms, matcher, words.confirm, job.options, sample),
        corpus_size(config.corpus, config.text_field),
        config.max_sentences,
        job.sampled,
    )
    known = summarise_known(words.known, ())
    tokens = [{"token": token.term, "form": token.form, "id": token.id} for token in words.plan.tokens]
    summary = {
        "dry_run": True,
        "family": words.plan.family,
        "mode": words.plan.mode,
        "tokens": tokens,
        "skipped": [asdict(item) for item in words.plan.skipped],
        "known_words": known.known_words,
        "wordnet": known.wordnet,
        **asdict(estimate),
    }
    print_plan(console, words.plan.terms, words.plan.skipped, known, estimate)
    console.print(nothing_written(config.json))
    emit_json(summary, config.json)
    return summary
