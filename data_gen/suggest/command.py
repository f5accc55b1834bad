"""The command `suggest`: text in, words that are worth a token out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from contrastok.console import Console, emit_json, nothing_written
from contrastok.data_gen.corpus import Document, describe_corpus, empty_hint, read_corpus
from contrastok.data_gen.estimate import head
from contrastok.data_gen.suggest.counts import WordCounts
from contrastok.data_gen.suggest.families import Family, families
from contrastok.data_gen.suggest.groups import grouped
from contrastok.data_gen.suggest.merges import continued_merges
from contrastok.data_gen.suggest.show import PLOTS, ROWS, Suggestion, saved_chart, terms_file, word_table
from contrastok.data_gen.suggest.worth import Model, Word, weigh
from contrastok.data_gen.term_readers import Glossary, fill_term, open_glossaries
from contrastok.data_gen.terms import Term
from contrastok.data_gen.text_sample import TextSample
from contrastok.errors import InputError
from contrastok.files import atomic_file, check_output
from contrastok.guidance_config import SuggestConfig
from contrastok.models import load_tokenizer
from contrastok.vocabulary import Skipped, encode_plain, plan_vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SAMPLE = 1_000_000
"""Characters of the corpus that are tokenised whole, to know how many tokens all of it has."""
MORE_WORDS = "give more text, or a lower --min-count, which finds rarer words"
EXAMPLES = 10
"""Words named for each reason to leave words out."""


@dataclass(frozen=True)
class Ranking:
    """An order of words.

    Attributes:
        merges: whether it needs them.
        key: by which words are sorted; None leaves a word out.
    """

    merges: bool
    key: Callable[[Word, Mapping[str, int]], float | None]


RANKINGS = {
    "usage": Ranking(False, lambda word, merges: -word.usage),
    "merges": Ranking(True, lambda word, merges: merges.get(word.family.key)),
}
"""What `--rank` takes."""


def suggest(config: SuggestConfig) -> dict[str, Any]:
    """Find the words of a corpus that are worth a token, print them, write a terms file and a plot.

    Args:
        config: the options; `out` and `plot` appear whole or not at all.

    Returns:
        What `--json` writes: "corpus" (characters, tokens by a sample, by how much a count may be too low), "words"
        (different ones, frequent enough, suggested), "left_out" by reason with examples, "saved" (tokens, and their
        share) and "suggestions", the lines of the terms file.

    Raises:
        ContrastokError: for every problem that the user can mend; there is nothing to write to `out` is one.
    """
    config.validate()
    console = Console(config.quiet)
    for option, path in (("--out", config.out), ("--plot", config.plot), ("--json", config.json)):
        if path is not None and str(path) != "-":
            check_output(path, config.overwrite, inputs=config.inputs, option=option)
    glossaries = open_glossaries(config.glossary)
    documents = read_corpus(config.corpus, config.text_field, config.split)
    model = Model(load_tokenizer(config.model))
    if config.dry_run:
        return _dry_run(config, documents, console)
    sample = TextSample(config.seed, SAMPLE)
    counts = count_words(console.track(documents, "Counting words"), sample)
    if not counts.counts:
        raise InputError("the corpus holds no word", where=", ".join(config.corpus), hint=empty_hint(config.corpus))
    found = families(counts, model.fold, config.min_count)
    worth, left_out = weigh(found, counts.parts, model)
    chosen, unfit = choose(worth, left_out, model, config)
    suggestions = [_defined(suggestion, glossaries) for suggestion in chosen]
    tokens = counts.characters * _tokens_per_character(model.tokenizer, sample.blocks())
    summary = _summary(suggestions, counts, found, left_out, unfit, tokens)
    if not suggestions and config.out is not None:  # a file without terms is an error to all that read it
        _print(suggestions, summary, tokens, config, console)
        raise InputError(
            "no word is worth a token, so there is no terms file", where=", ".join(config.corpus), hint=MORE_WORDS
        )
    _write(suggestions, tokens, config)
    _print(suggestions, summary, tokens, config, console)
    emit_json(summary, config.json)
    return summary


def count_words(documents: Iterable[Document], sample: TextSample) -> WordCounts:
    """Read documents once: count their words, and keep a sample of the text."""
    counts = WordCounts()
    for document in documents:
        counts.read(document.text)
        sample.offer(document.text)
    counts.finish()
    return counts


def choose(
    worth: Sequence[Word], left_out: Mapping[str, Sequence[Word]], model: Model, config: SuggestConfig
) -> tuple[list[Suggestion], tuple[Skipped, ...]]:
    """The first words of the ranking, one of each group; and those among them that cannot become a token."""
    ranking = RANKINGS[config.rank]
    merges = continued_merges(chain(worth, *left_out.values()), config.limit) if ranking.merges else {}
    ranked = [(key, word) for word in worth if (key := ranking.key(word, merges)) is not None]
    ranked.sort(key=lambda pair: (pair[0], pair[1].family.key))
    groups = grouped([word for _, word in ranked], model.endings)
    plan = plan_vocabulary(model.tokenizer, [group[0].family.spelled for group in groups[: config.limit]])
    fit = set(plan.terms)
    chosen = [
        Suggestion(first, Term(first.family.spelled), tuple(rest), merges.get(first.family.key))
        for first, *rest in groups[: config.limit]
        if first.family.spelled in fit
    ]
    return chosen, plan.skipped


def _defined(found: Suggestion, glossaries: Sequence[Glossary]) -> Suggestion:
    return replace(found, term=fill_term(found.term, glossaries))


def _tokens_per_character(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> float:
    return sum(map(len, encode_plain(tokenizer, texts))) / sum(map(len, texts))


def _summary(
    suggestions: Sequence[Suggestion],
    counts: WordCounts,
    found: Sequence[Family],
    left_out: Mapping[str, Sequence[Word]],
    unfit: Sequence[Skipped],
    tokens: float,
) -> dict[str, Any]:
    saved = sum(suggestion.word.saved for suggestion in suggestions)
    return {
        "corpus": {"characters": counts.characters, "tokens": round(tokens), "count_too_low_by": counts.missed},
        "words": {"different": len(counts.counts), "frequent_enough": len(found), "suggested": len(suggestions)},
        "left_out": {
            **{
                reason: {"words": len(words), "examples": [word.family.spelled for word in words[:EXAMPLES]]}
                for reason, words in left_out.items()
            },
            "cannot become a token": {"words": len(unfit), "examples": [item.term for item in unfit[:EXAMPLES]]},
        },
        "saved": {"tokens": saved, "share": round(saved / tokens, 6)},
        "suggestions": [suggestion.as_json() for suggestion in suggestions],
    }


def _write(suggestions: Sequence[Suggestion], tokens: float, config: SuggestConfig) -> None:
    if config.plot is not None:
        drawn = PLOTS[config.plot.suffix.lower()](saved_chart(suggestions, tokens).to_dict())
        with atomic_file(config.plot) as partial:
            partial.write_bytes(drawn)
    if config.out is not None:
        with atomic_file(config.out) as partial:
            partial.write_text(terms_file(suggestions), encoding="utf-8")


def _print(
    suggestions: Sequence[Suggestion],
    summary: Mapping[str, Any],
    tokens: float,
    config: SuggestConfig,
    console: Console,
) -> None:
    words, corpus, defined = summary["words"], summary["corpus"], sum(bool(s.term.definition) for s in suggestions)
    if suggestions:
        console.print(word_table(suggestions, tokens))
    if len(suggestions) > ROWS:
        console.print(f"... {len(suggestions) - ROWS} more{f' in {escape(str(config.out))}' if config.out else ''}")
    console.print(
        f"{words['suggested']:,} of {words['different']:,} different words, {defined:,} of them with a definition. "
        f"As tokens they would save {summary['saved']['share']:.2%} of the corpus's {corpus['tokens']:,} tokens."
    )
    for reason, told in summary["left_out"].items():
        if told["words"] and reason != "one token already":
            more = ", ..." if told["words"] > len(told["examples"]) else ""
            console.print(f"Left out, {reason}: {told['words']:,} ({escape(', '.join(told['examples']))}{more})")
    if corpus["count_too_low_by"]:
        console.print(f"[yellow]note:[/] more words than fit: counts may be too low by {corpus['count_too_low_by']:,}")
    if not suggestions and config.out is None:
        console.print(f"[yellow]note:[/] no word is worth a token: {MORE_WORDS}")
    elif suggestions and config.out is not None:
        console.print(f"Terms: [bold]{escape(str(config.out))}[/]. Look through them, then give them to gen-pairs.")


def _dry_run(config: SuggestConfig, documents: Iterable[Document], console: Console) -> dict[str, Any]:
    """What a run would read and how long it would take, by its first few megabytes; writes nothing but the summary."""
    files, size = describe_corpus(config.corpus)
    started = time.perf_counter()
    counts = count_words(head(iter(documents)), TextSample(config.seed, SAMPLE))
    seconds = (time.perf_counter() - started) * max(1.0, size / max(1, counts.characters))
    summary = {
        "dry_run": True,
        "corpus_files": files,
        "corpus_bytes": size,
        "sample_characters": counts.characters,
        "sample_words": len(counts.counts),
        "seconds": round(seconds, 1),
    }
    console.print(
        f"Corpus: {files} files, {size / 1e6:.1f} MB on disk. Judging by its first {counts.characters / 1e6:.1f} "
        f"million characters, with {len(counts.counts):,} different words, counting takes {seconds:.0f} s. "
        f"{nothing_written(config.json)}"
    )
    emit_json(summary, config.json)
    return summary
