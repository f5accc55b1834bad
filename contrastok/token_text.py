"""What a token stands for, whatever marks its tokenizer writes, and how another tokenizer would write the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenizers import decoders

from contrastok.candidates import CONTINUATION, RESERVED
from contrastok.token_modes import tokenizer_family

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
"""How SentencePiece calls a single byte."""


@dataclass(frozen=True)
class TokenText:
    """A token without the marks of its tokenizer.

    Attributes:
        text: what it stands for, without the space before it.
        starts: whether it stands after a space; else it goes on with what is before it.
    """

    text: str
    starts: bool


def _wordpiece(token: str) -> TokenText:
    continues = token.startswith(CONTINUATION) and token != CONTINUATION
    return TokenText(token.removeprefix(CONTINUATION) if continues else token, not continues)


def _byte_level(token: str) -> TokenText | None:
    text = decoders.ByteLevel().decode([token])
    return None if "\ufffd" in text else TokenText(text.strip(), text.startswith(" "))


def _metaspace(token: str) -> TokenText | None:
    text = token.replace("▁", " ")
    return None if _BYTE.fullmatch(token) else TokenText(text.strip(), text.startswith(" "))


READERS: Mapping[str, Callable[[str], TokenText | None]] = {
    "wordpiece": _wordpiece,
    "wordlevel": _wordpiece,
    "byte-bpe": _byte_level,
    "unigram": _metaspace,
    "sentencepiece-bpe": _metaspace,
}
"""By family, what a string of the vocabulary stands for; None where it is no text (half a character)."""


def token_texts(tokenizer: PreTrainedTokenizerFast) -> dict[int, TokenText]:
    """What the entries of a vocabulary stand for, by ascending id.

    Left out: special and reserved tokens, and those that are no text of their own (bytes, spaces).
    """
    backend = tokenizer.backend_tokenizer
    read = READERS[tokenizer_family(backend)]
    added = backend.get_added_tokens_decoder()
    special = {*tokenizer.all_special_ids, *(i for i, token in added.items() if token.special)}
    found = {}
    for token, i in sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1]):
        if i in special or RESERVED.fullmatch(token):
            continue
        told = TokenText(token.strip(), True) if i in added else read(token)  # added tokens are written without marks
        if told is not None and told.text:
            found[i] = told
    return found


class Splitter:
    """Writes a token of any tokenizer in the tokens of this one.

    Args:
        tokenizer: it is not changed.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.backend = tokenizer.backend_tokenizer
        family = tokenizer_family(self.backend)
        self.continuation = CONTINUATION if family == "wordpiece" else ""
        told = {i: READERS[family](token) for token, i in tokenizer.get_vocab().items()}
        self.mute = {tokenizer.unk_token_id, *(i for i, token in told.items() if token is not None and not token.text)}

    def pieces(self, token: TokenText) -> tuple[int, ...]:
        """The ids that the token's text has in its place, after a space or after a letter.

        Unknown characters and lone space marks are left out; so it is empty where nothing of the text is known.
        """
        first, *words = self._words(f"a {token.text}" if token.starts else f"a{token.text}")
        _, letter, rest = first.partition("a")
        if not letter:  # the normaliser made one character of the letter and the text
            return ()
        if rest:  # nothing was split off: a word goes on (or spaces are no borders to this tokenizer)
            words = [self.continuation + rest, *words]
        ids = (piece.id for word in words for piece in self.backend.model.tokenize(word))
        return tuple(i for i in ids if i not in self.mute)

    def _words(self, text: str) -> list[str]:
        """A text as the tokenizer's model gets to see it; at least one word."""
        if self.backend.normalizer is not None:
            text = self.backend.normalizer.normalize_str(text)
        if self.backend.pre_tokenizer is None:
            return [text]
        return [word for word, _ in self.backend.pre_tokenizer.pre_tokenize_str(text)] or [""]
