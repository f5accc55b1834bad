"""What a report says, as plain frozen records: the page, the table and the JSON all show these and nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Label = Literal["near", "unclear", "far"]
LABELS: tuple[Label, ...] = ("far", "unclear", "near")
"""Worst first, the order in which tokens are shown."""
Cause = Literal["", "nothing to judge by", "odd row", "few rivals", "lost but spared", "weak rank"]
"""What kind of thing makes a token unclear; empty for the others."""


@dataclass(frozen=True)
class Neighbor:
    """A word and its cosine to the token."""

    word: str
    cosine: float


@dataclass(frozen=True)
class Neighborhood:
    """A token's neighbours in one space: nearest vocabulary words before and after, nearest other new tokens.

    There are none before where the initial rows are not known.
    """

    space: str
    before: tuple[Neighbor, ...]
    after: tuple[Neighbor, ...]
    others: tuple[Neighbor, ...] = ()


@dataclass(frozen=True)
class Ranks:
    """The place of the right answer among `of` candidates, 1 is best.

    Attributes:
        of: how many candidates there were.
        initial: its rank seen from the initial row; None where that is not known.
        trained: its rank seen from the trained row.
        split_word: its rank seen from the untouched model, which splits the word; None where that has no meaning.
    """

    of: int
    initial: int | None
    trained: int
    split_word: int | None = None


@dataclass(frozen=True)
class Relation:
    """A related word of the glossary and where it stands.

    Attributes:
        name: the related word.
        kind: synonym, broader or related.
        held_out: whether it was kept out of the training pairs.
        glossary: its rank among all glossary names, by the model's output; None when it contains the token itself.
        vocabulary: its rank among the vocabulary's words, by centred rows; None when it is no single word of it.
    """

    name: str
    kind: str
    held_out: bool
    glossary: Ranks | None = None
    vocabulary: Ranks | None = None


@dataclass(frozen=True)
class Basis:
    """The right answer that a verdict rests on.

    Attributes:
        name: of the related word, or "its definition".
        among: what the candidates were, in words.
        ranks: its place.
        held_out: whether training never saw it.
    """

    name: str
    among: str
    ranks: Ranks
    held_out: bool = False


@dataclass(frozen=True)
class Evidence:
    """What the token was trained on."""

    sentences: int = 0
    pairs: Mapping[str, int] = field(default_factory=dict)
    negatives: int = 0
    examples: tuple[str, ...] = ()
    generated: int = 0
    """Those of the sentences that a language model wrote."""


@dataclass(frozen=True)
class TokenReport:
    """Everything about one new token.

    Attributes:
        token: the term.
        verdict: near, unclear or far.
        reason: why, in one sentence.
        basis: the rank that decided; None when there was nothing to judge by.
        ids: its ids in the tokenizer; several forms of a term share one row.
        pieces: how the base tokenizer splits it.
        definition: of the glossary.
        definition_ranks: place of its own definition among all definitions.
        relations: of the glossary.
        neighbors: one entry a space.
        norm: length of the trained row.
        norm_initial: length of the initial row; None where that is not known.
        norm_z: standard deviations between `norm` and the mean length of the vocabulary's rows.
        move: distance of the trained row from the initial row, relative to the initial row's length; None like it.
        evidence: what it was trained on.
        confidence: that the row lies within reach of the word's true row, between 0 and 1; None without a predictor.
        leans_on: what its predicted row was learned from beside its spelling; None without a predictor.
        cause: what kind of thing makes it unclear.
    """

    token: str
    verdict: Label
    reason: str
    basis: Basis | None = None
    ids: tuple[int, ...] = ()
    pieces: tuple[str, ...] = ()
    definition: str = ""
    definition_ranks: Ranks | None = None
    relations: tuple[Relation, ...] = ()
    neighbors: tuple[Neighborhood, ...] = ()
    norm: float = 0.0
    norm_initial: float | None = 0.0
    norm_z: float = 0.0
    move: float | None = 0.0
    evidence: Evidence = Evidence()
    confidence: float | None = None
    leans_on: tuple[str, ...] | None = None
    cause: Cause = ""

    def neighborhood(self, space: str) -> Neighborhood:
        """The neighbours in one space; empty when it was not looked at."""
        return next((n for n in self.neighbors if n.space == space), Neighborhood(space, (), ()))


@dataclass(frozen=True)
class Stage:
    """A stage of training whose settings known words chose.

    Attributes:
        settings: as chosen; those of no step stand for no stage.
        trials: settings tried, with their recovery; first the rows before the stage, with no settings. Empty where
            known words were not asked.
    """

    settings: Mapping[str, float]
    trials: tuple[Mapping[str, float], ...]

    @property
    def left_out(self) -> bool:
        """Whether calibration kept the rows as they were: nothing tried beat them."""
        return self.settings.get("steps") == 0

    def chosen(self, trial: Mapping[str, float]) -> bool:
        """Whether a trial is what the new tokens went through."""
        if self.left_out:
            return "steps" not in trial
        return all(trial.get(name) == value for name, value in self.settings.items())


@dataclass(frozen=True)
class Relearned:
    """What training learned on words that the model has had all along, hidden from every fit and placed anew.

    Attributes:
        within: the rank of a word's true row that counts as landed.
        words: how many words were placed with the settings that were chosen.
        landed: share of them that landed.
        fits: for each set of sources, how its map was fitted, and the recovery that chose it.
        word_stage, pair_stage: how the settings of both were found. Older checkpoints do not tell of the second.
        reliability: of those words in parts by confidence: mean confidence, share landed, number of words.
    """

    within: int
    words: int
    landed: float
    fits: Mapping[str, Mapping[str, float]]
    word_stage: Stage
    pair_stage: Stage
    reliability: tuple[Mapping[str, float], ...]


@dataclass(frozen=True)
class MapPoint:
    """A point of the 2-D map: a vocabulary word, or a new token before or after training."""

    word: str
    when: Literal["vocabulary", "before", "after"]
    x: float
    y: float


@dataclass(frozen=True)
class ReportData:
    """A whole report.

    Attributes:
        model: the checkpoint's folder.
        base_model: name and hashes of the model it grew from.
        tokens: how many new tokens.
        verdicts: how many of each label.
        relations: for "held_out" and "all": figures of "initial", "trained", "split_word" and "chance" among
            the glossary's names, and the "change" in MRR with its 95 % interval. Without "initial" and "change" where
            the initial rows are not known.
        vocabulary_relations: the same among the vocabulary's words, by centred rows.
        index: how neighbours were searched.
        candidates: how many vocabulary words could be neighbours, and which were left out, in words.
        row_norm: mean and standard deviation of the vocabulary's row lengths.
        per_token: worst first.
        points: of the map.
        map_method: how it was laid out.
        frozen: hashes before and after training.
        gate: the tokenizer's checks.
        training: options, steps, pairs and the curve.
        init: the initialiser's name.
        initial_known: whether its rows are known; if not, nothing is said of what training gained.
        seed: of training.
        versions: of the libraries.
        skipped: terms that did not become tokens, and why.
        relearned: known words under the predictor; None when the rows came from another initialiser.
        definitions: figures of each view for a token's own definition among those of all tokens.
    """

    model: str
    base_model: Mapping[str, Any]
    tokens: int
    verdicts: Mapping[str, int]
    relations: Mapping[str, Mapping[str, Mapping[str, float]]]
    vocabulary_relations: Mapping[str, Mapping[str, Mapping[str, float]]]
    index: str
    candidates: str
    row_norm: Mapping[str, float]
    per_token: tuple[TokenReport, ...]
    points: tuple[MapPoint, ...] = ()
    map_method: str = ""
    frozen: Mapping[str, Any] = field(default_factory=dict)
    gate: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    init: str = ""
    initial_known: bool = True
    seed: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    skipped: tuple[Mapping[str, str], ...] = ()
    relearned: Relearned | None = None
    definitions: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)


def as_json(data: ReportData) -> dict[str, Any]:
    """The report as plain JSON values, floats rounded to 4 decimals (small ones to 4 digits)."""
    return {key: rounded(value) for key, value in dataclasses.asdict(data).items()}


def rounded(value: Any) -> Any:
    """`value` with tuples as lists and every float rounded to 4 decimals, or 4 digits when it is below 0.001."""
    if isinstance(value, float):
        return round(value, 4) if abs(value) >= 1e-3 else float(f"{value:.4g}")
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list | tuple) else value
