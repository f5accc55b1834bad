from __future__ import annotations

import torch

from benchmarks import embedding_op
from benchmarks.embedding_op import METHODS, Shape, Task
from contrastok.embedding import RowOverlay


def test_every_method_does_the_same_to_the_new_rows(monkeypatch: object) -> None:
    """What is compared is the same work: rows after three steps, those of old tokens untouched where they are frozen."""
    task = Task(Shape(400, 16), new=5)
    rows: dict[str, torch.Tensor] = {}

    def keep(name: str) -> None:
        made: list[object] = []
        real = embedding_op.timed

        def watched(step: object) -> object:
            made.append(step)
            return real(step)  # type: ignore[arg-type]

        embedding_op.timed = watched  # type: ignore[assignment]
        try:
            METHODS[name](task)(3)
        finally:
            embedding_op.timed = real
        (step,) = made
        cells = dict(zip(step.__code__.co_freevars, (c.cell_contents for c in step.__closure__), strict=True))  # type: ignore[attr-defined]
        rows[name] = cells["rows"] if "rows" in cells else rows_of(cells["module"], task)

    for name in METHODS:
        keep(name)
    for name in ("contrastok, lazy", "peft", "dense"):
        torch.testing.assert_close(rows[name], rows["contrastok"], rtol=1e-5, atol=1e-7, msg=name)


def rows_of(module: torch.nn.Module, task: Task) -> torch.Tensor:
    if isinstance(module, RowOverlay):
        return module.rows.detach()
    if isinstance(module, torch.nn.Embedding):
        return module.weight.detach()[task.ids]
    (delta,) = (p for p in module.parameters() if p.requires_grad)
    return delta.detach()
