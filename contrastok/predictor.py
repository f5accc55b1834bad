"""From what gen-pairs wrote to a prior: read the evidence, encode it, learn from known words, predict new rows."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from contrastok.bank import FrozenEncoder
from contrastok.errors import InputError, OutputError
from contrastok.evidence import WordEvidence
from contrastok.features import EvidenceEncoder, Features, Ids, WordInput, bag_weights, word_inputs
from contrastok.files import atomic_file
from contrastok.hiding import pieces_of, split_pieces
from contrastok.map_rows import WordBank
from contrastok.models import input_embedding
from contrastok.prior import MIN_WORDS, Known, Predicted, Prior, learn_prior
from contrastok.vocabulary import VocabularyPlan

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

FORMAT = 1
"""Counted up when a prior of the same evidence would come out otherwise."""


@dataclass(frozen=True)
class Predictor:
    """A prior over the new rows, and what training needs beside it.

    Attributes:
        prior: learned on known words.
        bank: outputs of the isolated known words, and the prior's precision.
        table: rows that have a token, float32 `[V, d]`.
        gold: for each held-out word its row in the table, int64 `[h]`.
        held_bank: for each held-out word its place in the bank, which is no negative of it.
        synonyms: for each new term the places in the bank of its synonyms.
    """

    prior: Prior
    bank: WordBank
    table: np.ndarray
    gold: np.ndarray
    held_bank: tuple[tuple[int, ...], ...]
    synonyms: tuple[tuple[int, ...], ...]


def enough_known(evidence: Sequence[WordEvidence] | None) -> bool:
    """Whether a predictor can be learned: there is evidence, and it tells of enough known words."""
    return evidence is not None and sum(word.known for word in evidence) >= MIN_WORDS


def make_predictor(
    evidence: Sequence[WordEvidence],
    plan: VocabularyPlan,
    extended: PreTrainedTokenizerFast,
    encoder: FrozenEncoder,
    sentences: int,
    seed: int,
) -> Predictor:
    """Learn a prior from the known words and apply it to the plan's terms.

    Args:
        evidence: of terms and known words.
        plan: the new tokens.
        extended: the tokenizer that has them.
        encoder: the frozen model on the tokenizer before.
        sentences: looked at for each known word; four times as many for each term.
        seed: draws the held-out words.

    Raises:
        InputError: too few known words, or a term without evidence.
    """
    tokenizer = encoder.tokenizer
    words = [word for word in evidence if word.known]
    parts = split_pieces(tokenizer, [word.token for word in words])
    words = [word for word in words if word.token in parts]
    own = [ids[0] for ids in pieces_of(tokenizer, [word.token for word in words])]
    known_split = {i: parts[word.token] for i, word in zip(own, words, strict=True)}
    terms = _of_terms(evidence, plan)
    new_split = {i: p for term, p in zip(plan.terms, pieces_of(tokenizer, plan.terms), strict=True)
                 for i in plan.ids_of(term)}  # fmt: skip
    outputs = encoder.encode_ids([[i] for i in own], "Encoding known words")
    table = input_embedding(encoder.model).weight.detach().float().cpu().numpy()[: len(tokenizer)]
    held_key = [FORMAT, seed, sentences, [dataclasses.astuple(w) for w in (*terms, *words)], sorted(new_split.items())]

    def learn() -> Prior:
        sizes = _piece_sizes(tokenizer)
        known = word_inputs(words, [[i] for i in own], known_split, sizes(known_split, own), tokenizer, sentences)
        ids = [plan.ids_of(term) for term in plan.terms]
        new = word_inputs(terms, ids, new_split, sizes(new_split, [i[0] for i in ids]), extended, 4 * sentences)
        features = _features(encoder, known, new, len(table))
        return learn_prior(Known(features[0], np.array(own), outputs, table), features[1], seed)

    prior = _kept(encoder, held_key, learn)
    places = {word.token.casefold(): at for at, word in enumerate(words)}
    synonyms = (tuple(places[s.casefold()] for s in term.synonyms if s.casefold() in places) for term in terms)
    unit = float(table.std(axis=0).mean())
    return Predictor(
        prior,
        WordBank(torch.from_numpy(outputs), torch.from_numpy(prior.precision), unit),
        table,
        np.array(own)[prior.held_words],
        tuple((int(at),) for at in prior.held_words),
        tuple(synonyms),
    )


def _of_terms(evidence: Sequence[WordEvidence], plan: VocabularyPlan) -> list[WordEvidence]:
    told = {word.token: word for word in evidence if not word.known}
    missing = [term for term in plan.terms if term not in told]
    if missing:
        raise InputError(
            f"the pairs know nothing of {missing[0]!r}" + (f" and {len(missing) - 1} more" if missing[1:] else ""),
            hint="give train the --terms, --model and --token-mode of gen-pairs",
        )
    return [told[term] for term in plan.terms]


def _piece_sizes(tokenizer: PreTrainedTokenizerFast) -> Any:
    """A function that says how many characters each piece of words covers, by the tokens' own strings."""

    def sizes(split: Mapping[int, Ids], ids: Sequence[int]) -> list[Ids]:
        strings = (tokenizer.convert_ids_to_tokens(list(split[i])) for i in ids)
        return [tuple(len(token.removeprefix("##").lstrip("▁Ġ")) for token in tokens) for tokens in strings]

    return sizes


def _features(
    encoder: FrozenEncoder, known: Sequence[WordInput], new: Sequence[WordInput], vocabulary: int
) -> tuple[Features, Features]:
    weights = bag_weights(known, vocabulary)
    evidence = EvidenceEncoder(encoder)
    return (
        evidence.features(known, weights, "Reading about known words"),
        evidence.features(new, weights, "Reading about new terms"),
    )


def _kept(encoder: FrozenEncoder, key: Any, learn: Any) -> Prior:
    """The prior from the cache, or learned and put there."""
    if encoder.folder is None:
        return learn()  # type: ignore[no-any-return]
    name = hashlib.sha256(json.dumps(key, default=str).encode()).hexdigest()
    path = encoder.folder / "prior" / f"{name}.npz"
    if path.is_file():
        try:
            with np.load(path) as kept:
                return _unpack(dict(kept))
        except (ValueError, OSError, EOFError, KeyError):
            path.unlink(missing_ok=True)
    prior: Prior = learn()
    with contextlib.suppress(OutputError), atomic_file(path) as partial, partial.open("wb") as handle:
        np.savez(handle, **_pack(prior))  # type: ignore[arg-type]
    return prior


def _pack(prior: Prior) -> dict[str, np.ndarray]:
    arrays = {f"{part}.{name}": getattr(getattr(prior, part), name)
              for part in ("new", "held") for name in Predicted.__dataclass_fields__}  # fmt: skip
    arrays |= {name: getattr(prior, name) for name in ("held_words", "precision", "mean")}
    return arrays | {"story": np.array(json.dumps(prior.story))}


def _unpack(arrays: Mapping[str, np.ndarray]) -> Prior:
    new, held = (
        Predicted(*(arrays[f"{part}.{name}"] for name in Predicted.__dataclass_fields__)) for part in ("new", "held")
    )
    rest = (arrays[name] for name in ("held_words", "precision", "mean"))
    return Prior(new, held, *rest, story=json.loads(str(arrays["story"])))
