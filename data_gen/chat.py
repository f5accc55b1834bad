"""A language model behind an OpenAI-compatible server: asked with patience, and never twice the same thing."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx2

from contrastok.errors import ModelError, OutputError
from contrastok.files import atomic_file
from contrastok.llm_config import LLMOptions
from contrastok.visible import visible

KEY = "CONTRASTOK_LLM_KEY"
"""The environment variable that holds the key of the server, if it wants one."""

LONGEST_WAIT = 60.0
"""Seconds between two tries of a request, at most: a server that asks for more is asked again by another run."""

MOST_TOKENS = 2048
"""That an answer may have."""

MOST_BYTES = 4 * 2**20
"""That a response may have: far more than an answer of so many tokens takes."""

SHOWN = 200
"""Characters of what a server says instead of an answer."""

BUSY = (408, 409, 425, 429)
"""Status codes, beside all from 500 on, after which the same request may succeed."""


class ChatServer:
    """Sends prompts, waits where the server asks for it, and keeps every answer of use on disk.

    Answers are kept by the hash of what was asked (server, model, prompt, seed): a run that was killed does not ask
    again.

    Args:
        options: server, model, and how patient to be; `llm` is given.
        folder: where answers are kept.
        sleep: waits so many seconds; by default until `stop`, if that comes sooner.

    Attributes:
        counts: "requests" sent, and answers that were "cached".
    """

    def __init__(self, options: LLMOptions, folder: Path, sleep: Callable[[float], object] | None = None) -> None:
        assert options.llm is not None
        self._stopped = threading.Event()
        self.options, self.folder, self.sleep = options, folder, sleep or self._stopped.wait
        self.url = options.llm.rstrip("/").removesuffix("/chat/completions") + "/chat/completions"
        key = os.environ.get(KEY, "")
        self._client = httpx2.Client(
            timeout=options.llm_timeout, headers={"Authorization": f"Bearer {key}"} if key else {}
        )
        self._pace = Pace(options.llm_rate, self.sleep)
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter(requests=0, cached=0)

    def ask(self, messages: Sequence[dict[str, str]], seed: int, usable: Callable[[str], object] = bool) -> str:
        """The model's answer.

        Args:
            messages: of the chat, each with role and content.
            seed: of the server's sampling.
            usable: tells answers that are kept from those that another run shall ask for again.

        Raises:
            ModelError: the server refuses, sends no chat completion, or does not answer after all tries; or `stop` was
                called. What it said before is kept.
        """
        asked = {
            "model": self.options.llm_model,
            "messages": list(messages),
            "seed": seed,
            "temperature": 0.7,
            "max_tokens": MOST_TOKENS,
        }
        named = {"url": self.url, **asked}
        mark = hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()
        file = self.folder / mark[:2] / f"{mark}.json"
        kept = _read(file)
        if kept is not None and usable(kept):
            self._count("cached")
            return kept
        body = self._sent(asked)
        answer = _content(body)
        if answer is None:
            raise self._failed(f"no chat completion: {_shown(body)}", _hint(404))
        if usable(answer):  # a full disk costs time, not the run
            with contextlib.suppress(OutputError), atomic_file(file) as partial:
                partial.write_text(json.dumps({"asked": named, "answer": answer}), encoding="utf-8")
        return answer

    def stop(self) -> None:
        """Ask nothing more: requests of other threads fail as soon as they do not wait for the network."""
        self._stopped.set()

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def _count(self, name: str) -> None:
        with self._lock:
            self.counts[name] += 1

    def _sent(self, asked: dict[str, Any]) -> bytes:
        """The body of the first good response."""
        problem, wait = "", 0.0
        for attempt in range(self.options.llm_retries + 1):
            if attempt:
                self.sleep(wait)
            self._pace.wait()
            self._go_on()
            self._count("requests")
            wait = min(0.5 * 2**attempt, LONGEST_WAIT)
            try:
                response, body = self._response(asked)
            except httpx2.TimeoutException:
                problem = f"no answer within {self.options.llm_timeout:g} s"
                continue
            except httpx2.DecodingError as error:
                raise self._failed(f"no chat completion: {visible(str(error))}", _hint(404)) from error
            except httpx2.TransportError as error:
                problem = f"no connection ({visible(str(error))})"
                continue
            if response.status_code == 200:
                return body
            status, said, headers = response.status_code, _shown(body), response.headers
            problem = f"status {status}{f': {said}' if said else ''}"
            if response.has_redirect_location:
                raise self._moved(problem, headers["location"])
            if status < 500 and status not in BUSY:
                raise self._failed(problem, _hint(status))
            wait = _asked_wait(headers.get("retry-after"), wait)
            if wait > LONGEST_WAIT:
                hint = "give the same command again then: it goes on where it was"
                raise self._failed(f"{problem}, and it asks to wait for {wait:,.0f} s", hint)
        raise self._failed(
            f"{problem}, {self.options.llm_retries + 1} times", "see that it runs; then give the same command again"
        )

    def _response(self, asked: dict[str, Any]) -> tuple[httpx2.Response, bytes]:
        """A response and its body. The client's timeout is for each read: the whole is timed here, after each."""
        deadline = time.monotonic() + self.options.llm_timeout
        body = bytearray()
        with self._client.stream("POST", self.url, json=asked) as response:
            for part in response.iter_bytes():
                self._go_on()
                body += part
                if len(body) > MOST_BYTES:
                    raise self._failed(f"more than {MOST_BYTES >> 20} MB: {_shown(bytes(body))}", _hint(404))
                if time.monotonic() > deadline:
                    raise httpx2.ReadTimeout("the answer is not complete")
        return response, bytes(body)

    def _go_on(self) -> None:
        if self._stopped.is_set():
            raise self._failed("the run was stopped", "give the same command again")

    def _moved(self, problem: str, location: str) -> ModelError:
        """It is not followed: terms and sentences go nowhere but to the server that was named."""
        there = visible(urljoin(self.url, location))
        hint = f"give --llm {there.removesuffix('/chat/completions')} if that is where terms may be sent"
        return self._failed(f"{problem}, it sends to {there}", hint)

    def _failed(self, what: str, hint: str) -> ModelError:
        return ModelError(f"the language model does not answer: {what}", where=self.url, hint=hint)


class Pace:
    """At most so many a second, over all threads; 0: as many as come."""

    def __init__(self, rate: float, sleep: Callable[[float], object]) -> None:
        self._gap, self._sleep = 1 / rate if rate else 0.0, sleep
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Until it is one's turn."""
        if not self._gap:
            return
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._gap
        self._sleep(turn - now)


def _hint(status: int) -> str:
    if status in (401, 403):
        return f"put the server's key into the environment variable {KEY}"
    if status == 404:
        return "--llm is the address that ends in /v1, and --llm-model one of its models"
    return "see what the server says, and whether --llm and --llm-model fit it"


def _asked_wait(header: str | None, otherwise: float) -> float:
    """Seconds that a Retry-After header asks for, by their number or by a date; what is neither is passed over."""
    try:
        seconds = float(header or "")
    except ValueError:
        try:
            date = parsedate_to_datetime(header or "")
        except ValueError:
            return otherwise
        seconds = date.replace(tzinfo=date.tzinfo or UTC).timestamp() - time.time()
    return max(seconds, 0.0) if math.isfinite(seconds) else otherwise


def _content(body: bytes) -> str | None:
    """The text of a chat completion, "" where it has none; None where the body is no chat completion."""
    try:
        text = json.loads(body)["choices"][0]["message"].get("content")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return "" if text is None else text if isinstance(text, str) else None


def _shown(body: bytes) -> str:
    """The beginning of a body, safe for a terminal."""
    return visible(body[: 8 * SHOWN].decode(errors="replace").strip()[:SHOWN])


def _read(file: Path) -> str | None:
    try:
        answer = json.loads(file.read_text(encoding="utf-8"))["answer"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return answer if isinstance(answer, str) else None
