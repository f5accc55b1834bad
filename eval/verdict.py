"""near, unclear or far: a judgement on each new token with its reason in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from contrastok.eval.data import Basis, Cause, Label, Neighbor, Relation

NEAR_RANK = 10
"""A person reads about ten neighbours; a related word beyond that does not strike anybody as near."""
NEAR_CHANCE = 0.05
"""A rank counts as near only if a token at a random place would reach it less often than this (the customary
5 %). It keeps small glossaries honest: among 20 names, one of three related words is in the top ten by chance."""
FAR_CHANCE = 0.5
"""A token that does no better than a random place does half of the time, neither on held-out names nor on those
it was trained with, has not been placed by its meaning."""
COLLAPSE = 0.95
"""Two different words of a vocabulary practically never come this close; new tokens that do have become one."""
ODD_NORM = 6.0
"""Standard deviations. Averages of rows are short (2-3 deviations) and do no harm; beyond 6 no known word lies."""
LONELY_QUANTILE = 0.01
"""A token whose nearest word is farther away than that of 99 % of known words stands apart. It counts where no
relation was ranked: a token may rightly be closer to a name of several words than to any word."""


@dataclass(frozen=True)
class Standing:
    """The best place that a token's right answers got in one space.

    Attributes:
        basis: the right answer and its ranks.
        tries: how many right answers competed for being the best.
    """

    basis: Basis
    tries: int = 1

    @property
    def chance(self) -> float:
        """How often the best of `tries` answers ranks as high as this from a random place."""
        return 1.0 - (1.0 - self.basis.ranks.trained / self.basis.ranks.of) ** self.tries

    @property
    def landed(self) -> bool:
        """Near, and not by chance."""
        return self.basis.ranks.trained <= NEAR_RANK and self.chance <= NEAR_CHANCE

    @property
    def lost(self) -> bool:
        """No better than a random place."""
        return self.chance > FAR_CHANCE

    def __str__(self) -> str:
        ranks = self.basis.ranks
        mark = "held-out " if self.basis.held_out else ""
        before = "" if ranks.initial is None else f"{ranks.initial:,} before training; "
        before = "as before training; " if ranks.initial == ranks.trained else before
        odds = f"{self.chance:.0%}" if self.chance >= 0.01 else "under 1%"
        return (
            f"{mark}{self.basis.name} ranks {ranks.trained:,} of {ranks.of:,} {self.basis.among} "
            f"({before}by chance {odds})"
        )


@dataclass(frozen=True)
class Signals:
    """What a verdict is made from.

    Attributes:
        held_out: best standing of a relation that training never saw.
        seen: best standing of a relation that training may have seen.
        definition: standing of the token's own definition, for tokens without relations.
        nearest: cosine to the nearest vocabulary word, by the model's output.
        lonely_below: the cosine under which a token stands apart (see LONELY_QUANTILE).
        norm_z: standard deviations between the row's length and the vocabulary's mean.
        sentences: sentences it was seen in.
        twin: the nearest other new token, unless the glossary relates the two.
    """

    held_out: Standing | None = None
    seen: Standing | None = None
    definition: Standing | None = None
    nearest: float = 1.0
    lonely_below: float = 0.0
    norm_z: float = 0.0
    sentences: int = 1
    twin: Neighbor | None = None


@dataclass(frozen=True)
class Verdict:
    """A label, why, the rank that decided, and what kind of thing makes it unclear."""

    label: Label
    reason: str
    basis: Basis | None = None
    cause: Cause = ""


def best_standing(relations: Sequence[Relation], held_out: bool) -> Standing | None:
    """The best standing of a token's relations, of those that were held out or of those that were not.

    One that landed goes first; else ranks among the glossary's names before ranks in the vocabulary, because
    they exist for names of several words too.
    """
    chosen = [r for r in relations if r.held_out is held_out]
    found = [
        [Basis(repr(r.name), among, ranks, held_out) for r in chosen if (ranks := getattr(r, space))]
        for space, among in (("glossary", "glossary names"), ("vocabulary", "vocabulary words"))
    ]
    best = [Standing(min(bases, key=lambda b: b.ranks.trained), len(bases)) for bases in found if bases]
    return min(best, key=lambda standing: not standing.landed, default=None)


def judge(signals: Signals) -> Verdict:
    """The verdict on one token.

    Names that training never saw decide; names that it may have seen can lift a token only if the held-out ones
    do better than chance. A definition stands in where the glossary gives no relation.
    """
    known = [s for s in (signals.held_out, signals.seen) if s] or [s for s in (signals.definition,) if s]
    if not known:
        return Verdict(
            "unclear",
            "the glossary gives neither a relation nor a definition to judge by.",
            cause="nothing to judge by",
        )
    label, deciding, spared = _from_standings(known)
    doubts = _doubts(signals)
    if signals.twin is not None and signals.twin.cosine > COLLAPSE:
        label = "far"
        doubts = [f"all but the same vector as the new token {signals.twin.word!r} (cosine {signals.twin.cosine:.2f})"]
    elif label == "near" and doubts:
        label = "unclear"
    notes = [
        *doubts,
        str(deciding),
        *([f"but not far, for the seen {spared}"] if spared and label == "unclear" else []),
    ]
    notes += [] if signals.sentences else ["no sentence in the corpus"]
    cause = _cause(deciding, spared) if label == "unclear" else ""
    return Verdict(label, "; ".join(notes) + ".", deciding.basis, cause)


def _from_standings(known: Sequence[Standing]) -> tuple[Label, Standing, Standing | None]:
    """Label, the standing that decided, and the one that alone spares it "far"; the first is the most trusted."""
    first, last = known[0], known[-1]
    if first.landed:
        return "near", first, None
    if last.landed and not first.lost:
        return "near", last, None
    if first.lost and last.lost:
        return "far", first, None
    return "unclear", first, last if first.lost else None


def _cause(deciding: Standing, spared: Standing | None) -> Cause:
    """Why a token with that standing is unclear."""
    if deciding.landed:
        return "odd row"
    if spared:
        return "lost but spared"
    return "few rivals" if deciding.basis.ranks.trained <= NEAR_RANK else "weak rank"


def _doubts(signals: Signals) -> list[str]:
    """Oddities of the row that no rank shows."""
    doubts = []
    if abs(signals.norm_z) > ODD_NORM:
        doubts.append(f"its row's length is {signals.norm_z:+.1f} standard deviations from the vocabulary's")
    if signals.nearest < signals.lonely_below and not (signals.held_out or signals.seen):
        doubts.append(f"its nearest word has cosine {signals.nearest:.2f}, lower than for 99% of known words")
    return doubts
