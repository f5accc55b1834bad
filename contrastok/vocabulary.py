"""Extend a fast tokenizer by new terms without disturbing what it did before.

A term becomes one or more *forms*, the strings by which the tokenizer knows it (the word, the capitalised
word, the word with its space mark). All forms of a term share one trainable row. How a form enters the
tokenizer is decided by the mode:

* added: an `AddedToken` that matches whole words only. Text without the term keeps its ids, always.
* vocab: an entry of the tokenizer's own model. Portable to runtimes that ignore `single_word`, but words
  that merely contain the term may change; the gate counts them.
* spaced: an `AddedToken` with the space before the word, and one without. What is decoded has its spaces, and any class
  of tokenizer keeps it; words that begin with the term change, and the gate counts them.

A special token (`<|tool|>`) is an AddedToken in both modes. It has one form and stands anywhere.

Adding plain words the naive way re-splits other words ("parameters" -> "param et ##ers" once "et" is added).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from contrastok.errors import InputError, ModelError, raise_all
from contrastok.token_modes import (
    MODES,
    SPACED,
    SPECIAL,
    VOCAB_FORMS,
    NewToken,
    apply_tokens,
    backend_state,
    tokenizer_family,
    with_backend,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    from contrastok.data_gen.terms import Term


@dataclass(frozen=True)
class Skipped:
    """A term that is left out, and why."""

    term: str
    reason: str


@dataclass(frozen=True)
class VocabularyPlan:
    """What is added to a tokenizer, and what is left out.

    Attributes:
        family: wordpiece, unigram, byte-bpe, sentencepiece-bpe or wordlevel.
        mode: added, vocab or spaced.
        tokens: every new entry, by row and then by id.
        skipped: the terms left out.
        edits: what else the extension changed in the tokenizer's JSON; undone by `base_tokenizer`.
    """

    family: str
    mode: str
    tokens: tuple[NewToken, ...]
    skipped: tuple[Skipped, ...]
    edits: Mapping[str, Any]

    @property
    def terms(self) -> tuple[str, ...]:
        """The terms in order of their rows."""
        return tuple(dict.fromkeys(token.term for token in self.tokens))

    @property
    def ids(self) -> tuple[int, ...]:
        """All new ids."""
        return tuple(token.id for token in self.tokens)

    @cached_property
    def special(self) -> frozenset[str]:
        """The terms that are special tokens."""
        return frozenset(token.term for token in self.tokens if token.special)

    def require_terms(self, strict: bool) -> None:
        """Stop when no term is left, or when one was left out and `strict` was asked for.

        Raises:
            InputError: names the terms and why they were left out.
        """
        told = [f"{item.term!r} {item.reason}" for item in self.skipped]
        if strict:
            raise_all(InputError, told, hint="leave these terms out, or leave out --strict")
        if not self.tokens:
            raise InputError(
                "no term is left to add: " + "; ".join(told[:5]),
                hint="every word is one token of this model already, or cannot become one",
            )

    def ids_of(self, term: str) -> tuple[int, ...]:
        """The ids of a term's forms."""
        return tuple(token.id for token in self._of_term.get(term, ()))

    def forms_of(self, term: str) -> tuple[str, ...]:
        """A term's forms."""
        return tuple(token.form for token in self._of_term.get(term, ()))

    @cached_property
    def _of_term(self) -> Mapping[str, Sequence[NewToken]]:
        found: dict[str, list[NewToken]] = {}
        for token in self.tokens:
            found.setdefault(token.term, []).append(token)
        return found


def normalise(backend: Tokenizer, text: str) -> str:
    """`text` as the tokenizer's normaliser leaves it, spaces collapsed, without the normaliser's own space marks."""
    text = " ".join(text.split())
    if backend.normalizer is not None:
        text = backend.normalizer.normalize_str(text)
    return " ".join(text.replace("▁", " ").split())


def pieces(tokenizer: PreTrainedTokenizerFast, term: str) -> list[int]:
    """The ids that a term has in running text, that is after a space and without special tokens."""
    return [i for i, _ in piece_lengths(tokenizer, term)]


def piece_lengths(tokenizer: PreTrainedTokenizerFast, term: str) -> list[tuple[int, int]]:
    """The ids that a term has in running text, each with the number of characters it covers."""
    return piece_lengths_of(tokenizer, [term])[0]


def pieces_of(tokenizer: PreTrainedTokenizerFast, words: Sequence[str]) -> list[tuple[int, ...]]:
    """The ids of each word in running text: `pieces` for many words in one call."""
    return [tuple(i for i, _ in found) for found in piece_lengths_of(tokenizer, words)]


def piece_lengths_of(tokenizer: PreTrainedTokenizerFast, words: Sequence[str]) -> list[list[tuple[int, int]]]:
    """`piece_lengths` for many words in one call, which takes hardly longer than a call for one of them."""
    if not words:
        return []
    texts = [f"a {word}" for word in words]
    found = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return [
        [(i, end - max(start, 2)) for i, (start, end) in zip(ids, spans, strict=True) if end > 2]
        for ids, spans in zip(found["input_ids"], found["offset_mapping"], strict=True)
    ]


def encode_plain(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    """The ids of each text, without special tokens, padding or truncation.

    The backend's own `encode_batch` would pad and cut as the last caller, or the model's file, told it to.
    """
    if not texts:
        return []
    unused = {"return_attention_mask": False, "return_token_type_ids": False}  # a quarter of the time
    encoded = tokenizer(list(texts), add_special_tokens=False, verbose=False, **unused)
    return encoded["input_ids"]  # type: ignore[no-any-return]


def plan_terms(tokenizer: PreTrainedTokenizerFast, terms: Sequence[Term], mode: str) -> VocabularyPlan:
    """`plan_vocabulary` for the entries of a glossary, which says which of them are special tokens."""
    special = frozenset(term.token for term in terms if term.special)
    return plan_vocabulary(tokenizer, [term.token for term in terms], mode, special)


def plan_vocabulary(
    tokenizer: PreTrainedTokenizerFast, terms: Sequence[str], mode: str = "auto", special: Set[str] = frozenset()
) -> VocabularyPlan:
    """Decide which terms become tokens, under which forms and ids.

    Args:
        tokenizer: the base model's fast tokenizer; it is not changed.
        terms: in the order in which they get their rows.
        mode: auto, added, vocab or spaced.
        special: those of the terms that become special tokens.

    Raises:
        ModelError: the mode does not exist for this tokenizer's family.
    """
    backend = tokenizer.backend_tokenizer
    mode = "added" if mode == "auto" else mode
    family = tokenizer_family(backend)
    if family not in MODES.get(mode, (family,)):
        raise ModelError(f"--token-mode {mode} does not exist for {family} tokenizers", hint="use --token-mode added")
    wanted, skipped = _choose_terms(tokenizer, terms, special)
    plan = _plan(backend, family, mode, wanted, special)
    extended = extend_tokenizer(tokenizer, plan)
    lost = set(unreachable(extended, plan))
    if lost:
        kept = {term: forms for term, forms in wanted.items() if term not in lost}
        plan = _plan(backend, family, mode, kept, special)
        skipped += [Skipped(term, "cannot be reached: another token or the normaliser takes its text") for term in lost]
    order = {term: i for i, term in enumerate(terms)}
    return replace(plan, skipped=tuple(sorted(skipped, key=lambda item: order[item.term])))


def _plan(
    backend: Tokenizer, family: str, mode: str, wanted: Mapping[str, list[str]], special: Set[str]
) -> VocabularyPlan:
    """The plan that gives every term its forms; ids are read from the tokenizer that results."""
    tokens = []
    for row, (term, forms) in enumerate(wanted.items()):
        if term in special:
            tokens.append(NewToken(term, forms[0], -1, row, True, SPECIAL))
        elif mode == "spaced":
            spaced = ((mark + form, rules) for form in forms for mark, rules in SPACED.items())
            tokens += [NewToken(term, form, -1, row, True, rules) for form, rules in spaced]
        else:
            entries = VOCAB_FORMS[family](backend, forms) if mode == "vocab" else []
            added = not entries  # a term of several words, say, can only be an AddedToken
            tokens += [NewToken(term, form, -1, row, added) for form in entries or forms]
    extended, edits = apply_tokens(backend, family, mode, tokens)
    vocab = extended.get_vocab(with_added_tokens=True)
    placed = [replace(token, id=vocab[token.form]) for token in tokens]
    return VocabularyPlan(family, mode, tuple(placed), (), edits)


def extend_tokenizer(tokenizer: PreTrainedTokenizerFast, plan: VocabularyPlan) -> PreTrainedTokenizerFast:
    """A copy of `tokenizer` with the plan's tokens; deterministic, so a plan can be made once and applied again.

    Raises:
        ModelError: the plan was made for another tokenizer.
    """
    extended, _ = apply_tokens(tokenizer.backend_tokenizer, plan.family, plan.mode, plan.tokens)
    if any(extended.token_to_id(token.form) != token.id for token in plan.tokens):
        raise ModelError("the plan was made for another tokenizer", hint="make the plan again with this model")
    return with_backend(tokenizer, extended)


def base_tokenizer(extended: PreTrainedTokenizerFast, manifest: Mapping[str, Any]) -> PreTrainedTokenizerFast:
    """The tokenizer as it was before its extension.

    Args:
        extended: the tokenizer of a checkpoint.
        manifest: the checkpoint's contrastok.json.
    """
    from tokenizers import Tokenizer

    new = {i for token in manifest["tokens"] for i in token["ids"]}
    edits = manifest["tokenizer"].get("edits", {})
    state = backend_state(extended.backend_tokenizer)
    state["added_tokens"] = [entry for entry in state["added_tokens"] if entry["id"] not in new]
    gone = new | set(edits.get("absorbed", []))
    vocab = state["model"]["vocab"]
    if isinstance(vocab, dict):
        state["model"]["vocab"] = {form: i for form, i in vocab.items() if i not in gone}
    else:
        state["model"]["vocab"] = [entry for i, entry in enumerate(vocab) if i not in gone]
    if "ignore_merges" in edits:
        state["model"]["ignore_merges"] = edits["ignore_merges"]
    return with_backend(extended, Tokenizer.from_str(json.dumps(state)))


POSITIONS = ("{} stands here", "we saw {} there", "they like {}", "this is {}, then", "see ({}).")
"""Where a token must be reachable: at the start, in the middle, at the end, and before punctuation."""
INSIDE = "then{}then"
"""Where a special token must be reachable too."""


def unreachable(tokenizer: PreTrainedTokenizerFast, plan: VocabularyPlan) -> list[str]:
    """The terms of which the tokenizer does not produce an id in every position of a sentence."""
    asked = [
        (term, place.format(term))
        for term in plan.terms
        for place in (*POSITIONS, *([INSIDE] if term in plan.special else []))
    ]
    encoded = encode_plain(tokenizer, [text for _, text in asked])
    own = {term: frozenset(plan.ids_of(term)) for term in plan.terms}
    lost = (term for (term, _), ids in zip(asked, encoded, strict=True) if own[term].isdisjoint(ids))
    return list(dict.fromkeys(lost))


def _choose_terms(
    tokenizer: PreTrainedTokenizerFast, terms: Sequence[str], special: Set[str]
) -> tuple[dict[str, list[str]], list[Skipped]]:
    """The normalised forms of every term worth a row, and the others with the reason."""
    backend = tokenizer.backend_tokenizer
    cased = normalise(backend, "A") == "A"
    known = backend.get_vocab(with_added_tokens=True)
    taken: dict[str, str] = {}
    wanted: dict[str, list[str]] = {}
    skipped = []
    forms = [term if term in special else normalise(backend, term) for term in terms]
    capitals = [form[:1].upper() + form[1:] for form in forms]
    split = pieces_of(tokenizer, forms)
    capital_split = pieces_of(tokenizer, capitals) if cased else split
    for term, form, ids, capital, capital_ids in zip(terms, forms, split, capitals, capital_split, strict=True):
        if not form:
            skipped.append(Skipped(term, "nothing is left of it after the tokenizer's normaliser"))
        elif form in taken:
            other = taken[form]
            same = "stands in the list twice" if other == term else f"is the same token as {other!r} to this tokenizer"
            skipped.append(Skipped(term, same))
        elif len(ids) == 1 and tokenizer.unk_token_id not in ids:
            skipped.append(Skipped(term, "is already one token of this model"))
        elif form in known:  # adding it would hand out an old row
            skipped.append(Skipped(term, f"stands in the vocabulary (id {known[form]}) but is never produced"))
        else:
            both = cased and form == form.lower() and term not in special
            fresh = capital != form and capital not in taken and capital not in known and len(capital_ids) > 1
            wanted[term] = [form, capital] if both and fresh else [form]
            taken.update(dict.fromkeys(wanted[term], term))
    return wanted, skipped
