"""Take words that a tokenizer knows away from it, as if they had never been in its vocabulary.

A known word is one whose running-text form (after a space) is exactly one token. Hidden, it falls apart into the
pieces that a tokenizer without it would use, so that it can be learned anew and compared with its old row.

The ids of everything else must stay, and an AddedToken's id is counted from the size of the vocabulary, so an
entry is not dropped but renamed to a string that no text can produce. What makes it unreachable differs:

* WordPiece, Unigram, WordLevel: the model looks strings up in its vocabulary, and this one holds a space;
* BPE: its merges build strings, so those that build a form of the word, or build on one, go as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastok.errors import ModelError
from contrastok.token_modes import VOCAB_FORMS, backend_state, put_backend, tokenizer_family, with_backend
from contrastok.vocabulary import Skipped, normalise, pieces_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

UNREACHABLE = "## hidden {}"
"""What a hidden entry is called, by its id. No tokenizer that `_require_no_spaces` lets through sees a plain space, and
what starts with ## but is no continuation of a word is not counted among the words of a vocabulary."""

FORMS: Mapping[str, Callable[[Any, Sequence[str]], list[str]]] = {
    **VOCAB_FORMS,
    "sentencepiece-bpe": VOCAB_FORMS["unigram"],
    "wordlevel": VOCAB_FORMS["wordpiece"],
}
"""The entries that a word may have in the vocabulary of each family: those that it would get as a new word."""


@dataclass(frozen=True)
class HiddenWord:
    """A word that was taken away.

    Attributes:
        word: as it was given.
        id: of its running-text form, the row of which is its gold row.
        ids: of all its forms (with and without space mark, capitalised), ascending.
        pieces: the ids that it has now in running text.
    """

    word: str
    id: int
    ids: tuple[int, ...]
    pieces: tuple[int, ...]


@dataclass(frozen=True)
class Hidden:
    """What was hidden, in the order of the words given, and what could not be."""

    words: tuple[HiddenWord, ...]
    skipped: tuple[Skipped, ...]

    @property
    def ids(self) -> list[int]:
        """All ids that no text has any more, ascending."""
        return sorted(i for word in self.words for i in word.ids)


@dataclass(frozen=True)
class _Entry:
    """A known word before it is hidden: its id, and all its forms in the vocabulary with their ids."""

    word: str
    id: int
    forms: Mapping[str, int]


def hide_words(tokenizer: PreTrainedTokenizerFast, words: Sequence[str]) -> tuple[PreTrainedTokenizerFast, Hidden]:
    """A copy of a tokenizer that does not know some of its words.

    Text that holds none of them, not even inside other words, keeps its ids.

    Args:
        tokenizer: it is not changed.
        words: words of its vocabulary. Those that are not one token of it, or would leave nothing but unknown
            pieces, are left out and named.

    Raises:
        ModelError: the tokenizer's model sees spaces, so a hidden entry could be reached.
    """
    entries, skipped = _known_entries(tokenizer, words)
    while True:
        hidden = with_backend(tokenizer, _hidden_backend(tokenizer.backend_tokenizer, entries))
        split = pieces_of(hidden, [entry.word for entry in entries])
        lost = {e.word: reason for e, ids in zip(entries, split, strict=True) if (reason := _unfit(hidden, ids))}
        if not lost:
            break
        # Its form stays, and may now be a piece of another word of the list: look at them all again.
        entries = [entry for entry in entries if entry.word not in lost]
        skipped += [Skipped(word, reason) for word, reason in lost.items()]
    order = {word: i for i, word in reversed(list(enumerate(words)))}
    found = [
        HiddenWord(entry.word, entry.id, tuple(sorted(entry.forms.values())), ids)
        for entry, ids in zip(entries, split, strict=True)
    ]
    return hidden, Hidden(tuple(found), tuple(sorted(skipped, key=lambda item: order[item.term])))


def hide_in_model(model: SentenceTransformer, words: Sequence[str]) -> tuple[Hidden, np.ndarray]:
    """Hide words in a loaded model: its tokenizer loses them, and their rows are overwritten.

    The rows of all their forms become the mean of all other rows, so that nothing that reads the table (means,
    covariances, neighbours) can see what they were; so do their classes in a language-model head.

    Args:
        model: it is changed in place; shapes and dtypes stay.
        words: see `hide_words`.

    Returns:
        what was hidden, and the gold rows, float32 `[len(hidden.words), d]`.

    Raises:
        ModelError: see `hide_words`, or the model has no input table.
    """
    import torch

    from contrastok.models import input_embedding, language_head

    tokenizer, hidden = hide_words(model.tokenizer, words)
    table = input_embedding(model).weight
    with torch.no_grad():
        gold = table[[word.id for word in hidden.words]].float().cpu().numpy()
        others = torch.ones(len(table), dtype=torch.bool, device=table.device)
        others[hidden.ids] = False
        head = language_head(model)
        for rows in (table, *(() if head is None or head.tied else head.linear.parameters())):
            rows[hidden.ids] = rows[others].float().mean(0).to(rows)
    put_backend(model.tokenizer, tokenizer.backend_tokenizer)
    return hidden, gold


def hidden_alone(tokenizer: PreTrainedTokenizerFast, words: Sequence[str]) -> dict[str, HiddenWord]:
    """Each word as it is when it alone is hidden: its forms, and its pieces in running text.

    Hiding a word changes no text that does not hold it, so words of which none is part of another can be hidden
    together; a handful of such groups takes any vocabulary.

    Args:
        tokenizer: it is not changed.
        words: words of its vocabulary, as many as one likes.

    Returns:
        by word, in the order given; words that cannot be hidden are left out.

    Raises:
        ModelError: see `hide_words`.
    """
    found: dict[str, HiddenWord] = {}
    for group in independent_groups(words, lambda word: normalise(tokenizer.backend_tokenizer, word)):
        _, hidden = hide_words(tokenizer, group)
        found.update((word.word, word) for word in hidden.words)
    return {word: found[word] for word in dict.fromkeys(words) if word in found}


def independent_groups(words: Sequence[str], fold: Callable[[str], str] = str) -> list[list[str]]:
    """Words in few groups, such that no word of a group is part of another, or equal to it, case aside.

    Greedy colouring from the shortest word up: whatever is part of a word has its group before the word.

    Args:
        words: repetitions count once.
        fold: what is compared in place of a word; its case is taken off here.
    """
    by_key: dict[str, list[str]] = {}
    for word in dict.fromkeys(words):
        by_key.setdefault(fold(word).casefold(), []).append(word)
    groups: list[list[str]] = []
    group_of: dict[str, set[int]] = {}
    for key in sorted(by_key, key=lambda key: (len(key), key)):
        parts = {key[a:b] for a in range(len(key)) for b in range(a + 1, len(key) + 1)}
        taken = {group for part in parts & group_of.keys() for group in group_of[part]}
        free = (i for i in range(len(groups) + len(by_key[key]) + len(taken)) if i not in taken)
        group_of[key] = set()
        for word, group in zip(by_key[key], free, strict=False):
            groups += [[] for _ in range(group + 1 - len(groups))]
            groups[group].append(word)
            group_of[key].add(group)
    return groups


def _known_entries(tokenizer: PreTrainedTokenizerFast, words: Sequence[str]) -> tuple[list[_Entry], list[Skipped]]:
    """The words that are one token of the tokenizer's own model, and the others with the reason."""
    backend = tokenizer.backend_tokenizer
    family = tokenizer_family(backend)
    vocab = backend.get_vocab(with_added_tokens=False)
    added = set(backend.get_added_tokens_decoder())
    cased = normalise(backend, "A") == "A"
    entries: list[_Entry] = []
    skipped: list[Skipped] = []
    taken: dict[int, str] = {}
    words = list(dict.fromkeys(words))
    for word, ids in zip(words, pieces_of(tokenizer, words), strict=True):
        if len(ids) != 1:
            skipped.append(Skipped(word, f"is no word of this model: it has {len(ids)} pieces"))
        elif ids[0] == tokenizer.unk_token_id:
            skipped.append(Skipped(word, "is unknown to this model"))
        elif ids[0] in added:
            skipped.append(Skipped(word, "is an added token, no entry of the tokenizer's own vocabulary"))
        elif ids[0] in taken:
            skipped.append(Skipped(word, f"is the same token as {taken[ids[0]]!r} to this tokenizer"))
        else:
            form = normalise(backend, word)
            variants = [form, form[0].upper() + form[1:]] if cased and form == form.lower() else [form]
            strings = [backend.id_to_token(ids[0]), *(f for v in variants for f in FORMS[family](backend, [v]))]
            forms = {f: vocab[f] for f in strings if f in vocab and vocab[f] not in added and vocab[f] not in taken}
            entries.append(_Entry(word, ids[0], forms))
            taken.update(dict.fromkeys(forms.values(), word))
    return entries, skipped


def _unfit(hidden: PreTrainedTokenizerFast, ids: Sequence[int]) -> str:
    """Why a word cannot be hidden, given the pieces it would have; "" when it can."""
    if hidden.unk_token_id in ids or not ids:
        return "cannot be written without its own token"
    return "is one token even without its own" if len(ids) == 1 else ""


def _hidden_backend(backend: Tokenizer, entries: Sequence[_Entry]) -> Tokenizer:
    """A copy of a tokenizer without the forms of the entries."""
    from tokenizers import Tokenizer

    _require_no_spaces(backend)
    state = backend_state(backend)
    model = state["model"]
    forms = {form: i for entry in entries for form, i in entry.forms.items()}
    if isinstance(model["vocab"], dict):
        model["vocab"] = {UNREACHABLE.format(i) if form in forms else form: i for form, i in model["vocab"].items()}
    else:
        lowest = min(score for _, score in model["vocab"])
        for i in forms.values():
            model["vocab"][i] = [UNREACHABLE.format(i), lowest]
    if "merges" in model:
        prefix = model.get("continuing_subword_prefix") or ""
        model["merges"] = [
            (left, right)
            for left, right in model["merges"]
            if forms.keys().isdisjoint((left, right, left + right.removeprefix(prefix)))
        ]
    return Tokenizer.from_str(json.dumps(state))


def _require_no_spaces(backend: Tokenizer) -> None:
    text = "a b" if backend.normalizer is None else backend.normalizer.normalize_str("a b")
    if backend.pre_tokenizer is not None:
        text = "".join(part for part, _ in backend.pre_tokenizer.pre_tokenize_str(text))
    if " " in text:
        raise ModelError(
            "its tokenizer does not split or mark spaces, so no word can be hidden from it",
            hint="use a model whose tokenizer knows words",
        )
