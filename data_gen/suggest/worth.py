"""What a token of its own would be worth to each word, and which words need none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING

from contrastok.candidates import candidates
from contrastok.data_gen.fold import Fold
from contrastok.data_gen.matcher import surface_forms
from contrastok.data_gen.suggest.counts import dispersion
from contrastok.data_gen.suggest.endings import SHORTEST_STEM, Endings
from contrastok.data_gen.suggest.families import Family
from contrastok.token_text import token_texts
from contrastok.vocabulary import encode_plain, pieces_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SHORTEST_COMPOUND = 9
"""Letters of two words in one; with fewer, pieces are words by chance ("riga toni")."""


@dataclass(frozen=True)
class Word:
    """A word of the corpus as the tokenizer writes it.

    Attributes:
        family: its spellings.
        ids: what the tokenizer makes of its usual spelling in running text.
        pieces: the same for people to read.
        count: occurrences that a token would stand for.
        saved: tokens fewer in the corpus: for each occurrence its tokens but one. A word that the tokenizer cannot
            spell ([UNK]) counts as one: there is a meaning to be saved.
        spread: see `counts.dispersion`.
    """

    family: Family
    ids: tuple[int, ...]
    pieces: tuple[str, ...]
    count: int
    saved: int
    spread: float

    @property
    def usage(self) -> float:
        """Tokens saved, less where they cluster: Juilland's coefficient U = F x D, with tokens saved for F."""
        return self.saved * self.spread


class Model:
    """What there is to know of a tokenizer.

    Args:
        tokenizer: it is not changed.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer, self.fold = tokenizer, Fold(tokenizer)
        self.texts = token_texts(tokenizer)

    @cached_property
    def known(self) -> frozenset[str]:
        """Its whole words, without case."""
        return frozenset(word.casefold() for word in candidates(self.tokenizer).words)

    @cached_property
    def endings(self) -> Endings:
        """The endings that its words use."""
        return Endings([word for word in self.known if word.isalpha()])

    def written(self, ids: Sequence[int]) -> tuple[str, ...]:
        """Pieces for people to read."""
        strings = self.tokenizer.convert_ids_to_tokens(list(ids))
        return tuple(self.texts[i].text if i in self.texts else str(s) for i, s in zip(ids, strings, strict=True))

    def lengths(self, words: Sequence[str]) -> list[int]:
        """How many tokens each word takes in running text: its pieces, and a mark for the space if that is one."""
        [frame], found = encode_plain(self.tokenizer, ["a"]), encode_plain(self.tokenizer, [f"a {w}" for w in words])
        return [len(ids) - len(frame) for ids in found]

    def composes(self, ids: Sequence[int]) -> bool:
        """Whether pieces say what the word means: a known word, and behind it an ending or another known word.

        Known words have at least `SHORTEST_STEM` letters, two of them at least `SHORTEST_COMPOUND`. Of parts joined by
        hyphens each must say so, or be one piece.
        """
        parts: list[list[str]] = [[]]
        for piece in (text.casefold() for text in self.written(ids)):
            if piece == "-":
                parts.append([])
            else:
                parts[-1].append(piece)
        return all(self._is_plain(part) for part in parts)

    def _is_plain(self, part: Sequence[str]) -> bool:
        first, rest = part[0] if part else "", "".join(part[1:])
        if not rest:
            return first in self.known or first.isdigit()
        compound = self._is_word(rest) and len(first) + len(rest) >= SHORTEST_COMPOUND
        return self._is_word(first) and (rest in self.endings or compound)

    def _is_word(self, text: str) -> bool:
        return len(text) >= SHORTEST_STEM and text in self.known


Rule = Callable[[Word, Model], bool]

LEFT_OUT: dict[str, Rule] = {
    "one token already": lambda word, model: len(word.ids) < 2 and model.tokenizer.unk_token_id not in word.ids,
    "one token in another spelling": lambda word, model: word.family.key in model.known,
    "pieces that say what it means": lambda word, model: model.composes(word.ids),
}
"""Why a word needs no token, and how that is found out; the first reason that holds is told."""


def weigh(found: Sequence[Family], parts: int, model: Model) -> tuple[list[Word], dict[str, list[Word]]]:
    """What each word is worth, the most useful first; and those that need no token, by the reason.

    Args:
        found: the words.
        parts: parts of the corpus.
        model: the tokenizer that is to have them.
    """
    matched = [_matched(family, model.fold) for family in found]
    forms = list(dict.fromkeys(chain.from_iterable(matched)))
    split = dict(zip(forms, zip(pieces_of(model.tokenizer, forms), model.lengths(forms), strict=True), strict=True))
    worth: list[Word] = []
    left_out: dict[str, list[Word]] = {reason: [] for reason in LEFT_OUT}
    for family, own in zip(found, matched, strict=True):
        word = _word(family, {form: split[form] for form in own}, parts, model)
        reason = next((reason for reason, holds in LEFT_OUT.items() if holds(word, model)), None)
        (worth if reason is None else left_out[reason]).append(word)
    for words in (worth, *left_out.values()):
        words.sort(key=lambda word: (-word.usage, word.family.key))
    return worth, left_out


def _matched(family: Family, fold: Fold) -> list[str]:
    """The forms that a token for the family's usual spelling would stand for; that spelling first."""
    return [form for form in surface_forms(family.spelled, fold) if form in family.forms]


def _word(family: Family, split: Mapping[str, tuple[tuple[int, ...], int]], parts: int, model: Model) -> Word:
    ids, unknown = next(iter(split.values()))[0], model.tokenizer.unk_token_id
    count = sum(family.forms[form] for form in split)
    saved = sum(family.forms[form] * max(length - 1, unknown in found) for form, (found, length) in split.items())
    spread = dispersion(family.places, parts, family.count)
    return Word(family, ids, model.written(ids), count, saved, round(spread, 4))
