"""Two runs over the same terms, side by side: which tokens came out better, and what was set otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from contrastok.eval.charts import MAP_SPACE
from contrastok.eval.data import LABELS, Ranks, Relation, ReportData, TokenReport, rounded
from contrastok.eval.relations import figures, mrr_change
from contrastok.eval.summary import FEW, NAMED, Statement, plural

Change = Literal["worse", "better", "same"]
CHANGES: tuple[Change, ...] = ("worse", "better", "same")
"""The order in which tokens are shown."""


@dataclass(frozen=True)
class TokenPair:
    """A token in both runs."""

    first: TokenReport
    second: TokenReport

    @property
    def token(self) -> str:
        """The term."""
        return self.first.token

    @property
    def change(self) -> Change:
        """What became of its verdict."""
        before, after = LABELS.index(self.first.verdict), LABELS.index(self.second.verdict)
        return "same" if before == after else "better" if after > before else "worse"

    @property
    def shared(self) -> int:
        """Neighbours that both runs show, by the model's output."""
        lists = [{n.word for n in run.neighborhood(MAP_SPACE).after} for run in (self.first, self.second)]
        return len(lists[0] & lists[1])

    @property
    def relations(self) -> list[tuple[Relation, Relation]]:
        """Related words of the glossary that both runs know."""
        other = {r.name.casefold(): r for r in self.second.relations}
        return [(r, other[r.name.casefold()]) for r in self.first.relations if r.name.casefold() in other]

    @property
    def held_out(self) -> list[tuple[Ranks, Ranks]]:
        """Ranks of those that neither run was trained with; only ranks among equally many names can be compared."""
        return [
            (a.glossary, b.glossary)
            for a, b in self.relations
            if a.held_out and b.held_out and a.glossary and b.glossary and a.glossary.of == b.glossary.of
        ]


@dataclass(frozen=True)
class TwoRuns:
    """What a comparison says.

    Attributes:
        first, second: the reports.
        tokens: those of both runs; whose verdict got worse first, then better, then the least alike.
        only: tokens of one run alone, the first's and the second's.
        relations: "first" and "second" with the figures of the trained rows on held-out relations of both, and
            "change", the second's MRR less the first's with its 95 % interval over tokens.
        options: options of train that differ, with both values.
    """

    first: ReportData
    second: ReportData
    tokens: tuple[TokenPair, ...]
    only: tuple[tuple[str, ...], tuple[str, ...]]
    relations: Mapping[str, Mapping[str, float | None]]
    options: Mapping[str, tuple[Any, Any]]

    def count(self, change: Change) -> int:
        """Tokens whose verdict changed so."""
        return sum(pair.change == change for pair in self.tokens)


def compare_runs(first: ReportData, second: ReportData, seed: int = 0) -> TwoRuns:
    """Set two reports side by side.

    Args:
        first: a report.
        second: another one, best over the same terms and held-out names.
        seed: of the bootstrap.
    """
    ours, theirs = ({token.token: token for token in run.per_token} for run in (first, second))
    pairs = [TokenPair(token, theirs[name]) for name, token in ours.items() if name in theirs]
    ranked = [[(a.trained, b.trained) for a, b in pair.held_out] for pair in pairs]
    flat = [ranks for group in ranked for ranks in group]
    return TwoRuns(
        first=first,
        second=second,
        tokens=tuple(sorted(pairs, key=lambda pair: (CHANGES.index(pair.change), pair.shared, pair.token))),
        only=(tuple(sorted(ours.keys() - theirs)), tuple(sorted(theirs.keys() - ours))),
        relations={
            "first": figures([a for a, _ in flat]),
            "second": figures([b for _, b in flat]),
            "change": mrr_change(ranked, seed),
        },
        options=_differences(first.training.get("options", {}), second.training.get("options", {})),
    )


def _differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    names = dict.fromkeys([*first, *second])
    return {n: (first.get(n), second.get(n)) for n in names if first.get(n) != second.get(n)}


def headline(runs: TwoRuns) -> str:
    """How many tokens have another verdict."""
    better, worse, same = (runs.count(change) for change in ("better", "worse", "same"))
    return (
        f"Of {len(runs.tokens):,} {plural(len(runs.tokens), 'token')} of both runs the second places {better:,} better "
        f"and {worse:,} worse; {same:,} {plural(same, 'has', 'have')} the same verdict"
    )


def sections(runs: TwoRuns) -> dict[str, list[Statement]]:
    """The summary: which run is better, and what was different."""
    return {"Which is better": [*_better(runs), *_sure(runs)], "What was different": [*_different(runs), *_harm(runs)]}


def _better(runs: TwoRuns) -> Iterator[Statement]:
    count, change = int(runs.relations["first"]["count"] or 0), runs.relations["change"]
    if count < FEW:
        yield Statement(
            "plain",
            f"{count} related {plural(count, 'word was', 'words were')} held out of both runs' training and ranked "
            "among as many names: too few to tell which run is better. Train both on the same terms and pairs.",
        )
        return
    low, high = (float(change[side] or 0) for side in ("low", "high"))
    tone: Literal["good", "bad", "plain"] = "good" if low > 0 else "bad" if high < 0 else "plain"
    found = {
        "good": "The second run is better.",
        "bad": "The second run is worse.",
        "plain": "No measurable difference.",
    }
    yield Statement(
        tone,
        f"{found[tone]} On the {count:,} related words that neither run was trained with, the mean reciprocal rank is "
        f"{runs.relations['first']['mrr']:.3f} in the first and {runs.relations['second']['mrr']:.3f} in the second; "
        f"difference {change['mrr']:+.3f}, 95% interval {low:+.3f} to {high:+.3f}.",
    )


def _sure(runs: TwoRuns) -> Iterator[Statement]:
    sure = [[t.confidence for t in run.per_token if t.confidence is not None] for run in (runs.first, runs.second)]
    if all(sure):
        a, b = (f"{sum(values):.0f} of {len(values):,}" for values in sure)
        yield Statement("plain", f"By their confidence about {a} tokens landed in the first run and {b} in the second.")


def _different(runs: TwoRuns) -> Iterator[Statement]:
    bases = [run.base_model.get("frozen_sha256") for run in (runs.first, runs.second)]
    if bases[0] != bases[1]:
        yield Statement(
            "bad", "The runs grew from different base models: ranks and neighbours are those of each one's own."
        )
    if not runs.options:
        yield Statement("plain", "Both runs had the same options.")
    else:
        told = [f"{name.replace('_', ' ')} ({_plain(a)}, {_plain(b)})" for name, (a, b) in runs.options.items()]
        yield Statement("plain", f"Options of the first and the second run: {', '.join(told)}.")
    for which, names in zip(("first", "second"), runs.only, strict=True):
        if names:
            some = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED:,} more" if len(names) > NAMED else "")
            yield Statement("plain", f"Only in the {which} run: {some}.")


def _plain(value: Any) -> str:
    return "default" if value is None else " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _harm(runs: TwoRuns) -> Iterator[Statement]:
    kept = [run.frozen.get("sha256_before") == run.frozen.get("sha256_after") for run in (runs.first, runs.second)]
    if all(kept):
        yield Statement("good", "In both runs the SHA-256 over all frozen tensors did not change.")
    for which, unchanged in zip(("first", "second"), kept, strict=True):
        if not unchanged:
            yield Statement("bad", f"The {which} run changed old weights.")


def verdict_table(runs: TwoRuns) -> list[tuple[str, Sequence[int]]]:
    """For each verdict of the first run, best first: how many tokens have each verdict in the second."""
    order = LABELS[::-1]
    found = [(pair.first.verdict, pair.second.verdict) for pair in runs.tokens]
    return [(a, [found.count((a, b)) for b in order]) for a in order]


def as_json(runs: TwoRuns) -> dict[str, Any]:
    """The comparison as plain JSON values."""
    return {
        "models": [runs.first.model, runs.second.model],
        "tokens": len(runs.tokens),
        "changes": {change: runs.count(change) for change in CHANGES},
        "verdicts": [dict(run.verdicts) for run in (runs.first, runs.second)],
        "only": [list(names) for names in runs.only],
        "relations": rounded(runs.relations),
        "options": {name: list(values) for name, values in runs.options.items()},
        "per_token": [_token_json(pair) for pair in runs.tokens],
    }


def _token_json(pair: TokenPair) -> dict[str, Any]:
    both = (pair.first, pair.second)
    return {
        "token": pair.token,
        "change": pair.change,
        "verdicts": [run.verdict for run in both],
        "ranks": [run.basis.ranks.trained if run.basis else None for run in both],
        "confidence": [rounded(run.confidence) for run in both],
        "shared_neighbors": pair.shared,
        "neighbors": [[n.word for n in run.neighborhood(MAP_SPACE).after] for run in both],
    }
