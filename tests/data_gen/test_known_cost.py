from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from contrastok.data_gen import known_cost
from contrastok.data_gen.known import KnownOptions, KnownPlan
from contrastok.data_gen.known_cost import known_seconds


def test_a_slice_stands_for_all_of_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """A clock that goes on by 1 s a text, a synset and a definition, and by 3 s for what every call takes."""
    now = [0.0]

    def work(plan: Any, texts: Any, *_: Any) -> None:
        now[0] += 3 + len(texts) + (len(list(plan.wordnet.synsets())) if plan.wordnet else 0)

    def fill(term: Any, glossaries: Any) -> Any:
        now[0] += 1
        return term

    def timed(job: Any) -> tuple[Any, float]:
        before = now[0]
        return job(), now[0] - before

    monkeypatch.setattr(known_cost, "find_sentences", work)
    monkeypatch.setattr(known_cost, "fill_term", fill)
    monkeypatch.setattr(known_cost, "timed", timed)
    monkeypatch.setattr(known_cost, "Fold", lambda tokenizer: None)
    monkeypatch.setattr(known_cost, "SYNSETS", 10)
    (tmp_path / "data.noun").write_text("a line\n" * 70)
    (tmp_path / "index.noun").write_text("")

    def synsets() -> Iterator[int]:
        return iter(range(70))

    wordnet: Any = SimpleNamespace(folder=tmp_path, synsets=synsets)
    plan = KnownPlan({f"w{i}": i for i in range(900)}, (), wordnet)
    tokenizer: Any = None
    assert known_seconds(plan, ["a", "b"], 4.0, tokenizer, KnownOptions()) == 3 + 4 * 2 + 70 + 900
    assert known_seconds(KnownPlan({}), ["a"], 4.0, tokenizer, KnownOptions()) == 0
