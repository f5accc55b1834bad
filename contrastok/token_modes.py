"""How a term enters a tokenizer: as an AddedToken, or as an entry of the tokenizer's own model."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from contrastok.errors import ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class NewToken:
    """One new entry of the tokenizer.

    Attributes:
        term: the term as its glossary writes it.
        form: the string in the tokenizer, normalised as the tokenizer does.
        id: its token id.
        row: index of the trainable row; all forms of a term have the same.
        added: whether it is an AddedToken (else an entry of the tokenizer's own model).
        rules: how an AddedToken matches (`single_word`, `lstrip` ...) that another tool made, that is special, or that
            has its space; None for other words of ours.
    """

    term: str
    form: str
    id: int
    row: int
    added: bool
    rules: Mapping[str, bool] | None = None

    @property
    def special(self) -> bool:
        """Whether it is a special token, which decoding may skip."""
        return self.rules is not None and self.rules.get("special", False)


SPECIAL: dict[str, bool] = {"single_word": False, "lstrip": False, "normalized": False, "special": True}
"""How special tokens match: as they are written, anywhere. Chat templates put no space around them."""
SPACED: Mapping[str, dict[str, bool]] = {
    " ": {
        "single_word": False,
        "lstrip": False,
        "normalized": True,
    },  # a whole word would want no word before the space
    "": {"single_word": True, "lstrip": False, "normalized": True},
}
"""How words match that hold the space before them, and how the same words do where none stands."""


def tokenizer_family(backend: Tokenizer) -> str:
    """The kind of a tokenizer: wordpiece, unigram, byte-bpe, sentencepiece-bpe or wordlevel."""
    state = backend_state(backend)
    kind = state["model"].get("type") or ("BPE" if "merges" in state["model"] else "WordPiece")
    if kind == "BPE":
        return "byte-bpe" if '"ByteLevel"' in json.dumps(state["pre_tokenizer"]) else "sentencepiece-bpe"
    return str(kind).lower()


def apply_tokens(
    backend: Tokenizer, family: str, mode: str, tokens: Sequence[NewToken]
) -> tuple[Tokenizer, dict[str, Any]]:
    """Put tokens into a copy of a tokenizer.

    Args:
        backend: the tokenizer; it is not changed.
        family: its family.
        mode: added, vocab or spaced.
        tokens: what to put in; their ids are not looked at.

    Returns:
        the copy, and what else had to be edited in it for the tokens.
    """
    from tokenizers import AddedToken, Tokenizer

    state, edits = backend_state(backend), {}
    state["padding"] = state["truncation"] = None  # what one model's file set must not follow its tokenizer
    if mode == "vocab":
        edits = _absorb_added_tokens(state)
        if family == "byte-bpe":
            # A pre-token that stands in the vocabulary is then taken whole, without merges that build it.
            edits["ignore_merges"] = bool(state["model"].get("ignore_merges", False))
            state["model"]["ignore_merges"] = True
        plain = Tokenizer.from_str(json.dumps(state))
        _insert(state["model"], plain, [token.form for token in tokens if not token.added])
    extended, raw = Tokenizer.from_str(json.dumps(state)), _prepends(backend)
    extended.add_tokens(
        [AddedToken(token.form, **(token.rules or _rules(token, family, raw))) for token in tokens if token.added]
    )
    return extended, edits


def decoding_drops_spaces(family: str, mode: str) -> bool:
    """Whether a new token takes the space before it, which decoding does not give back."""
    return mode == "added" and family not in ("wordpiece", "wordlevel")


def _prepends(backend: Tokenizer) -> bool:
    """Whether the normaliser itself puts a space mark before what it is given (Llama 2, Mistral 7B)."""
    return backend.normalizer is not None and backend.normalizer.normalize_str("a").startswith("▁")


def _rules(token: NewToken, family: str, raw: bool) -> dict[str, bool]:
    """How an AddedToken of ours matches: whole words, in the text as the normaliser leaves it.

    Or in the text as it is (`raw`), where the normaliser would put its mark before the token and make it a part of the
    word: that would only match where no word stands before it.
    """
    lstrip = decoding_drops_spaces(family, "added")  # else a lone space mark is left before the token
    return {"single_word": bool(re.search(r"\w", token.form)), "lstrip": lstrip, "normalized": not raw}


def _insert(model: dict[str, Any], backend: Tokenizer, forms: Sequence[str]) -> None:
    """Append forms to the vocabulary of a tokenizer's model."""
    vocab = model["vocab"]
    if isinstance(vocab, dict):
        vocab.update((form, i) for i, form in enumerate(forms, start=len(vocab)))
        return
    scores = dict(map(tuple, vocab))
    lowest = min(scores.values())
    for form in forms:
        # Just above the best segmentation into old pieces, or the word would never be chosen whole.
        split = backend.encode(form.removeprefix("▁"), add_special_tokens=False).tokens
        vocab.append([form, max(lowest, sum(scores.get(piece, lowest) for piece in split) + 1e-2)])


# The entries that a term's forms need in the vocabulary of a tokenizer's model; none when it cannot hold them.


def _wordpiece_forms(backend: Tokenizer, forms: Sequence[str]) -> list[str]:
    single = all(len(backend.pre_tokenizer.pre_tokenize_str(form)) == 1 for form in forms)
    return list(forms) if single else []


def _unigram_forms(backend: Tokenizer, forms: Sequence[str]) -> list[str]:
    if any(" " in form for form in forms):
        return []
    return [mark + form for form in forms for mark in ("▁", "")]


def _byte_bpe_forms(backend: Tokenizer, forms: Sequence[str]) -> list[str]:
    """The word and the space-prefixed word in the byte-level alphabet, as the pre-tokenizer writes them."""
    found = []
    for form in forms:
        spaced = backend.pre_tokenizer.pre_tokenize_str(f"a {form}")[1:]
        if len(spaced) != 1:
            return []
        found += [spaced[0][0], spaced[0][0].removeprefix("Ġ")]
    return found


VOCAB_FORMS: dict[str, Callable[[Any, Sequence[str]], list[str]]] = {
    "wordpiece": _wordpiece_forms,
    "unigram": _unigram_forms,
    "byte-bpe": _byte_bpe_forms,
}
"""Families that have a vocab mode."""
MODES: Mapping[str, Collection[str]] = {"vocab": VOCAB_FORMS, "spaced": ("byte-bpe",)}
"""Families that have a mode, where not all of them do."""


def _absorb_added_tokens(state: dict[str, Any]) -> dict[str, Any]:
    """Give added tokens that lie beyond the model's vocabulary an entry in it.

    Their ids are counted from the size of the model's vocabulary, so inserting anything would shift them.
    """
    vocab = state["model"]["vocab"]
    outside = sorted((t["id"], t["content"]) for t in state["added_tokens"] if t["id"] >= len(vocab))
    for i, content in outside:
        if i != len(vocab):
            raise ModelError(
                "the tokenizer's ids have holes, so --token-mode vocab cannot append to them",
                hint="use --token-mode added",
            )
        if isinstance(vocab, dict):
            vocab[content] = i
        else:
            vocab.append([content, min(score for _, score in vocab)])
    if isinstance(vocab, dict) and sorted(vocab.values()) != list(range(len(vocab))):
        raise ModelError(
            "the tokenizer's ids have holes, so --token-mode vocab cannot append to them", hint="use --token-mode added"
        )
    return {"absorbed": [i for i, _ in outside]}


def backend_state(backend: Tokenizer) -> dict[str, Any]:
    """A tokenizer as the content of its JSON file."""
    return json.loads(backend.to_str())  # type: ignore[no-any-return]


def with_backend(tokenizer: PreTrainedTokenizerFast, backend: Tokenizer) -> PreTrainedTokenizerFast:
    """A copy of a Hugging Face tokenizer around another backend."""
    clone = copy.deepcopy(tokenizer)
    put_backend(clone, backend)
    return clone


def put_backend(tokenizer: PreTrainedTokenizerFast, backend: Tokenizer) -> None:
    """Put another backend into a Hugging Face tokenizer; everything that holds the tokenizer sees the change.

    The backend alone knows which tokens decoding skips. That they are special Hugging Face keeps in a list of its own.
    """
    before, after = _special_tokens(tokenizer.backend_tokenizer), _special_tokens(backend)
    tokenizer._tokenizer = backend
    if before != after:
        kept = [token for token in tokenizer.extra_special_tokens if token not in before or token in after]
        tokenizer.extra_special_tokens = [*kept, *(token for token in after if token not in before)]


def _special_tokens(backend: Tokenizer) -> list[str]:
    """The special tokens of a tokenizer, by their ids."""
    added = sorted(backend.get_added_tokens_decoder().items())
    return [token.content for _, token in added if token.special]
