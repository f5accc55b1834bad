"""Documents into sentences, and long sentences into a window around a word."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

import sentencex

BREAK = re.compile(r"\n[^\S\n]*\n|\n(?=[^\S\n]*(?:[-*+•◦‣▪●·–—]|\(?\d{1,3}[.)])[^\S\n])")
"""Where a sentence ends whatever its words say: at a blank line, and before the bullet or number of a list item."""

BULLET = re.compile(r"^(?:[-*+•◦‣▪●·–—]|\(?\d{1,3}[.)])\s+")

FLAT_LIST = re.compile(r" [-*•◦‣▪●·–—] ")
FLAT_ITEMS = 3
"""A sentence with so many marks like " - " is a list whose line breaks were lost; its items are taken apart."""

Span = tuple[int, int]


def blocks(text: str) -> Iterator[str]:
    """Paragraphs and list items of a document, white space collapsed, without their bullets; empty ones left out."""
    for part in BREAK.split(text) if "\n" in text else (text,):
        block = single_spaced(part)
        if block:
            bullet = BULLET.match(block)
            yield block[bullet.end() :] if bullet else block


def single_spaced(text: str) -> str:
    """White space collapsed and stripped. Printable text has none but spaces, and mostly single ones."""
    return text.strip(" ") if text.isprintable() and "  " not in text else " ".join(text.split())


def split_sentences(block: str, language: str = "en", whole: Sequence[Span] = ()) -> list[str]:
    """The sentences of a block, by the rules of the sentencex library, stripped.

    Args:
        block: text with single spaces between words.
        language: a code that sentencex knows.
        whole: spans of the block that stay in one sentence, for names such as ".NET" or "Joy! Bar" hold its marks.
    """
    sentences: list[str] = []
    for part in joined(sentencex.segment(language, block), whole):
        items = FLAT_LIST.split(part)
        sentences += items if len(items) > FLAT_ITEMS else [part]
    return [stripped for sentence in sentences if (stripped := sentence.strip())]


def joined(parts: Iterable[str], whole: Sequence[Span]) -> Iterator[str]:
    """Parts of a text in their order, but those in one that a span of `whole` begins in and does not end in."""
    held, end = "", 0
    for part in parts:
        held, end = held + part, end + len(part)
        if not any(start < end < stop for start, stop in whole):
            yield held
            held = ""
    if held:
        yield held


def window(sentence: str, spans: Sequence[Span], max_words: int) -> tuple[str, tuple[Span, ...]]:
    """Cut a sentence to at most `max_words` words, the first span in the middle.

    Args:
        sentence: text with single spaces between words.
        spans: character spans of a term, from left to right; at least one.
        max_words: words to keep. A first span of more words is kept whole.

    Returns:
        The text that is kept, and the spans that lie in it whole, counted from its start.
    """
    words = sentence.split(" ")
    if len(words) <= max_words:
        return sentence, tuple(spans)
    first, last = (sentence.count(" ", 0, edge) for edge in spans[0])
    room = max(0, max_words - (last - first + 1))
    low = max(0, min(first - room // 2, len(words) - max_words))
    high = max(low + max_words, last + 1)
    cut = " ".join(words[low:high])
    shift = sum(map(len, words[:low])) + low
    kept = tuple((start - shift, end - shift) for start, end in spans if start >= shift and end - shift <= len(cut))
    return cut, kept
