"""What a report comes to, in plain sentences: the same on the page and in the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from contrastok.checkpoint import given_up_sentence
from contrastok.eval.advice import did_without, far_ones
from contrastok.eval.data import Cause, Ranks, ReportData, TokenReport
from contrastok.eval.verdict import NEAR_CHANCE, NEAR_RANK
from contrastok.visible import short

NAMED = 8
"""Tokens that a sentence names before it says how many more there are."""
UNSURE = 0.5
"""A confidence below this says that the token has more likely missed than landed."""

FEW = 10
"""Held-out words below which nothing is said of what training brought."""
CAUSES: Mapping[Cause, str] = {
    "few rivals": f"a right answer is among the {NEAR_RANK} nearest, but so few compete that chance would do as well",
    "lost but spared": "held-out names do no better than chance, and only names that training may have seen do",
    "weak rank": f"the best right answer beats chance but is not among the {NEAR_RANK} nearest",
    "odd row": "a right answer is near, but the row itself is odd",
}
"""What a report says of the causes of unclear tokens; those with nothing to judge by have a line of their own."""


@dataclass(frozen=True)
class Statement:
    """A sentence and how it should be taken.

    Attributes:
        tone: good, bad, or plain.
        text: the sentence; it ends in a colon when `tokens` follow.
        tokens: new tokens it is about, which the page links to.
        more: how many more there are.
    """

    tone: Literal["good", "bad", "plain"]
    text: str
    tokens: tuple[str, ...] = ()
    more: int = 0

    def __str__(self) -> str:
        rest = f" and {self.more:,} more" if self.more else ""
        return f"{self.text} {', '.join(map(short, self.tokens))}{rest}." if self.tokens else self.text


def sections(data: ReportData) -> dict[str, list[Statement]]:
    """The summary: what training brought, how sure the rows are, what to do next, and whether the model is unharmed."""
    found = {
        "What training brought": [*_relations(data)],
        "How sure it is": [*_confidence(data)],
        "What to mend": [*_attention(data)],
        "Everything else": [*_frozen(data), *_gate(data)],
    }
    return {title: told for title, told in found.items() if told}


def statements(data: ReportData) -> list[Statement]:
    """The sentences of all sections, in their order."""
    return [statement for told in sections(data).values() for statement in told]


def headline(data: ReportData) -> str:
    """How many tokens landed where."""
    near, unclear, far = (data.verdicts.get(label, 0) for label in ("near", "unclear", "far"))
    if few := _too_few(data):
        told = (
            f"No verdict is possible, for none of {data.tokens:,} new {plural(data.tokens, 'token')} can be near: {few}"
        )
        return f"{told}; {far:,} {plural(far, 'is', 'are')} far from it" if far else told
    return (
        f"{near:,} of {data.tokens:,} new {plural(data.tokens, 'token')} landed near "
        f"{'its' if data.tokens == 1 else 'their'} meaning, {unclear:,} {plural(unclear, 'is', 'are')} unclear, "
        f"{far:,} {plural(far, 'is', 'are')} far from it"
    )


def _too_few(data: ReportData) -> str:
    """Why no verdict is possible, where even the first place would be chance for every token; else nothing."""
    rivals = [ranks.of for token in data.per_token for ranks in _judged(token)]
    if not rivals or any(1 / of <= NEAR_CHANCE for of in rivals):
        return ""
    return (
        f"at most {max(rivals):,} names or definitions compete, and a token at a random place comes first among so few "
        f"more often than {NEAR_CHANCE:.0%} of the time"
    )


def _judged(token: TokenReport) -> list[Ranks]:
    """The ranks that a verdict may rest on."""
    related = [ranks for r in token.relations for ranks in (r.glossary, r.vocabulary) if ranks]
    return related or ([token.definition_ranks] if token.definition_ranks else [])


def _relations(data: ReportData) -> Iterator[Statement]:
    held = data.relations.get("held_out", {})
    count = int(held.get("trained", {}).get("count", 0) or 0)
    if not count:
        yield Statement(
            "bad",
            "No related word was held out, so nothing here shows that the tokens mean more than "
            "what they were trained on. Use gen-pairs with --hold-out above 0.",
        )
        return
    if count < FEW:
        yield Statement(
            "plain",
            f"Only {count} related {plural(count, 'word')} that training never saw: too few to tell whether training "
            "helped. Give the terms more synonyms and categories, or gen-pairs a larger --hold-out.",
        )
        return
    of = f"On the {count:,} related {plural(count, 'word')} that training never saw"
    if data.initial_known:
        yield _change(of, held)
    else:
        yield Statement(
            "plain",
            f"{of}, the mean reciprocal rank is {held['trained']['mrr']:.3f}. The initial rows are not known, so "
            "nothing here shows what training gained over them.",
        )
    if "split_word" in held:
        tone, verb = _direction(held["change_from_split_word"])
        yield Statement(
            tone,
            f"The untouched model, which splits the words, gets {held['split_word']['mrr']:.3f} "
            f"there: the new tokens are {verb} ({_interval(held['change_from_split_word'])}).",
        )


def _change(of: str, held: Mapping[str, Mapping[str, float]]) -> Statement:
    """What training brought; `of` begins the sentence."""
    before, after = held["initial"]["mrr"], held["trained"]["mrr"]
    figures = f"the mean reciprocal rank went from {before:.3f} (initial rows) to {after:.3f} (trained rows)"
    tone, _ = _direction(held["change"])
    found = {
        "good": "Training helped.",
        "plain": "Training did not measurably improve the rows.",
        "bad": "Training made the rows worse.",
    }
    return Statement(tone, f"{found[tone]} {of}, {figures}; {_interval(held['change'])}.")


def _direction(change: Mapping[str, float]) -> tuple[Literal["good", "bad", "plain"], str]:
    if change["low"] > 0:
        return "good", "better than the split words"
    if change["high"] < 0:
        return "bad", "worse than the split words"
    return "plain", "level with the split words, as far as this many relations can tell"


def _interval(change: Mapping[str, float]) -> str:
    return f"difference {change['mrr']:+.3f}, 95% interval {change['low']:+.3f} to {change['high']:+.3f}"


def _confidence(data: ReportData) -> Iterator[Statement]:
    known, sure = data.relearned, [t.confidence for t in data.per_token if t.confidence is not None]
    if known is None or not sure:
        return
    yield Statement(
        "plain",
        f"Of {known.words:,} {plural(known.words, 'word')} that the model knew before, hidden and placed anew in the "
        f"same way, {known.landed:.0%} came back: their own rows are among the {known.within} nearest. "
        f"For {'this token' if len(sure) == 1 else 'these tokens'} that is expected of about {sum(sure):.0f} of "
        f"{len(sure):,}.",
    )
    unused = sum(bool(t.definition) and "definition" not in (t.leans_on or ()) for t in data.per_token)
    if unused:
        yield Statement(
            "plain",
            f"{unused:,} {plural(unused, 'definition was', 'definitions were')} not used for the first rows: too few "
            "words that the model knew before have one. Give gen-pairs a --glossary or WordNet that defines them.",
        )


def _attention(data: ReportData) -> Iterator[Statement]:
    unsure = sorted((t.confidence, t.token) for t in data.per_token if t.confidence is not None)
    few = _too_few(data)
    if few:
        yield Statement(
            "bad",
            f"No verdict is possible: {few}. Give the terms synonyms and categories, or add terms with definitions, "
            f"until at least {round(1 / NEAR_CHANCE)} compete.",
        )
    weak = [
        *far_ones(data),
        *([] if few else _unclear(data)),
        (
            "Nothing to judge by, neither a related word nor a definition; the terms file can hold both:",
            [t.token for t in data.per_token if t.basis is None],
        ),
        (
            "Nothing to lean on, neither a definition nor a sentence, so the rows were predicted from spelling and "
            "names alone:",
            [t.token for t in data.per_token if t.leans_on == ()],
        ),
        (
            f"Confidence below {UNSURE:.0%}, the least sure first:",
            [token for confidence, token in unsure if confidence < UNSURE],
        ),
        (
            "Without any sentence in the corpus; give gen-pairs text that uses them:",
            [t.token for t in data.per_token if not t.evidence.sentences],
        ),
    ]
    if (missed := did_without(data)) and any(t.verdict != "near" for t in data.per_token):
        yield Statement("bad", f"This run did without {_and(missed)}: train again before you mend what lacks nothing.")
    for text, tokens in weak:
        if tokens:
            yield Statement("bad", text, tuple(tokens[:NAMED]), max(0, len(tokens) - NAMED))
    if data.per_token and not few and not any(tokens for _, tokens in weak):
        yield Statement("good", "Nothing stands out: no token is far, unclear, unsure or without evidence.")
    if data.skipped:
        yield Statement(
            "plain",
            f"{len(data.skipped):,} {plural(len(data.skipped), 'term')} did not become "
            f"{plural(len(data.skipped), 'a token', 'tokens')}: "
            f"{_some([s['term'] for s in data.skipped])}.",
        )


def _unclear(data: ReportData) -> Iterator[tuple[str, list[str]]]:
    """The unclear tokens by their cause, the commonest first."""
    tokens = [t for t in data.per_token if t.verdict == "unclear" and t.cause in CAUSES]
    for cause, count in Counter(t.cause for t in tokens).most_common():
        often = "because" if count == len(tokens) else f"{count:,} of {len(tokens):,} because"
        yield f"Unclear, {often} {CAUSES[cause]}:", [t.token for t in tokens if t.cause == cause]


def _frozen(data: ReportData) -> Iterator[Statement]:
    if not data.frozen:
        return
    if data.frozen.get("sha256_before") == data.frozen.get("sha256_after"):
        yield Statement(
            "good",
            f"Everything else is the same to the bit: the SHA-256 over all "
            f"{data.frozen.get('tensors', 0):,} frozen tensors did not change.",
        )
    elif "given_up" in data.frozen:
        yield Statement(
            "bad",
            f"Old weights were trained, as was asked: {given_up_sentence(data.frozen['given_up'])}. An index made with "
            "the base model has to be made again.",
        )
    else:
        yield Statement(
            "bad", "The frozen weights changed during training: their SHA-256 differs. Do not use this checkpoint."
        )


def _gate(data: ReportData) -> Iterator[Statement]:
    checks = data.gate.get("checks", [])
    failed = [c["name"] for c in checks if not c["passed"]]
    if failed:
        yield Statement("bad", f"Tokenizer checks failed: {', '.join(failed)}.")
    elif checks:
        yield Statement("good", f"All {len(checks)} tokenizer checks passed: text without a new token keeps its ids.")


def _and(parts: list[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def _some(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(map(short, names[:NAMED])) + (f" and {more:,} more" if more > 0 else "")


def plural(count: int, one: str, many: str = "") -> str:
    """One form or the other; the other is with an s unless given."""
    return one if count == 1 else many or f"{one}s"
