"""Sentences and definitions that a language model writes for terms that glossary and corpus say too little about."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

from contrastok.console import Console
from contrastok.data_gen.evidence import NOT_ENCODED, TOO_SHORT, Confirm, Evidence, gist
from contrastok.data_gen.findings import Sentence
from contrastok.data_gen.matcher import TermMatcher
from contrastok.data_gen.sentences import single_spaced
from contrastok.data_gen.terms import Term
from contrastok.data_gen.text_files import clean

WITHOUT_TERM, TOO_LONG, REPEATED, NO_TEXT = "without the term", "too long", "repeated", "no text"
WITH_TERM = "a definition with the term"
"""Why a sentence or definition is refused, beside the reasons of the corpus."""

TRIES = 2
"""Answers asked for where none could be read: another seed may give another one."""

SHOWN = 3
"""Sentences of the corpus that a prompt shows."""

LONGEST_DEFINITION = 60
"""Words."""

THINKS, THOUGHT = "<think>", "</think>"
"""Around what a reasoning model says to itself."""

GRACE = 1.0
"""Seconds that the end of a run waits for answers that are just being kept."""

SYSTEM = "You write for a dictionary. You answer with one JSON object and nothing else."

PROMPT = """The word is: {token}
{known}
Write a JSON object with these fields:
{wanted}
Use the word exactly as it is spelled above. If you do not know the word, answer {{}}."""

FIELDS = {"definition", "sentences"}
"""That an answer may have."""

DEFINITION = '"definition": one phrase of at most 30 words that says what the word means, without the word itself'
SENTENCES = (
    '"sentences": a list of {count} different sentences of 8 to 30 words, each with the word, as real texts use it'
)


class Asked(Protocol):
    """A language model."""

    def ask(self, messages: Sequence[dict[str, str]], seed: int, usable: Callable[[str], object]) -> str:
        """Its answer to a chat; what is not usable may be asked for again."""

    def stop(self) -> None:
        """Ask nothing more, and wait for nothing."""


@dataclass(frozen=True)
class Wish:
    """A term that lacks something.

    Attributes:
        index: of the term.
        term: what may be told about it: no name that is held out.
        evidence: what the corpus says.
        sentences: to write; 0 where there are enough.
    """

    index: int
    term: Term
    evidence: Evidence
    sentences: int

    def messages(self) -> list[dict[str, str]]:
        """The chat."""
        known = {
            "It means": self.term.definition,
            "It is also called": ", ".join(self.term.synonyms),
            "It is a kind of": ", ".join(self.term.broader),
            "It stands in these texts": " / ".join(s.text for s in self.evidence.sentences[:SHOWN]),
        }
        wanted = [] if self.term.definition else [DEFINITION]
        wanted += [SENTENCES.format(count=self.sentences)] if self.sentences else []
        prompt = PROMPT.format(
            token=self.term.token,
            known="".join(f"{name}: {text}\n" for name, text in known.items() if text),
            wanted="\n".join(wanted),
        )
        return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": prompt}]


@dataclass(frozen=True)
class Written:
    """What of an answer can be used.

    Attributes:
        definition: "" when none was wanted or is good.
        sentences: that hold the term.
        refused: what was left out, by reason.
        answered: whether the answer was a JSON object.
    """

    definition: str = ""
    sentences: tuple[Sentence, ...] = ()
    refused: Counter[str] = field(default_factory=Counter)
    answered: bool = True


@dataclass(frozen=True)
class Rules:
    """What a sentence must be like: as those of the corpus.

    Attributes:
        matcher: finds the terms.
        confirm: asks the tokenizer.
        min_words, max_words: of a sentence.
        seed: of the first try.
        source: where pairs say that it comes from.
    """

    matcher: TermMatcher
    confirm: Confirm
    min_words: int
    max_words: int
    seed: int
    source: str


def write_missing(model: Asked, wishes: Sequence[Wish], rules: Rules, parallel: int, console: Console) -> list[Written]:
    """Ask for everything that is missing.

    Args:
        model: is asked from several threads.
        wishes: one a term.
        rules: for what it writes.
        parallel: requests at a time.
        console: shows progress.

    Returns:
        One for each wish, in their order.

    Raises:
        ModelError: the model does not answer. This, and an interrupt, stop the model and wait for no answer.
    """
    answers: list[Future[Written]] = [Future() for _ in wishes]
    left = iter(zip(answers, wishes, strict=True))
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                taken = next(left, None)
            if taken is None or not taken[0].set_running_or_notify_cancel():
                return
            answer, wish = taken
            try:
                answer.set_result(_written(model, wish, rules))
            except BaseException as error:
                answer.set_exception(error)

    # Not those of a pool, which Python waits for when it ends: a silent server would hold up Ctrl-C.
    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(parallel, len(wishes)))]
    try:
        for thread in threads:
            thread.start()
        results = (answer.result() for answer in answers)
        return list(console.track(results, "Asking the language model", len(wishes)))
    except BaseException:
        model.stop()
        for answer in answers:
            answer.cancel()
        until = time.monotonic() + GRACE
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        raise


def _written(model: Asked, wish: Wish, rules: Rules) -> Written:
    for attempt in range(TRIES):
        record = _record(model.ask(wish.messages(), rules.seed + attempt, lambda said: _record(said) is not None))
        if record is not None:
            return judge(record, wish, rules)
    return Written(answered=False)


def _record(answer: str) -> dict[str, Any] | None:
    """What was asked for: an object with one of the fields, or the empty one of a model that does not know the word.

    Objects within an answer that was cut off are neither.
    """
    found = json_object(answer)
    return found if found is not None and (not found or FIELDS & found.keys()) else None


def json_object(answer: str) -> dict[str, Any] | None:
    """The last JSON object in an answer, whatever stands around it; None when there is none.

    What a model thinks before it answers, up to the last "</think>", is passed over.
    """
    with contextlib.suppress(ValueError, RecursionError):
        if isinstance(whole := json.loads(answer), dict):  # "</think>" may be a term, too
            return whole
    said = answer.rpartition(THOUGHT)[2]
    if said.lstrip().startswith(THINKS):  # and never came to an answer
        return None
    found: dict[str, Any] | None = None
    decoder, start = json.JSONDecoder(), said.find("{")
    while start >= 0:
        try:
            found, end = decoder.raw_decode(said, start)
        except RecursionError:
            return None
        except ValueError:
            end = start + 1
        start = said.find("{", end)
    return found


def judge(record: dict[str, Any], wish: Wish, rules: Rules) -> Written:
    """What of an answer is of use: models leave the word out, repeat themselves, and write other things than text."""
    refused: Counter[str] = Counter()
    definition = "" if wish.term.definition else _definition(record.get("definition"), wish, rules, refused)
    offered = record.get("sentences") if wish.sentences else ()
    seen = {gist(sentence.text, rules.matcher.fold) for sentence in wish.evidence.sentences}
    kept: list[Sentence] = []
    for item in offered if isinstance(offered, list) else ():
        sentence = _sentence(item, wish.index, rules)
        if isinstance(sentence, str):
            refused[sentence] += 1
        elif _again(sentence, seen, rules):
            refused[REPEATED] += 1
        elif len(kept) < wish.sentences:
            kept.append(sentence)
    return Written(definition, tuple(kept), refused)


def _sentence(item: object, term: int, rules: Rules) -> Sentence | str:
    """A sentence, or why it is none."""
    text = single_spaced(clean(item)) if isinstance(item, str) else ""
    if not text:
        return NO_TEXT
    words = text.count(" ") + 1
    if not rules.min_words <= words <= rules.max_words:
        return TOO_SHORT if words < rules.min_words else TOO_LONG
    spans = tuple((match.start, match.end) for match in rules.matcher.find(text) if match.term_index == term)
    if not spans:
        return WITHOUT_TERM
    return Sentence(text, spans, rules.source) if rules.confirm([text], term)[0] else NOT_ENCODED


def _again(sentence: Sentence, seen: set[str], rules: Rules) -> bool:
    """Whether the like was there before; takes note of it."""
    mark = gist(sentence.text, rules.matcher.fold)
    known = mark in seen
    seen.add(mark)
    return known


def _definition(item: object, wish: Wish, rules: Rules, refused: Counter[str]) -> str:
    if item is None:
        return ""
    text = single_spaced(clean(item)) if isinstance(item, str) else ""
    key = rules.matcher.fold.key
    if not text or key(text) == key(wish.term.token):
        refused[NO_TEXT] += 1
        return ""
    if text.count(" ") >= LONGEST_DEFINITION:
        refused[TOO_LONG] += 1
        return ""
    if any(match.term_index == wish.index for match in rules.matcher.find(text)):
        refused[WITH_TERM] += 1
        return ""
    return text


def account(written: Sequence[Written], wishes: Sequence[Wish]) -> dict[str, Any]:
    """What pairs.json says of it; the same whether answers came from the server or from disk."""
    refused = sum((one.refused for one in written), Counter[str]())
    return {
        "terms_asked": len(wishes),
        "definitions": sum(bool(one.definition) for one in written),
        "sentences": sum(len(one.sentences) for one in written),
        "refused": dict(sorted(refused.items())),
        "no_answer": [wish.term.token for wish, one in zip(wishes, written, strict=True) if not one.answered],
    }
