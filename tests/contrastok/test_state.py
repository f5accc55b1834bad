from __future__ import annotations

from pathlib import Path

import torch

from contrastok.state import RunState


def test_a_state_is_read_by_its_own_run_alone(tmp_path: Path) -> None:
    RunState(tmp_path, "a").save({"rows": torch.ones(2, 3)}, 4, [{"step": 4}])
    assert RunState(tmp_path, "b").load() is None
    found = RunState(tmp_path, "a").load()
    assert found is not None and found[1:] == (4, [{"step": 4}]) and found[0]["rows"].equal(torch.ones(2, 3))
    RunState(tmp_path, "a").clear()
    assert RunState(tmp_path, "a").load() is None
