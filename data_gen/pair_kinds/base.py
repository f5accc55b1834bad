"""What every generator of pairs is given, and what it makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from contrastok.data_gen.evidence import Evidence
from contrastok.data_gen.terms import Term


@dataclass(frozen=True, slots=True)
class Pair:
    """Two texts that should lie close, and texts that should not.

    Attributes:
        token: the term that the pair teaches.
        anchor: text in which the extended tokenizer finds the token.
        positive: text of the same meaning, to be encoded with the original tokens.
        negatives: texts of other meanings.
        kind: name of the generator.
        source: where the anchor comes from.
    """

    token: str
    anchor: str
    positive: str
    negatives: tuple[str, ...]
    kind: str
    source: str


@dataclass(frozen=True)
class PairContext:
    """What a generator may use beside the term and its sentences.

    Attributes:
        synonyms: names of the term that are not held out.
        broader: its categories that are not held out.
        min_sentences: a term with fewer sentences needs templates.
        holds_token: whether the extended tokenizer finds the term's token in a text.
    """

    synonyms: tuple[str, ...]
    broader: tuple[str, ...]
    min_sentences: int
    holds_token: Callable[[str], bool]


class PairKind(Protocol):
    """A generator of pairs."""

    name: str

    def build(self, term: Term, evidence: Evidence, context: PairContext) -> Iterator[Pair]:
        """The pairs of one term, without negatives, in an order that its sentences decide."""
