"""The gate before training: proof that an extended tokenizer does what it did before, and one thing more."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from contrastok.data_gen.matcher import contains_name
from contrastok.errors import ModelError
from contrastok.models import tokenizer_fingerprint
from contrastok.vocabulary import POSITIONS, VocabularyPlan, encode_plain, normalise, unreachable

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CONTROL_WORDS = 40_000
"""At most so many words of the old vocabulary are tried; all of them for most encoders."""

SHOWN = 5
"""Examples named in a check's detail."""


@dataclass(frozen=True)
class Check:
    """One promise about the tokenizer.

    Attributes:
        name: what was checked.
        passed: whether the promise holds.
        detail: counts and examples, in plain words.
    """

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class GateReport:
    """All checks of one extension."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def failed(self, mode: str, strict: bool) -> list[Check]:
        """The checks that stand in the way.

        In other modes than added, words that contain a term are expected to change: that was chosen, so only `strict`
        stops.
        """
        tolerated = "collateral" if mode != "added" and not strict else ""
        return [c for c in self.checks if not c.passed and not (tolerated and c.name.startswith(tolerated))]

    def require(self, mode: str, strict: bool) -> None:
        """Stop when a check failed.

        Raises:
            ModelError: names every failed check.
        """
        if failed := self.failed(mode, strict):
            raise ModelError(
                "the tokenizer's gate failed: " + "; ".join(f"{c.name} ({c.detail})" for c in failed),
                hint="leave the named terms out" + ("" if mode == "added" else ", or try another --token-mode"),
            )

    def as_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {"passed": self.passed, "checks": [vars(check) for check in self.checks]}


def run_gate(
    base: PreTrainedTokenizerFast,
    extended: PreTrainedTokenizerFast,
    plan: VocabularyPlan,
    texts: Mapping[str, Sequence[str]],
    table_rows: int,
) -> GateReport:
    """Check an extension on control sentences made of the old vocabulary and on the user's own texts.

    Args:
        base: the tokenizer before.
        extended: the tokenizer after.
        plan: what was added.
        texts: named sets of sentences, with and without new terms.
        table_rows: rows of the model's embedding table, which may be padded beyond the tokenizer.
    """
    sets = {"old vocabulary": control_sentences(base), "words around terms": _around(plan), **texts}
    told = {name: _encoded(base, extended, group) for name, group in sets.items()}
    everything = list(chain.from_iterable(told.values()))
    forms = {token.id: (normalise(base.backend_tokenizer, token.term).lower(), token.special) for token in plan.tokens}
    checks = [_reachable(extended, plan)]
    checks += [_collateral(name, base, forms, group) for name, group in told.items()]
    checks += [
        _round_trip(base, extended, everything),
        _reload(extended, everything),
        _never_longer(base, everything),
        _table(base, plan, table_rows),
    ]
    return GateReport(tuple(checks))


class _Encoded(NamedTuple):
    """A text and its ids before and after: encoding takes most of the gate's time, and is done once."""

    text: str
    before: list[int]
    after: list[int]


def _encoded(base: PreTrainedTokenizerFast, extended: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[_Encoded]:
    return list(map(_Encoded, texts, encode_plain(base, texts), encode_plain(extended, texts)))


def control_sentences(tokenizer: PreTrainedTokenizerFast, words_each: int = 10) -> list[str]:
    """Sentences made of the tokenizer's own whole words: every one of them, up to `CONTROL_WORDS`."""
    backend = tokenizer.backend_tokenizer
    special = set(tokenizer.all_special_ids)
    ids = sorted(i for i in backend.get_vocab(with_added_tokens=False).values() if i not in special)
    ids = ids[:: max(1, len(ids) // CONTROL_WORDS)]
    words = [word for i in ids if (word := tokenizer.decode([i]).strip()).isalpha()]
    marks = (" ", ", ", " (", ") ", ". ", " - ", "; ", " 3 ", "'s ", " and ")
    return [
        "".join(word + marks[j] for j, word in enumerate(words[i : i + words_each]))
        for i in range(0, len(words), words_each)
    ]


def _around(plan: VocabularyPlan) -> list[str]:
    """Words that contain a term without being it; they must stay what they were."""
    # special tokens and symbols (emoji) stand anywhere
    words = [term for term in plan.terms if term not in plan.special and re.search(r"\w", term)]
    return [f"the {word} of it" for term in words for word in (f"x{term}x", f"{term}s", f"{term}_1", f"un{term}")]


def _stands_in(form: str, text: str, special: bool) -> bool:
    """Whether a form stands in a text: as a whole word, or anywhere when it is special or has no letter."""
    if special or not re.search(r"\w", form):
        return form in text
    return contains_name(text, form)


def _reachable(extended: PreTrainedTokenizerFast, plan: VocabularyPlan) -> Check:
    lost = unreachable(extended, plan)
    done = len(plan.terms) - len(lost)
    return Check(
        "reachable", not lost, f"{done} of {len(plan.terms)} terms in {len(POSITIONS)} positions" + _named(lost)
    )


def _collateral(
    name: str, base: PreTrainedTokenizerFast, forms: Mapping[int, tuple[str, bool]], texts: Sequence[_Encoded]
) -> Check:
    """Texts that change although no new term, given by its id, form and whether it is special, stands in them."""
    changed, hurt = 0, []
    for text, before, after in texts:
        if before == after:
            continue
        changed += 1
        plain = normalise(base.backend_tokenizer, text).lower()
        held = {forms[i] for i in after if i in forms}
        if not any(_stands_in(form, plain, special) for form, special in held):
            hurt.append(text)
    detail = f"{len(texts)} sentences, {changed} hold a new token, {len(hurt)} others changed"
    return Check(f"collateral: {name}", not hurt, detail + _named(hurt))


def _round_trip(base: PreTrainedTokenizerFast, extended: PreTrainedTokenizerFast, texts: Sequence[_Encoded]) -> Check:
    """Decoding gives the text that the base tokenizer gives, up to spaces and to what it can not spell ([UNK])."""
    unk = base.unk_token_id
    lost = []
    for text, before, after in texts:
        if unk is not None and unk in before:
            continue
        if _squeezed(base.decode(before)) != _squeezed(extended.decode(after)):
            lost.append(text)
    return Check(
        "round trip", not lost, f"{len(texts) - len(lost)} of {len(texts)} texts decode as before" + _named(lost)
    )


def _squeezed(text: str) -> str:
    return "".join(text.split()).lower()


def _reload(extended: PreTrainedTokenizerFast, texts: Sequence[_Encoded]) -> Check:
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as folder:
        extended.save_pretrained(folder)
        again = AutoTokenizer.from_pretrained(folder)
    moved = []
    if tokenizer_fingerprint(again) != tokenizer_fingerprint(extended):
        ids = encode_plain(again, [told.text for told in texts])
        moved = [told.text for told, found in zip(texts, ids, strict=True) if found != told.after]
    return Check(
        "save and reload", not moved, f"{len(texts) - len(moved)} of {len(texts)} texts keep their ids" + _named(moved)
    )


def _never_longer(base: PreTrainedTokenizerFast, texts: Sequence[_Encoded]) -> Check:
    """No text takes more tokens than before, unless parts of it were unknown ([UNK]) and now are not."""
    known = [(told.text, len(told.before), len(told.after)) for told in texts if base.unk_token_id not in told.before]
    longer = [text for text, before, after in known if after > before]
    saved = sum(before - after for _, before, after in known)
    return Check("never longer", not longer, f"{saved} tokens saved, {len(longer)} texts longer" + _named(longer))


def _table(base: PreTrainedTokenizerFast, plan: VocabularyPlan, table_rows: int) -> Check:
    """Every new id has a row of its own: none is given twice, none belongs to an old token."""
    ids = plan.ids
    inside = sum(i < table_rows for i in ids)
    detail = f"{len(ids)} new ids, {inside} in the table's free rows, {len(ids) - inside} beyond its {table_rows} rows"
    taken = set(ids) & set(base.get_vocab().values())
    return Check("embedding table", len(set(ids)) == len(ids) and not taken, detail)


def _named(examples: Sequence[str]) -> str:
    if not examples:
        return ""
    shown = ", ".join(repr(text[:60]) for text in examples[:SHOWN])
    return f": {shown}" + (f" and {len(examples) - SHOWN} more" if len(examples) > SHOWN else "")
