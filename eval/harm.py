"""What adding words changed: texts through the base model and through the checkpoint, bit by bit and by cosine."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from contrastok.bank import SHARD, FrozenEncoder, encode_sequences
from contrastok.checkpoint import Checkpoint
from contrastok.console import Console
from contrastok.errors import ModelError
from contrastok.eval.baselines import TRAINED, Ground, complete_rows
from contrastok.eval.bootstrap import Estimate, as_figures, bootstrap, mean
from contrastok.eval.figure_table import compared
from contrastok.eval.index import Array
from contrastok.eval.sts import RatedPairs, sts_spearman
from contrastok.lm_head import load_with_head
from contrastok.models import frozen_hash, tokenizer_fingerprint

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedTokenizerFast

FIGURES = ("mean", "p5")
EXAMPLES = 5
"""Changed texts that are shown."""
LOW = 0.05
"""The quantile that says how far the worst texts moved."""


@dataclass(frozen=True)
class Both:
    """Texts as the base model and as the checkpoint see them.

    Attributes:
        base: unit vectors `[N, d]` of the base model on its own tokens.
        ours: unit vectors `[N, d]` of the checkpoint.
        ids: the checkpoint's ids of each text.
        holds: `[N]`, true for texts that hold a new token.
        same_ids: `[N]`, true for texts whose ids are those of the base model.
    """

    base: Array
    ours: Array
    ids: Sequence[Sequence[int]]
    holds: npt.NDArray[np.bool_]
    same_ids: npt.NDArray[np.bool_]

    def harmed(self) -> npt.NDArray[np.bool_]:
        """`[N]`, true for texts without a new token whose ids or embeddings differ by a bit or more."""
        other_bits = np.any(self.base.view(np.uint32) != self.ours.view(np.uint32), axis=1)
        harmed: npt.NDArray[np.bool_] = ~self.holds & (~self.same_ids | other_bits)
        return harmed


@dataclass
class Tally:
    """What was found in the texts so far."""

    without: int = 0
    ids_changed: int = 0
    embeddings_changed: int = 0
    examples: list[str] = field(default_factory=list)
    cosines: dict[str, list[Array]] = field(default_factory=dict)

    def add(self, texts: Sequence[str], both: Both) -> None:
        """Count the texts that hold no new token."""
        harmed = both.harmed()
        self.without += int(np.sum(~both.holds))
        self.ids_changed += int(np.sum(harmed & ~both.same_ids))
        self.embeddings_changed += int(np.sum(harmed & both.same_ids))
        self.examples += [texts[i] for i in np.flatnonzero(harmed)[: EXAMPLES - len(self.examples)]]


def load_base(checkpoint: Checkpoint, name: str | None = None) -> SentenceTransformer:
    """The model that a checkpoint grew from.

    Args:
        checkpoint: the trained model.
        name: folder or hub name; by default the one that the checkpoint remembers.

    Raises:
        ModelError: it cannot be found, or is another model.
    """
    facts = checkpoint.manifest["base_model"]
    try:
        model = load_with_head(name or facts["name"])
    except ModelError as error:
        what = f"the base model cannot be found: {error.what}"
        raise ModelError(what, where=error.where, hint="--base names the folder where it lies now") from None
    new_ids = [i for token in checkpoint.manifest["tokens"] for i in token["ids"]]
    told = (facts["frozen_sha256"], facts["tokenizer_sha256"])
    if (frozen_hash(model, new_ids, facts["table_rows"])[0], tokenizer_fingerprint(model.tokenizer)) != told:
        raise ModelError(
            "is not the model that this checkpoint grew from (its weights or its tokenizer differ)",
            where=name or facts["name"],
            hint="give --base the folder of the model that was trained",
        )
    return model


def measure_harm(
    checkpoint: Checkpoint,
    base: SentenceTransformer,
    texts: Iterable[str],
    rated: RatedPairs | None,
    seed: int,
    console: Console,
    wanted: Collection[str] = (),
) -> dict[str, Any]:
    """Encode everything with both models and compare.

    Args:
        checkpoint: the trained model; it is as before when this returns.
        base: the model it grew from.
        texts: read once, a part at a time.
        rated: pairs for Spearman's correlation.
        seed: of the random rows and the bootstrap.
        console: where progress is shown.
        wanted: views that are measured; all where there are none.
    """
    frozen = FrozenEncoder(base, base.tokenizer, cache=False)
    rows, filled = complete_rows(Ground(checkpoint, frozen, seed, views=wanted))
    tally = Tally()
    for part in console.track(_parts(texts), "Encoding with both models"):
        both = encode_both(checkpoint, base, part)
        tally.add(part, both)
        for name, cosines in _fidelity(checkpoint, both, rows).items():
            tally.cosines.setdefault(name, []).append(cosines)
    fidelity = {name: np.concatenate(found) for name, found in tally.cosines.items()}
    sts = rated and _sts(checkpoint, base, rated)
    harmed = tally.ids_changed + tally.embeddings_changed + (sts["changed"] if sts else 0)
    return {
        "identical": False if harmed else (True if tally.without else None),
        "texts": tally.without + len(fidelity[TRAINED]) if fidelity else 0,
        "without_new_token": tally.without,
        "with_new_token": len(fidelity[TRAINED]) if fidelity else 0,
        "ids_changed": tally.ids_changed,
        "embeddings_changed": tally.embeddings_changed,
        "changed_examples": tally.examples,
        "fidelity": _figures(fidelity, seed),
        "filled": filled,
        "sts": sts,
        "seed": seed,
    }


def encode_both(checkpoint: Checkpoint, base: SentenceTransformer, texts: Sequence[str]) -> Both:
    """Texts through both models; those of the same ids in the same batches, so that bits can be compared."""
    limit = base.max_seq_length or 512
    old, ids = (
        tokenizer(list(texts), truncation=True, max_length=limit, verbose=False)["input_ids"]
        for tokenizer in (base.tokenizer, checkpoint.tokenizer)
    )
    new = {i for token in checkpoint.manifest["tokens"] for i in token["ids"]}
    same = np.array([a == b for a, b in zip(old, ids, strict=True)], dtype=bool)
    groups = [np.flatnonzero(same).tolist(), np.flatnonzero(~same).tolist()]

    def encode(model: SentenceTransformer, tokenizer: PreTrainedTokenizerFast, sequences: list[list[int]]) -> Array:
        found = np.zeros((len(texts), int(base.get_embedding_dimension() or 0)), np.float32)
        for chosen in filter(None, groups):
            found[chosen] = encode_sequences(model, tokenizer, [sequences[i] for i in chosen])
        return found

    return Both(
        encode(base, base.tokenizer, old),
        encode(checkpoint.model, checkpoint.tokenizer, ids),
        ids,
        np.array([not new.isdisjoint(own) for own in ids], dtype=bool),
        same,
    )


def _fidelity(checkpoint: Checkpoint, both: Both, rows: Mapping[str, Array]) -> dict[str, Array]:
    """For each view the cosines of texts with a new token to the base model on the original tokens."""
    chosen = np.flatnonzero(both.holds).tolist()
    sequences = [both.ids[i] for i in chosen]
    found = {}
    for name, values in rows.items():
        with checkpoint.with_rows(values):
            ours = encode_sequences(checkpoint.model, checkpoint.tokenizer, sequences) if sequences else both.ours[:0]
        found[name] = np.sum(ours * both.base[chosen], axis=1)
    return found


def _sts(checkpoint: Checkpoint, base: SentenceTransformer, rated: RatedPairs) -> dict[str, Any]:
    """Spearman's correlation of both models."""
    both = encode_both(checkpoint, base, [*rated.first, *rated.second])
    half = len(rated.scores)
    return {
        "pairs": half,
        "sentences_with_new_token": int(np.sum(both.holds)),
        "changed": int(np.sum(both.harmed())),
        "same_bits": bool(np.array_equal(both.base.view(np.uint32), both.ours.view(np.uint32))),
        "base": sts_spearman(both.base[:half], both.base[half:], rated.scores),
        "result": sts_spearman(both.ours[:half], both.ours[half:], rated.scores),
    }


def _figures(cosines: Mapping[str, Array], seed: int) -> dict[str, Any]:
    """Mean and 5th percentile of each view's cosines; {} when no text holds a new token."""
    if not cosines or not len(cosines[TRAINED]):
        return {}

    def low(values: Array) -> Estimate:
        bounds = bootstrap(len(values), lambda drawn: np.quantile(values[drawn], LOW, axis=1), seed)
        return Estimate(float(np.quantile(values, LOW)), *bounds, len(values))

    views = {
        name: {"units": len(own), **as_figures({"mean": mean(own, seed), "p5": low(own)})}
        for name, own in cosines.items()
    }
    differences = {
        label: {"units": len(cosines[view]), **as_figures({"mean": mean(cosines[view] - cosines[reference], seed)})}
        for label, view, reference in compared(cosines)
    }
    return {"views": views, "differences": differences}


def _parts(texts: Iterable[str]) -> Iterator[list[str]]:
    """Lists of texts, as many at a time as are encoded together."""
    stream = iter(texts)
    while part := list(islice(stream, SHARD)):
        yield part
