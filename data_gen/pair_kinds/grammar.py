"""The little grammar that text made of pieces needs: articles, capitals, the head of a definition."""

from __future__ import annotations

import re
from collections.abc import Sequence

Span = tuple[int, int]

_ARTICLE = re.compile(r"\b(an?)(\s+)$", re.IGNORECASE)
_AN_BEFORE_SILENT_H = re.compile(r"(?:hour|honest|honou?r|heir)", re.IGNORECASE)
_A_BEFORE_VOWEL_LETTER = re.compile(
    r"(?:eu|ewe|one\b|once\b|u(?:ni(?!mp|n|de|ll|gn)|[bcfgkst][aeiou]|r[aeiou]))", re.IGNORECASE
)
_LETTERS_SPOKEN_WITH_A_VOWEL = "AEFHILMNORSX"

_LEADING = re.compile(
    r"^(?:(?:an?|the|any|one|some|each|various|several|certain|another)\s+(?:of\s+)?"
    r"|(?:type|kind|form|sort|variety|class|group|family|species|genus|piece|series)s?\s+of\s+)+",
    re.IGNORECASE,
)
_CLAUSE = re.compile(
    r"(?:that|which|wh\w+|as|if|because|since|until|before|after"
    r"|of|in|on|at|by|for|from|to|into|with|without|within|between|among|under|over|through|during|against|along"
    r"|around|across|about|behind|via|per|near|like|than|is|are|was|were|be|has|have|had|can|may|must|will"
    r"|an?|the|its|their|or|and|but|so|such|[a-z]+_[a-z_]+"
    r"|resulting|caused|characteri[sz]ed|consisting|containing|including|involving|affecting|causing|using|made"
    r"|used|called|known|found|eaten|drawn|cut|spun|grown|given|taken)$",
    re.IGNORECASE,
)
"""Words that open a clause, and so end a noun phrase; also the relations that ontologies write with underscores."""

_PARTICIPLE = re.compile(r"(?:\w{2,}(?:ed|ing)|ground|bound|full)$")
_MAX_HEAD_WORDS = 6


def head_phrase(definition: str) -> str:
    """The noun phrase that a definition opens with, without its article; "" where none is made out.

    "a pungent Italian cheese streaked with veins of mould" -> "pungent Italian cheese".
    """
    words = _LEADING.sub("", definition.strip()).split()
    head = _before_clause(words)
    if len(head) < len(words) and head and head[-1][-1] not in ";:.)":
        while len(head) > 1 and _PARTICIPLE.match(head[-1].rstrip(",")):
            head.pop()  # "streaked" of "cheese streaked with"
    phrase = " ".join(head).strip(" ,;:.)")
    # A comma stands between adjectives ("hard, sharp cheese") or opens an apposition ("ham, aged"): where it
    # joins adjectives, more than one word of the phrase follows.
    before, comma, after = phrase.rpartition(", ")
    phrase = before if comma and " " not in after else phrase
    return phrase if 0 < len(phrase.split()) <= _MAX_HEAD_WORDS else ""


def _before_clause(words: Sequence[str]) -> list[str]:
    """The words up to the first that opens a clause, or the first with more than a comma behind it."""
    head: list[str] = []
    for word in words:
        if _CLAUSE.match(word.strip(",;:.()")) or word[0] in "([":
            break
        head.append(word)
        if word[-1] in ";:.)":
            break
    return head


def indefinite_article(phrase: str) -> str:
    """ "a" or "an", by the sound that the phrase begins with as far as its letters tell."""
    word = phrase.split()[0] if phrase.split() else ""
    if word.isupper() and len(word) > 1 and not re.search(r"[AEIOU].*[AEIOU]", word):
        return "an" if word[0] in _LETTERS_SPOKEN_WITH_A_VOWEL else "a"
    if _AN_BEFORE_SILENT_H.match(word):
        return "an"
    vowel = word[:1].lower() in "aeiou" and word != ""
    return "an" if vowel and not _A_BEFORE_VOWEL_LETTER.match(word) else "a"


def capitalised(text: str) -> str:
    """The text with its first letter in upper case, the others as they are."""
    return text[:1].upper() + text[1:]


def substitute(sentence: str, spans: Sequence[Span], name: str) -> str:
    """Put a name in the place of every span: with a capital where the sentence begins, the article agreeing.

    Args:
        sentence: the text.
        spans: what is replaced, from left to right.
        name: what stands there instead, as in a glossary.
    """
    parts: list[str] = []
    position = 0
    for start, end in spans:
        before = _ARTICLE.sub(lambda found: _agreeing(found, name), sentence[position:start])
        opening = not re.search(r"\w", sentence[:start])
        parts += [before, capitalised(name) if opening else name]
        position = end
    return "".join([*parts, sentence[position:]])


def _agreeing(found: re.Match[str], name: str) -> str:
    article = indefinite_article(name)
    return (capitalised(article) if found[1][0].isupper() else article) + found[2]
