"""A WordNet folder as the corpus of a recovery.

What WordNet says in a word's own synsets describes the word, as a definition does. If such a text holds the word, it
would count as a sentence of it and tell training the definition a second time, so it is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from contrastok.data_gen.fold import Fold
from contrastok.data_gen.known import read_wordnet
from contrastok.data_gen.matcher import contains_name
from contrastok.data_gen.word_sentences import SentenceTable
from contrastok.data_gen.wordnet import WordNet, is_database
from contrastok.files import atomic_file

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def own_sentences(corpus: Sequence[str], words: Sequence[str], table: SentenceTable) -> dict[int, set[int]]:
    """For the hash of each sentence in the corpus's WordNet folders the indices of the words whose synsets say it.

    Args:
        corpus: files, folders and datasets.
        words: that are asked about.
        table: gives the hashes, and takes the sentences.
    """
    own: dict[int, set[int]] = {}
    for folder in filter(is_database, map(Path, corpus)):
        for key, described in read_wordnet(WordNet(folder), words, table).items():
            own.setdefault(key, set()).update(described)
    return own


def without_own_texts(
    corpus: Sequence[str], words: Sequence[str], tokenizer: PreTrainedTokenizerFast, work: Path, text_field: str
) -> tuple[str, ...]:
    """The corpus with a file in place of each WordNet folder, which lacks the texts that describe a word they hold.

    Args:
        corpus: files, folders and datasets.
        words: that are hidden.
        tokenizer: decides which spellings are the same.
        work: where the files are written.
        text_field: name of the field that holds the text.
    """
    fold, found = Fold(tokenizer), []
    for number, source in enumerate(corpus):
        if is_database(Path(source)):
            file = work / f"wordnet-{number}.jsonl"
            with atomic_file(file) as partial, partial.open("w", encoding="utf-8") as handle:
                handle.writelines(
                    json.dumps({text_field: text}) + "\n"
                    for text in texts_of_others(WordNet(Path(source)), words, fold)
                )
            source = str(file)
        found.append(source)
    return tuple(found)


def texts_of_others(wordnet: WordNet, words: Sequence[str], fold: Fold) -> Iterator[str]:
    """All definitions and examples but those that hold a word in one of whose synsets they stand."""
    keys = {word.casefold(): fold.key(word) for word in words}
    for synset in wordnet.synsets():
        own = {keys[lemma.casefold()] for lemma in synset.lemmas if lemma.casefold() in keys}
        for text in synset.texts:
            if not any(contains_name(fold.key(text), name) for name in own):
                yield text
