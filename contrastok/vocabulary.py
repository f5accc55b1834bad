"""Extend a fast tokenizer by new terms without disturbing what it did before.

A term becomes one or more *forms*, the strings by which the tokenizer knows it (the word, the capitalised
word, the word with its space mark). All forms of a term share one trainable row. How a form enters the
tokenizer is decided by the mode:

* added: an `AddedToken` that matches whole words only. Text without the term keeps its ids, always.
* vocab: an entry of the tokenizer's own model. Portable to runtimes that ignore `single_word`, but words
  that merely contain the term may change; the gate counts them.

Adding plain words the naive way re-splits other words ("parameters" -> "param et ##ers" once "et" is added).
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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
    """

    term: str
    form: str
    id: int
    row: int
    added: bool


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
        mode: added or vocab.
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

    def ids_of(self, term: str) -> tuple[int, ...]:
        """The ids of a term's forms."""
        return tuple(token.id for token in self.tokens if token.term == term)


def tokenizer_family(backend: Tokenizer) -> str:
    """The kind of a tokenizer: wordpiece, unigram, byte-bpe, sentencepiece-bpe or wordlevel."""
    state = _state(backend)
    kind = state["model"].get("type") or ("BPE" if "merges" in state["model"] else "WordPiece")
    if kind == "BPE":
        return "byte-bpe" if '"ByteLevel"' in json.dumps(state["pre_tokenizer"]) else "sentencepiece-bpe"
    return str(kind).lower()


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
    encoding = tokenizer(f"a {term}", add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    spans = zip(encoding["input_ids"], encoding["offset_mapping"], strict=True)
    return [(i, end - max(start, 2)) for i, (start, end) in spans if end > 2]


def encode_plain(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    """The ids of each text, without special tokens, padding or truncation.

    The backend's own `encode_batch` would pad and cut as the last caller, or the model's file, told it to.
    """
    if not texts:
        return []
    return tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]  # type: ignore[no-any-return]


def plan_vocabulary(tokenizer: PreTrainedTokenizerFast, terms: Sequence[str], mode: str = "auto") -> VocabularyPlan:
    """Decide which terms become tokens, under which forms and ids.

    Args:
        tokenizer: the base model's fast tokenizer; it is not changed.
        terms: in the order in which they get their rows.
        mode: auto, added or vocab.

    Raises:
        ModelError: the mode does not exist for this tokenizer's family.
    """
    backend = tokenizer.backend_tokenizer
    mode = "added" if mode == "auto" else mode
    family = tokenizer_family(backend)
    if mode == "vocab" and family not in VOCAB_FORMS:
        raise ModelError(f"--token-mode vocab does not exist for {family} tokenizers", hint="use --token-mode added")
    wanted, skipped = _choose_terms(tokenizer, terms)
    plan = _plan(backend, family, mode, wanted)
    extended = extend_tokenizer(tokenizer, plan)
    lost = {term for term in plan.terms if not is_reachable(extended, plan, term)}
    if lost:
        plan = _plan(backend, family, mode, {term: forms for term, forms in wanted.items() if term not in lost})
        skipped += [Skipped(term, "cannot be reached: another token or the normaliser takes its text") for term in lost]
    order = {term: i for i, term in enumerate(terms)}
    return replace(plan, skipped=tuple(sorted(skipped, key=lambda item: order[item.term])))


def _plan(backend: Tokenizer, family: str, mode: str, wanted: Mapping[str, list[str]]) -> VocabularyPlan:
    """The plan that gives every term its forms; ids are read from the tokenizer that results."""
    tokens = []
    for row, (term, forms) in enumerate(wanted.items()):
        entries = VOCAB_FORMS[family](backend, forms) if mode == "vocab" else []
        added = not entries  # a term of several words, say, can only be an AddedToken
        tokens += [NewToken(term, form, -1, row, added) for form in entries or forms]
    extended, edits = _apply(backend, family, mode, tokens)
    vocab = extended.get_vocab(with_added_tokens=True)
    placed = [replace(token, id=vocab[token.form]) for token in tokens]
    return VocabularyPlan(family, mode, tuple(placed), (), edits)


def extend_tokenizer(tokenizer: PreTrainedTokenizerFast, plan: VocabularyPlan) -> PreTrainedTokenizerFast:
    """A copy of `tokenizer` with the plan's tokens; deterministic, so a plan can be made once and applied again.

    Raises:
        ModelError: the plan was made for another tokenizer.
    """
    extended, _ = _apply(tokenizer.backend_tokenizer, plan.family, plan.mode, plan.tokens)
    if any(extended.token_to_id(token.form) != token.id for token in plan.tokens):
        raise ModelError("the plan was made for another tokenizer", hint="make the plan again with this model")
    return _with_backend(tokenizer, extended)


def base_tokenizer(extended: PreTrainedTokenizerFast, manifest: Mapping[str, Any]) -> PreTrainedTokenizerFast:
    """The tokenizer as it was before its extension.

    Args:
        extended: the tokenizer of a checkpoint.
        manifest: the checkpoint's contrastok.json.
    """
    from tokenizers import Tokenizer

    new = {i for token in manifest["tokens"] for i in token["ids"]}
    edits = manifest["tokenizer"].get("edits", {})
    state = _state(extended.backend_tokenizer)
    state["added_tokens"] = [entry for entry in state["added_tokens"] if entry["id"] not in new]
    gone = new | set(edits.get("absorbed", []))
    vocab = state["model"]["vocab"]
    if isinstance(vocab, dict):
        state["model"]["vocab"] = {form: i for form, i in vocab.items() if i not in gone}
    else:
        state["model"]["vocab"] = [entry for i, entry in enumerate(vocab) if i not in gone]
    if "ignore_merges" in edits:
        state["model"]["ignore_merges"] = edits["ignore_merges"]
    return _with_backend(extended, Tokenizer.from_str(json.dumps(state)))


POSITIONS = ("{} stands here", "we saw {} there", "they like {}", "this is {}, then", "see ({}).")
"""Where a token must be reachable: at the start, in the middle, at the end, and before punctuation."""


def is_reachable(tokenizer: PreTrainedTokenizerFast, plan: VocabularyPlan, term: str) -> bool:
    """Whether the tokenizer produces one of the term's ids in every position of a sentence."""
    ids = set(plan.ids_of(term))
    return all(ids & set(found) for found in encode_plain(tokenizer, [p.format(term) for p in POSITIONS]))


def _choose_terms(
    tokenizer: PreTrainedTokenizerFast, terms: Sequence[str]
) -> tuple[dict[str, list[str]], list[Skipped]]:
    """The normalised forms of every term worth a row, and the others with the reason."""
    backend = tokenizer.backend_tokenizer
    cased = normalise(backend, "A") == "A"
    known = backend.get_vocab(with_added_tokens=True)
    taken: dict[str, str] = {}
    wanted: dict[str, list[str]] = {}
    skipped = []
    for term in terms:
        form = normalise(backend, term)
        if not form:
            skipped.append(Skipped(term, "nothing is left of it after the tokenizer's normaliser"))
        elif form in taken:
            other = taken[form]
            same = "stands in the list twice" if other == term else f"is the same token as {other!r} to this tokenizer"
            skipped.append(Skipped(term, same))
        elif len(pieces(tokenizer, form)) == 1 and tokenizer.unk_token_id not in pieces(tokenizer, form):
            skipped.append(Skipped(term, "is already one token of this model"))
        elif form in known:  # adding it would hand out an old row
            skipped.append(Skipped(term, f"stands in the vocabulary (id {known[form]}) but is never produced"))
        else:
            capital = form[0].upper() + form[1:]
            variants = [capital] if cased and form == form.lower() and capital != form else []
            variants = [v for v in variants if v not in taken and v not in known and len(pieces(tokenizer, v)) > 1]
            wanted[term] = [form, *variants]
            taken.update(dict.fromkeys(wanted[term], term))
    return wanted, skipped


def _apply(backend: Tokenizer, family: str, mode: str, tokens: Sequence[NewToken]) -> tuple[Tokenizer, dict[str, Any]]:
    """A copy of `backend` with the tokens' forms in it, and what else had to be edited for them."""
    from tokenizers import AddedToken, Tokenizer

    state, edits = _state(backend), {}
    state["padding"] = state["truncation"] = None  # what one model's file set must not follow its tokenizer
    if mode == "vocab":
        edits = _absorb_added_tokens(state)
        if family == "byte-bpe":
            # A pre-token that stands in the vocabulary is then taken whole, without merges that build it.
            edits["ignore_merges"] = bool(state["model"].get("ignore_merges", False))
            state["model"]["ignore_merges"] = True
        plain = Tokenizer.from_str(json.dumps(state))
        _insert(state["model"], plain, [token.form for token in tokens if not token.added])
    extended = Tokenizer.from_str(json.dumps(state))
    lstrip = family not in ("wordpiece", "wordlevel")  # else a lone space mark is left before the token
    extended.add_tokens(
        [
            AddedToken(token.form, single_word=bool(re.search(r"\w", token.form)), lstrip=lstrip, normalized=True)
            for token in tokens
            if token.added
        ]
    )
    return extended, edits


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


def _state(backend: Tokenizer) -> dict[str, Any]:
    return json.loads(backend.to_str())  # type: ignore[no-any-return]


def _with_backend(tokenizer: PreTrainedTokenizerFast, backend: Tokenizer) -> PreTrainedTokenizerFast:
    clone = copy.deepcopy(tokenizer)
    clone._tokenizer = backend
    return clone
