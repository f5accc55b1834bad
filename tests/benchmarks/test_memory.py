from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.memory import BOTH, FLOOR, METHODS, OURS, PEFT, RANK, Method, Shape, Task, left_out, prepared, steps_of

V, D, N = 300, 16, 4


@pytest.mark.parametrize("head", ["tied", "own", "none"])
def test_every_method_does_the_same_step_and_trains_what_it_says(head: Any) -> None:
    task = Task(Shape(V, D, head), N)
    tables = 2 if head == "own" else 1
    trained = {
        FLOOR: 0,
        "full": tables * V * D,
        "full, copied": tables * V * D,
        "lora": tables * RANK * (V + D),
        PEFT: tables * N * D,
        OURS: N * D,
        BOTH: tables * N * D,
    }
    methods = {name: method for name, method in METHODS.items() if head != "none" or not method.needs_head}
    losses = {}
    for name, method in methods.items():
        loss, parameters = method.prepare(task.model(), task)
        losses[name] = float(loss().detach())
        assert sum(p.numel() for p in parameters) == trained[name], name
    assert losses == pytest.approx(dict.fromkeys(methods, losses[FLOOR]), rel=1e-3)


@pytest.mark.parametrize("name", METHODS)
def test_a_step_moves_what_is_trained_and_nothing_else(name: str) -> None:
    task = Task(Shape(V, D, "tied"), N)
    model = task.model()
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    seen: list[tuple[torch.nn.Parameter, torch.Tensor]] = []

    def watched(model: Any, task: Task) -> Any:
        loss, parameters = METHODS[name].prepare(model, task)
        seen.extend((p, p.detach().clone()) for p in parameters)
        return loss, parameters

    prepared(Method(watched, 0), model, task)()
    now = {key.replace("base_model.model.", "").replace(".base_layer", ""): p for key, p in model.named_parameters()}
    now = {key.replace(".original_module", "").replace("tokens.base.", "tokens."): p for key, p in now.items()}
    moved = [key for key, p in before.items() if not torch.equal(now[key], p)]
    assert moved == (["model.embed_tokens.weight"] if name == "full" else [])
    assert any(not torch.equal(p, then) for p, then in seen) == (name != FLOOR)


def test_what_does_not_fit_is_left_out_in_a_sentence() -> None:
    task = Task(Shape(256_000, 2304, "tied"), 100)
    assert left_out(OURS, task, 8 * 2**30) is None
    assert left_out(BOTH, Task(Shape(V, D, "none"), N), 2**40) == f"{BOTH} is left out: there is no head"
    assert "full is left out: it may need 8.6 GiB, and 4.0 GiB are free" in str(left_out("full", task, 4 * 2**30))


def test_a_method_gets_ready_within_its_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a method copies for itself then lies above what was in use before, and is counted."""
    ready = []

    def watched(model: Any, task: Task) -> Any:
        ready.append(task)
        return METHODS[PEFT].prepare(model, task)

    monkeypatch.setitem(METHODS, OURS, Method(watched, 1))
    run = steps_of(OURS, Task(Shape(V, D, "tied"), N))
    assert not ready
    assert len(run(2)) == 2 and len(ready) == 1
