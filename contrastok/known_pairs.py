"""Pairs for words that the model knows, as if they were new: what the pair stage's settings are tried on.

The kinds are those of gen-pairs: a sentence with the token against its definition, another sentence, itself in pieces,
and itself with a synonym in the word's place; the token alone against its definition and its synonyms. All but the
token itself is looked at in original tokens, and the word's own token is nowhere: only its pieces are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from contrastok.bank import FrozenEncoder, special_frame
from contrastok.batches import Anchor, TrainingSet
from contrastok.features import Ids, WordInput


def known_pairs(words: Sequence[WordInput], encoder: FrozenEncoder, first: int) -> TrainingSet:
    """What a training run on these words would look at.

    Args:
        words: texts as ids, the words in pieces.
        encoder: the frozen model on its original tokens.
        first: the id that stands for the first word, as a new token; the others follow.
    """
    frame = special_frame(encoder.tokenizer)
    keys: dict[Ids, int] = {}
    anchors, owned, updates = [], [], []
    for row, word in enumerate(words):
        told = _pairs(word, first + row)
        positives = [[keys.setdefault(text, len(keys)) for text in texts] for _, _, texts in told]
        own = [keys.setdefault(text, len(keys)) for _, text, _ in told]
        anchors += [
            Anchor(tuple(frame(list(ids))), (row,), key, tuple(found), ())
            for (ids, _, _), key, found in zip(told, own, positives, strict=True)
        ]
        updates.append(len(told))
        owned.append(torch.tensor(sorted({*own, *(key for found in positives for key in found)})))
    encoded = torch.from_numpy(encoder.encode_ids(list(keys), "Encoding keys of known words"))
    pairs = sum(len(anchor.positives) for anchor in anchors)
    return TrainingSet(tuple(anchors), encoded, tuple(owned), pairs, 0, tuple(updates))


def _pairs(word: WordInput, token: int) -> list[tuple[Ids, Ids, tuple[Ids, ...]]]:
    """Anchors with the token, the same in pieces, and their positives in pieces; those without a positive left out."""
    glosses, synonyms, found = word.definition, told_names(word), []
    for at, (text, places) in enumerate(zip(word.sentences, word.places, strict=True)):
        others = word.sentences[at + 1 :] + word.sentences[:at]
        swapped = tuple(put(text, places, len(word.pieces), name) for name in synonyms[:1])
        found.append((put(text, places, len(word.pieces), (token,)), text, (*glosses, *others[:1], text, *swapped)))
    if alone := (*glosses, *synonyms):
        found.append(((token,), word.pieces, alone))
    return found


def told_names(word: WordInput) -> tuple[Ids, ...]:
    """The names of a word that pairs tell: every other synonym."""
    return word.synonyms[::2]


def untold_names(word: WordInput) -> tuple[Ids, ...]:
    """The names of a word by which training is judged: the other synonyms, and its categories."""
    told = {word.pieces, *told_names(word)}
    return tuple(name for name in dict.fromkeys((*word.synonyms[1::2], *word.broader)) if name not in told)


def put(text: Ids, places: Ids, pieces: int, name: Ids) -> Ids:
    """A text with other ids where a word stood.

    Args:
        text: ids.
        places: positions of the word's pieces, ascending; the last occurrence may be cut short.
        pieces: how many pieces the word has.
        name: what stands there instead.
    """
    starts, inside = set(places[::pieces]), set(places)
    parts = (name if at in starts else () if at in inside else (i,) for at, i in enumerate(text))
    return tuple(i for part in parts for i in part)
