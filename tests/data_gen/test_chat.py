from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from contrastok.data_gen.chat import KEY, MOST_BYTES, ChatServer, Pace
from contrastok.errors import ModelError
from contrastok.llm_config import LLMOptions

HELLO = [{"role": "user", "content": "hello"}]


def chat(server: Any, folder: Path, waits: list[float] | None = None, **options: Any) -> ChatServer:
    told = LLMOptions(**{"llm": server.url, "llm_model": "tiny", "llm_retries": 2, "llm_timeout": 30.0, **options})
    return ChatServer(told, folder, (waits if waits is not None else []).append)


def in_turn(*replies: Any) -> Callable[[dict[str, Any]], Any]:
    left = iter(replies)
    return lambda asked: next(left)


def test_an_answer_is_kept_by_what_was_asked(server: Any, tmp_path: Path) -> None:
    one = chat(server, tmp_path)
    assert one.ask(HELLO, 0) == one.ask(HELLO, 0) == chat(server, tmp_path).ask(HELLO, 0) == "hi"
    assert one.counts == {"requests": 1, "cached": 1} and len(server.asked) == 1
    assert server.asked[0]["path"] == "/v1/chat/completions" and server.asked[0]["model"] == "tiny"
    one.ask(HELLO, 1)
    chat(server, tmp_path, llm_model="other").ask(HELLO, 0)
    assert [(asked["seed"], asked["model"]) for asked in server.asked[1:]] == [(1, "tiny"), (0, "other")]
    next(tmp_path.rglob("*.json")).write_text("{broken")
    for seed in (0, 1):
        chat(server, tmp_path).ask(HELLO, seed)
    chat(server, tmp_path, llm_model="other").ask(HELLO, 0)
    assert len(server.asked) == 4  # the one that was damaged
    chat(server, tmp_path, llm=f"{server.url}/other").ask(HELLO, 0)
    assert len(server.asked) == 5  # another server


def test_an_answer_that_is_not_usable_is_asked_for_again(server: Any, tmp_path: Path) -> None:
    server.reply = in_turn(*((200, server.completion(text)) for text in ("I am sorry.", "{}")))
    answers = [chat(server, tmp_path).ask(HELLO, 0, lambda said: "{" in said) for _ in range(3)]
    assert answers == ["I am sorry.", "{}", "{}"]


def test_the_key_comes_from_the_environment(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chat(server, tmp_path).ask(HELLO, 0)
    monkeypatch.setenv(KEY, "secret")
    chat(server, tmp_path).ask(HELLO, 1)
    assert [headers.get("authorization") for headers in server.headers] == [None, "Bearer secret"]
    assert "secret" not in "".join(file.read_text() for file in tmp_path.rglob("*.json"))


def test_a_busy_server_is_waited_for_as_it_asks(server: Any, tmp_path: Path) -> None:
    waits: list[float] = []
    server.reply = in_turn((429, "slow down", {"Retry-After": "7"}), (503, ""), (200, server.completion("at last")))
    assert chat(server, tmp_path, waits).ask(HELLO, 0) == "at last"
    assert waits == [7.0, 1.0]
    past = "Wed, 21 Oct 2015 07:28:00 GMT"
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=50), usegmt=True)
    told = [(429, "", {"Retry-After": when}) for when in ("60", past, "Fri", soon)]
    server.reply = in_turn(*told, (200, server.completion("x")))
    assert chat(server, tmp_path, waits, llm_retries=4).ask(HELLO, 1) == "x"
    assert waits[2:5] == [60.0, 0.0, 2.0] and 20 < waits[5] <= 50


@pytest.mark.parametrize("dated", [False, True])
def test_a_server_that_asks_for_a_long_wait_is_not_asked_again(server: Any, tmp_path: Path, dated: bool) -> None:
    waits: list[float] = []
    when = format_datetime(datetime.now(UTC) + timedelta(hours=2), usegmt=True) if dated else "3600"
    server.reply = lambda asked: (429, "", {"Retry-After": when})
    with pytest.raises(ModelError, match=r"status 429, and it asks to wait for [37],\d{3} s") as told:
        chat(server, tmp_path, waits).ask(HELLO, 0)
    assert len(server.asked) == 1 and not waits and "same command" in told.value.hint


@pytest.mark.parametrize("location", ["https://there/v1/chat/completions", "//there/v1/chat\x9b1m"])
def test_a_redirect_is_told_and_not_followed(server: Any, tmp_path: Path, location: str) -> None:
    server.reply = lambda asked: (307, "", {"Location": location})
    with pytest.raises(ModelError, match=r"status 307, it sends to https?://there/v1/chat") as told:
        chat(server, tmp_path).ask(HELLO, 0)
    assert "give --llm http" in told.value.hint and "//there/v1" in told.value.hint
    assert len(server.asked) == 1 and str(told.value).replace("\n", "").isprintable()


def test_a_server_that_only_fails_is_given_up(server: Any, tmp_path: Path) -> None:
    server.reply = lambda asked: (500, "out of memory")
    with pytest.raises(ModelError, match=r"status 500: out of memory, 3 times"):
        chat(server, tmp_path).ask(HELLO, 0)
    assert len(server.asked) == 3 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("asked_for", ["nan", "inf", "-inf", "1e999"])
def test_a_wait_that_is_no_number_is_passed_over(server: Any, tmp_path: Path, asked_for: str) -> None:
    waits: list[float] = []
    server.reply = in_turn((503, "", {"Retry-After": asked_for}), (200, server.completion("x")))
    assert chat(server, tmp_path, waits).ask(HELLO, 0) == "x" and waits == [0.5]


@pytest.mark.parametrize("busy", [True, False])
def test_stopped_while_it_waits_or_reads(server: Any, tmp_path: Path, busy: bool) -> None:
    reading, go_on = threading.Event(), threading.Event()

    def reply(asked: dict[str, Any]) -> Any:
        reading.set()
        if busy:
            return 503, "", {"Retry-After": "30"}
        go_on.wait(30)
        return 200, server.completion("too late")

    server.reply = reply
    one = ChatServer(LLMOptions(llm=server.url, llm_model="tiny"), tmp_path)
    failed: list[ModelError] = []

    def ask() -> None:
        with pytest.raises(ModelError, match="stopped") as caught:
            one.ask(HELLO, 0)
        failed.append(caught.value)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    assert reading.wait(30)
    one.stop()
    go_on.set()
    thread.join(10)
    assert failed and len(server.asked) == 1 and not list(tmp_path.iterdir())
    with pytest.raises(ModelError, match="stopped"):
        one.ask(HELLO, 1)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("status", "hint"),
    [(401, KEY), (404, "ends in /v1"), (400, "what the server says"), (422, "fit it"), (307, "fit it")],
)
def test_a_refusal_is_told_at_once(server: Any, tmp_path: Path, status: int, hint: str) -> None:
    server.reply = lambda asked: (status, "no such thing")
    with pytest.raises(ModelError) as caught:
        chat(server, tmp_path).ask(HELLO, 0)
    assert len(server.asked) == 1 and hint in caught.value.hint and "no such thing" in str(caught.value)
    assert "--llm" in caught.value.hint or status == 401


def test_silence_is_a_failure_too(server: Any, tmp_path: Path) -> None:
    def slow_once(asked: dict[str, Any]) -> tuple[int, Any]:
        if len(server.asked) == 1:
            time.sleep(1.0)
        return 200, server.completion("awake")

    server.reply = slow_once
    assert chat(server, tmp_path, llm_timeout=0.4).ask(HELLO, 0) == "awake" and len(server.asked) == 2
    nobody = LLMOptions(llm="http://127.0.0.1:9/v1", llm_model="tiny", llm_retries=1)
    with pytest.raises(ModelError, match=r"no connection .*, 2 times"):
        ChatServer(nobody, tmp_path, lambda seconds: None).ask(HELLO, 5)


@pytest.mark.parametrize(
    "body",
    [
        "<html>",
        "[]",
        '{"choices": [{"mess',
        {"choices": []},
        {"choices": [{"message": "hi"}]},
        {"choices": [{"message": {"content": ["hi"]}}]},
        {"choices": [{"text": 1}]},
        "[" * 9999,
    ],
)
def test_what_is_no_completion_is_told_and_not_kept(server: Any, tmp_path: Path, body: object) -> None:
    server.reply = lambda asked: (200, body)
    with pytest.raises(ModelError, match="no chat completion: ") as caught:
        chat(server, tmp_path).ask(HELLO, 0)
    said = body if isinstance(body, str) else json.dumps(body)
    assert caught.value.what.endswith(f": {said[:200]}") and "ends in /v1" in caught.value.hint
    assert len(server.asked) == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("message", [{"content": None}, {"content": ""}, {"reasoning_content": "hm"}])
def test_a_completion_without_text_is_an_empty_answer_and_not_kept(
    server: Any, tmp_path: Path, message: dict[str, Any]
) -> None:
    server.reply = lambda asked: (200, {"choices": [{"message": message}]})
    assert chat(server, tmp_path).ask(HELLO, 0) == "" and not list(tmp_path.iterdir())


@pytest.mark.parametrize("status", [200, 404, 500])
def test_what_a_server_says_cannot_steer_the_terminal(server: Any, tmp_path: Path, status: int) -> None:
    server.reply = lambda asked: (status, "\x1b[2Jgr\u00fcn\n\x9b1m\u202e\x07")
    with pytest.raises(ModelError) as caught:
        chat(server, tmp_path).ask(HELLO, 0)
    assert "\\x1b[2Jgr\u00fcn\\n\\x9b1m\\u202e\\x07" in caught.value.what and caught.value.what.isprintable()


def test_an_answer_without_end_is_a_failure(server: Any, tmp_path: Path) -> None:
    server.reply = lambda asked: (200, server.completion("x" * MOST_BYTES))
    with pytest.raises(ModelError, match=r'more than 4 MB: {"choices"'):
        chat(server, tmp_path).ask(HELLO, 0)
    assert len(server.asked) == 1


def test_a_body_that_cannot_be_unpacked_is_no_completion(server: Any, tmp_path: Path) -> None:
    server.reply = lambda asked: (200, "plain", {"content-encoding": "gzip"})
    with pytest.raises(ModelError, match="no chat completion: "):
        chat(server, tmp_path).ask(HELLO, 0)


def test_an_answer_in_drips_is_given_up_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 40\r\n\r\n")
                for _ in range(40):
                    connection.sendall(b" ")
                    time.sleep(0.1)

        threading.Thread(target=drip, daemon=True).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        told = LLMOptions(llm=url, llm_model="tiny", llm_retries=0, llm_timeout=0.5)
        with pytest.raises(ModelError, match=r"no answer within 0\.5 s, 1 times"):
            ChatServer(told, tmp_path).ask(HELLO, 0)


def test_requests_keep_their_pace() -> None:
    waits: list[float] = []
    pace = Pace(10.0, waits.append)
    for _ in range(3):
        pace.wait()
    assert waits[0] == 0 and 0.0 < waits[1] <= 0.1 < waits[2] <= 0.2
    Pace(0.0, waits.append).wait()
    assert len(waits) == 3


KILLED = """
import sys
from pathlib import Path
from contrastok.data_gen.chat import ChatServer
from contrastok.llm_config import LLMOptions
chat = ChatServer(LLMOptions(llm=sys.argv[1], llm_model="tiny"), Path(sys.argv[2]))
for seed in range(5):
    chat.ask([{"role": "user", "content": "hello"}], seed)
"""


def test_a_run_that_was_killed_does_not_ask_again(server: Any, tmp_path: Path) -> None:
    process: list[subprocess.Popen[bytes]] = []

    def killer(asked: dict[str, Any]) -> tuple[int, Any]:
        if asked["seed"] == 3 and process:
            process.pop().kill()
        return 200, server.completion(f"answer {asked['seed']}")

    server.reply = killer
    process.append(running := subprocess.Popen([sys.executable, "-c", KILLED, server.url, str(tmp_path)]))
    assert running.wait(120) == -9
    answers = [chat(server, tmp_path).ask(HELLO, seed) for seed in range(5)]
    assert answers == [f"answer {seed}" for seed in range(5)]
    assert [asked["seed"] for asked in server.asked] == [0, 1, 2, 3, 3, 4]
