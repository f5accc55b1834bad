"""From a checkpoint to the data of its report."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from contrastok.bank import FrozenEncoder
from contrastok.candidates import Candidates, candidates
from contrastok.checkpoint import Checkpoint
from contrastok.console import Console
from contrastok.errors import ModelError
from contrastok.eval.data import (
    LABELS,
    Basis,
    Evidence,
    MapPoint,
    Neighbor,
    Neighborhood,
    Ranks,
    Relation,
    ReportData,
    TokenReport,
)
from contrastok.eval.index import Array
from contrastok.eval.map2d import make_map
from contrastok.eval.neighbors import Space, make_space, neighborhoods, typical_nearest
from contrastok.eval.relations import rank_all, summarise, token_relations, unique_names
from contrastok.eval.relearned import leans_on, relearned
from contrastok.eval.verdict import LONELY_QUANTILE, Signals, Standing, best_standing, judge
from contrastok.lm_head import load_with_head
from contrastok.models import frozen_hash, resolve


@dataclass(frozen=True)
class Glossary:
    """What the manifest says in words, encoded by the untouched model.

    Attributes:
        names: position of each case-folded name in `name_vectors`.
        name_vectors: unit vectors `[N, d]`.
        split: the tokens themselves, split as before, `[n, d]`.
        definitions: unit vectors `[n, d]`; rows of tokens without a definition mean nothing.
    """

    names: Mapping[str, int]
    name_vectors: Array
    split: Array
    definitions: Array


def measure(checkpoint: Checkpoint, k: int, seed: int, console: Console, mapped: bool = True) -> ReportData:
    """Everything a report says about a checkpoint.

    Args:
        checkpoint: the trained model with its initial and its trained rows.
        k: neighbours for each token and space.
        seed: of the bootstrap and the map.
        console: where progress is shown.
        mapped: whether to lay out the map, which takes longest where there are many tokens.
    """
    tokens = sorted(checkpoint.manifest["tokens"], key=lambda token: token["row"])
    terms = [token["token"] for token in tokens]
    words = candidates(checkpoint.base_tokenizer)
    frozen = untouched_encoder(checkpoint, console)
    vectors = checkpoint.table()[list(words.ids)]
    norms = np.linalg.norm(vectors, axis=1)
    row_norm = {"mean": float(norms.mean()), "std": float(norms.std())}
    spaces = all_spaces(checkpoint, tokens, words, vectors, frozen)
    glossary = encode_glossary(tokens, frozen)
    neighbors = zip(*(neighborhoods(space, terms, k) for space in spaces.values()), strict=True)
    lonely = typical_nearest(spaces["encoded"], LONELY_QUANTILE)
    positions = words.positions()
    reports = []
    for row, (token, hoods) in enumerate(zip(tokens, neighbors, strict=True)):
        relations = _relations(token, row, glossary, spaces, positions)
        definition = _definition_ranks(tokens, row, glossary, spaces["encoded"])
        lengths = _lengths(checkpoint, row, row_norm)
        verdict = judge(_signals(token, relations, definition, hoods[-1], lengths["norm_z"], lonely))
        reports.append(
            TokenReport(
                token=token["token"],
                verdict=verdict.label,
                reason=verdict.reason,
                basis=verdict.basis,
                cause=verdict.cause,
                ids=tuple(token["ids"]),
                pieces=tuple(token["pieces"]),
                definition=token["definition"],
                definition_ranks=definition,
                relations=relations,
                neighbors=hoods,
                evidence=_evidence(token),
                confidence=token.get("confidence"),
                leans_on=leans_on(token, checkpoint.manifest.get("prior")),
                **lengths,
            )
        )
    points, method = make_map(spaces["encoded"], terms, seed=seed) if mapped else ((), "")
    return _assemble(checkpoint, reports, spaces["encoded"], row_norm, points, method, seed)


def untouched_encoder(checkpoint: Checkpoint, console: Console) -> FrozenEncoder:
    """The model as it was before training.

    Where the base model still lies in a local folder, its cache is used, which training and the reports of other
    checkpoints share. Else the checkpoint serves as well: on its original ids it is the same to the bit.

    Raises:
        ModelError: old weights were trained too, and the base model cannot be found.
    """
    base = checkpoint.manifest["base_model"]
    with contextlib.suppress(ModelError):
        if Path(resolve(base["name"])).is_dir():
            model = load_with_head(base["name"])
            new_ids = [i for token in checkpoint.manifest["tokens"] for i in token["ids"]]
            if frozen_hash(model, new_ids, base["table_rows"])[0] == base["frozen_sha256"]:
                return FrozenEncoder(model, checkpoint.base_tokenizer, console=console)
    if "given_up" in checkpoint.manifest.get("frozen", {}):
        raise ModelError(
            "old weights of this checkpoint were trained too, and its base model cannot be found",
            where=base["name"],
            hint="put the base model back where it was",
        )
    return FrozenEncoder(checkpoint.model, checkpoint.base_tokenizer, cache=False, console=console)


def all_spaces(
    checkpoint: Checkpoint,
    tokens: Sequence[Mapping[str, Any]],
    words: Candidates,
    vectors: Array,
    frozen: FrozenEncoder,
) -> dict[str, Space]:
    """The vocabulary's words (`vectors`: their rows, `[V, d]`) and the new tokens in every space."""
    isolated = [[token["ids"][0]] for token in tokens]
    trained = FrozenEncoder(checkpoint.model, checkpoint.tokenizer, cache=False)
    after = trained.encode_ids(isolated)
    before = None
    if checkpoint.initial_rows is not None:
        with checkpoint.with_rows(checkpoint.initial_rows):
            before = trained.encode_ids(isolated)
    encoded = frozen.encode_words(words.ids)
    mean = vectors.mean(axis=0)
    row_vectors = (vectors, checkpoint.initial_rows, checkpoint.rows)
    built = [
        make_space("rows", words.words, *row_vectors),
        make_space("rows-centred", words.words, *row_vectors, mean=mean),
        make_space("encoded", words.words, encoded, before, after),
    ]
    return {space.name: space for space in built}


def encode_glossary(tokens: Sequence[Mapping[str, Any]], frozen: FrozenEncoder) -> Glossary:
    """Every name and definition of the manifest through the untouched model on its original pieces."""
    names = unique_names(tokens)
    positions = {name.casefold(): at for at, name in enumerate(names)}
    vectors = frozen.encode(names, "Encoding glossary names")
    split = vectors[[positions[token["token"].casefold()] for token in tokens]]
    definitions = frozen.encode([token["definition"] for token in tokens], "Encoding definitions")
    return Glossary(positions, vectors, split, definitions)


def _relations(
    token: Mapping[str, Any], row: int, glossary: Glossary, spaces: Mapping[str, Space], words: Mapping[str, int]
) -> tuple[Relation, ...]:
    encoded, rows = spaces["encoded"], spaces["rows-centred"]
    views = _views(encoded, row) | {"split_word": glossary.split[row]}
    return token_relations(token, glossary.names, glossary.name_vectors, views, words, rows.vectors, _views(rows, row))


def _views(space: Space, row: int) -> dict[str, Array]:
    trained = {"trained": space.after[row]}
    return trained if space.before is None else {"initial": space.before[row], **trained}


def _definition_ranks(
    tokens: Sequence[Mapping[str, Any]], row: int, glossary: Glossary, encoded: Space
) -> Ranks | None:
    """Rank of a token's own definition among all definitions; None where it has none."""
    views = _views(encoded, row) | {"split_word": glossary.split[row]}
    undefined = np.array([not token["definition"] for token in tokens])
    return rank_all(views, glossary.definitions, [row], undefined)[0]


def _lengths(checkpoint: Checkpoint, row: int, row_norm: Mapping[str, float]) -> dict[str, Any]:
    norm = float(np.linalg.norm(checkpoint.rows[row]))
    found = {"norm": norm, "norm_z": (norm - row_norm["mean"]) / max(row_norm["std"], 1e-12)}
    if checkpoint.initial_rows is None:
        return {**found, "norm_initial": None, "move": None}
    initial = float(np.linalg.norm(checkpoint.initial_rows[row]))
    moved = float(np.linalg.norm(checkpoint.rows[row] - checkpoint.initial_rows[row]))
    return {**found, "norm_initial": initial, "move": moved / max(initial or norm, 1e-12)}


def _signals(
    token: Mapping[str, Any],
    relations: Sequence[Relation],
    definition: Ranks | None,
    encoded: Neighborhood,
    norm_z: float,
    lonely: float,
) -> Signals:
    related = {relation.name.casefold() for relation in relations}
    return Signals(
        held_out=best_standing(relations, held_out=True),
        seen=best_standing(relations, held_out=False),
        definition=Standing(Basis("its definition", "definitions", definition)) if definition else None,
        nearest=encoded.after[0].cosine if encoded.after else 1.0,
        lonely_below=lonely,
        norm_z=norm_z,
        sentences=token["evidence"]["sentences"],
        twin=_twin(encoded.others, related),
    )


def _twin(others: Sequence[Neighbor], related: set[str]) -> Neighbor | None:
    """The nearest other new token that the glossary does not call related: being close to it is no merit."""
    return next((other for other in others if other.word.casefold() not in related), None)


def _evidence(token: Mapping[str, Any]) -> Evidence:
    found = token["evidence"]
    examples, generated = tuple(found.get("examples", ())), found.get("generated", 0)  # older manifests tell neither
    return Evidence(found["sentences"], dict(found["pairs"]), found["negatives"], examples, generated)


def _assemble(
    checkpoint: Checkpoint,
    reports: Sequence[TokenReport],
    encoded: Space,
    row_norm: Mapping[str, float],
    points: Sequence[MapPoint],
    method: str,
    seed: int,
) -> ReportData:
    manifest = checkpoint.manifest
    counts = Counter(report.verdict for report in reports)
    worst_first = sorted(reports, key=lambda r: (LABELS.index(r.verdict), -_worst(r), r.token))
    return ReportData(
        model=str(checkpoint.path),
        base_model=manifest["base_model"],
        tokens=len(reports),
        verdicts={label: counts[label] for label in reversed(LABELS)},
        relations=_figures(reports, "glossary", seed),
        vocabulary_relations=_figures(reports, "vocabulary", seed),
        index=encoded.index.description,
        candidates=f"{len(encoded.words):,} whole words of the vocabulary can be neighbours; special and unused "
        "entries, single letters and marks, and pieces that only continue a word are left out.",
        row_norm=row_norm,
        per_token=tuple(worst_first),
        points=tuple(points),
        map_method=method,
        frozen=manifest["frozen"],
        gate=manifest["tokenizer"]["gate"],
        training=manifest["training"],
        init=manifest["init"],
        initial_known=encoded.before is not None,
        seed=manifest["seed"],
        versions=manifest["versions"],
        skipped=tuple(manifest["skipped"]),
        relearned=relearned(manifest.get("prior")),
        definitions=summarise([[report.definition_ranks] for report in reports], seed),
    )


def _figures(reports: Sequence[TokenReport], space: str, seed: int) -> dict[str, Any]:
    return {
        group: summarise(
            [
                [getattr(relation, space) for relation in report.relations if relation.held_out or group == "all"]
                for report in reports
            ],
            seed,
        )
        for group in ("held_out", "all")
    }


def _worst(report: TokenReport) -> float:
    """Sorts tokens of one verdict: the share of candidates that rank before what the verdict rests on."""
    return report.basis.ranks.trained / report.basis.ranks.of if report.basis else 1.0
