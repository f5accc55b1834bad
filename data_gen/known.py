"""The words that the model knows, with the same evidence as new terms have: what a predictor of rows learns from."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from contrastok.candidates import candidates
from contrastok.console import Console
from contrastok.data_gen.evidence import gist
from contrastok.data_gen.fold import Fold
from contrastok.data_gen.sentences import blocks
from contrastok.data_gen.term_readers import Glossary, fill_term
from contrastok.data_gen.terms import Term
from contrastok.data_gen.word_sentences import SentenceTable, WordSentences
from contrastok.data_gen.wordnet import WordNet, is_database
from contrastok.evidence import WordEvidence
from contrastok.vocabulary import pieces_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

WORDNET_FOLDERS = ("/usr/share/wordnet", "/usr/local/WordNet-3.0/dict")
"""Where WordNet's database usually lies, unless the environment variable WNSEARCHDIR says where."""


@dataclass(frozen=True)
class KnownOptions:
    """How many and which sentences to keep; the fields are those of `GenPairsConfig`."""

    seed: int = 0
    known_sentences: int = 8
    min_words: int = 4
    max_words: int = 80


@dataclass(frozen=True)
class KnownPlan:
    """Which words, and where they are looked up.

    Attributes:
        words: each with its id, by ascending id.
        glossaries: asked for definition and names, the first that knows goes first; WordNet, if any, is the last.
        wordnet: gives sentences to words that the corpus has too few of.
    """

    words: Mapping[str, int]
    glossaries: tuple[Glossary, ...] = ()
    wordnet: WordNet | None = None


def plan_known(
    tokenizer: PreTrainedTokenizerFast, terms: Iterable[str], glossaries: Sequence[Glossary], wordnet: str
) -> KnownPlan:
    """Find the known words and the WordNet to use.

    Args:
        tokenizer: the base model's.
        terms: new terms; words that fold like one are left out.
        glossaries: a WordNet among them is taken before any that auto would find.
        wordnet: auto, none or a folder.

    Raises:
        InputError: the folder that was named holds no WordNet database.
    """
    fold = Fold(tokenizer)
    new = {fold.key(term) for term in terms}
    words = {word: i for word, i in known_words(tokenizer).items() if fold.key(word) not in new}
    given = [glossary for glossary in glossaries if isinstance(glossary, WordNet)] if wordnet == "auto" else []
    folder = find_wordnet(wordnet)
    source = given[0] if given else WordNet(folder) if folder else None
    others = [glossary for glossary in glossaries if glossary is not source]
    return KnownPlan(words, (*others, *([source] if source else [])), source)


def known_words(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    """The words of two letters and more that running text gives as one token, with its id, by ascending id.

    An entry that no text leads to (one that was hidden, say) is none.
    """
    found = candidates(tokenizer)
    lettered = {i: word for i, word in zip(found.ids, found.words, strict=True) if sum(map(str.isalpha, word)) >= 2}
    own = pieces_of(tokenizer, list(lettered.values()))
    return {word: i for (i, word), ids in zip(lettered.items(), own, strict=True) if ids == (i,)}


def known_evidence(
    plan: KnownPlan,
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerFast,
    options: KnownOptions,
    console: Console,
    *,
    terms: Iterable[str] = (),
    held_out: Iterable[str] = (),
) -> tuple[WordEvidence, ...]:
    """Evidence for known words, as gen-pairs collects it for terms.

    Sentences come from the corpus. A word that has too few there gets others from WordNet's texts, but none that
    WordNet gives for the word itself: those describe it, as a definition does.

    Args:
        plan: the words, and where to look them up.
        texts: a sample of the corpus, in blocks.
        tokenizer: the base model's.
        options: limits and seed.
        console: shows progress.
        terms: new terms; they are left out of the names of known words.
        held_out: synonyms of new terms that are held out. A glossary describes them in the very words that
            describe the term, so of known words among them sentences alone are told.
    """
    fold = Fold(tokenizer)
    new, silent = ({fold.key(name) for name in names} for names in (terms, held_out))
    texts = list(texts)
    sentences, holding = find_sentences(plan, texts, tokenizer, fold, options, console)
    million = sum(map(len, texts)) / 1e6 or 1.0

    def described(word: str, found: Sequence[str], count: int) -> WordEvidence:
        entry = Term(word) if fold.key(word) in silent else fill_term(Term(word), plan.glossaries)
        synonyms, broader = (
            tuple(name for name in names if fold.key(name) not in new) for names in (entry.synonyms, entry.broader)
        )
        return WordEvidence(word, True, entry.definition, synonyms, broader, tuple(found), count / million)

    return tuple(map(described, plan.words, sentences, holding))


def find_sentences(
    plan: KnownPlan,
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerFast,
    fold: Fold,
    options: KnownOptions,
    console: Console,
) -> tuple[list[list[str]], list[int]]:
    """For each word up to `known_sentences` sentences: those of the corpus, then those of WordNet; and how many
    sentences of the corpus hold it."""
    corpus, second = (SentenceTable(options.seed, fold, options.min_words, options.max_words) for _ in range(2))
    for block in texts:
        corpus.add(block)
    own = read_wordnet(plan.wordnet, plan.words, second) if plan.wordnet else {}
    collected = WordSentences(tokenizer, tuple(plan.words.values()), options.known_sentences, console)
    collected.read(corpus.by_hash, own)
    holding = [int(count) for count in collected.holding]
    # Tokenising takes the most time. WordNet is English, where a look at the words tells which texts can be of use.
    lacking = {gist(word, fold) for word, full in zip(plan.words, collected.full, strict=True) if not full}
    useful = {
        key: text
        for key, text in second.by_hash.items()
        if key not in corpus.by_hash and not lacking.isdisjoint(gist(text, fold).split())
    }
    collected.read(useful, own)
    return collected.found, holding


def read_wordnet(wordnet: WordNet, words: Iterable[str], table: SentenceTable) -> dict[int, set[int]]:
    """Add WordNet's texts to a table; returns for a hash the indices of the words whose synsets say it."""
    index: dict[str, list[int]] = {}
    for i, word in enumerate(words):
        index.setdefault(word.casefold(), []).append(i)
    own: dict[int, set[int]] = {}
    for synset in wordnet.synsets():
        described = {i for lemma in synset.lemmas for i in index.get(lemma.casefold(), ())}
        for block in (block for text in synset.texts for block in blocks(text)):
            for key in table.add(block):
                own.setdefault(key, set()).update(described)
    return own


def find_wordnet(choice: str) -> Path | None:
    """The WordNet folder to use.

    Args:
        choice: auto, none or a folder. auto takes the folder that WNSEARCHDIR names, or else the first of
            `WORDNET_FOLDERS` that holds a database.

    Returns:
        None for none, or when auto finds nothing. A folder that was named is returned as it is.
    """
    if choice == "none":
        return None
    if choice != "auto":
        return Path(choice)
    named = os.environ.get("WNSEARCHDIR")
    places = [Path(place) for place in ([named] if named else WORDNET_FOLDERS)]
    return next((place for place in places if is_database(place)), None)
