from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from contrastok.checkpoint import load_checkpoint
from contrastok.config import TrainConfig
from contrastok.errors import ConfigError, ModelError
from contrastok.loop import Loop
from contrastok.objectives import OBJECTIVES
from contrastok.ranks import ALONE, LostRankError, Ranks, joined, require_shares
from contrastok.state import RunState
from contrastok.trainer import train
from tests.contrastok.test_objectives import make_loop

Make = Callable[..., TrainConfig]
SPLIT = [name for name, known in OBJECTIVES.items() if known.splits]
STOP, SAVED = 5, 4
"""Steps after which a run is stopped, and of these the saved ones."""


class StoppedError(Exception):
    """In the middle of a run."""


def loss_of_all(ranks: Ranks, total: int) -> torch.Tensor:
    """Gradient of a loss that looks at all pairs of a batch, and at the weights themselves; float64 `[3, 2]`."""
    draw = torch.Generator().manual_seed(3)
    texts = torch.randn(total, 3, generator=draw, dtype=torch.float64)
    weights = torch.randn(3, 2, generator=draw, dtype=torch.float64, requires_grad=True)
    outputs = ranks.gather((texts[ranks.share(total)] @ weights).tanh(), total)
    loss = (outputs @ outputs.T).logsumexp(dim=1).mean() + weights.square().sum()
    (loss / ranks.count).backward()
    assert weights.grad is not None
    ranks.add_up([weights.grad])
    return weights.grad


def gradients(config: TrainConfig, ranks: Ranks) -> torch.Tensor:
    """What the optimiser gets in the first step: gradients of rows, then of the temperature, float32."""
    loop = make_loop(config, ranks=ranks)
    loop.student.dropout = lambda draw: contextlib.nullcontext()  # type: ignore[assignment, misc, return-value]
    taken: list[torch.Tensor] = []
    loop.optimizer.optimizer.register_step_pre_hook(
        lambda *_: taken.append(torch.cat([p.grad.flatten() for p in loop._parameters()]))  # type: ignore[union-attr]
    )
    loop.step(0, loop.feed[0])
    return taken[0]


def stopped(loop: Loop) -> None:
    """Run a loop until `STOP` steps are done."""
    seen = []

    def follow(points: Any) -> None:
        seen.extend(points)
        if len(seen) == STOP:
            raise StoppedError

    loop.follow = follow
    with contextlib.suppress(StoppedError):
        loop.run()


def learned(config: TrainConfig, ranks: Ranks, state: RunState | None = None) -> torch.Tensor:
    loop = make_loop(config, state, ranks)
    loop.run()
    return loop.overlay.rows.detach().clone()


def one_of_two(index: int, port: int, config: TrainConfig, folder: Path) -> None:
    """A rank: what it finds goes to a file, and then rank 1 is gone without a word."""
    os.environ |= {"WORLD_SIZE": "2", "RANK": str(index), "LOCAL_RANK": str(index)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    with pytest.raises(LostRankError, match="rank 0 stops"), joined(config) as ranks:
        assert ranks == Ranks(index, 2)
        found = {f"all of {total}": loss_of_all(ranks, total) for total in (1, 4, 5)}
        found |= {name: gradients(replace(config, objective=name), ranks) for name in SPLIT}
        found |= {f"rows {again}": learned(config, ranks) for again in range(2)}
        stopped(make_loop(config, RunState(folder / f"state-{index}", "key"), ranks))
        assert ranks.told(f"from {index}") == "from 0"
        ranks.require_same("all", "the same", "")
        with pytest.raises(ModelError, match="one thing of rank 1 is not that of rank 0"):
            ranks.require_same("one thing", str(index), "")
        save_file(found, folder / f"{index}.safetensors")
        ranks.wait()
        if not ranks.first:
            os._exit(0)
        ranks.wait()


@pytest.fixture(scope="module")
def small(make_config: Make) -> TrainConfig:
    """Batches of 5, so that shares are uneven, and two of them a step."""
    return make_config(batch_size=5, gradient_accumulation=2, epochs=4, learn_temperature=True, checkpoint_every=SAVED)


@pytest.fixture(scope="module")
def two(small: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What each of two ranks found."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(one_of_two, (port, small, folder), nprocs=2)  # type: ignore[no-untyped-call]
    return folder


def test_gathering_has_the_gradient_of_the_whole_batch(two: Path) -> None:
    found = load_file(two / "0.safetensors")
    for total in (1, 4, 5):
        torch.testing.assert_close(found[f"all of {total}"], loss_of_all(ALONE, total), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("objective", SPLIT)
def test_the_first_step_is_that_of_one_rank(small: TrainConfig, two: Path, objective: str) -> None:
    wanted = gradients(replace(small, objective=objective), ALONE)
    found = load_file(two / "0.safetensors")[objective]
    assert wanted.abs().max() > 0
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


def test_ranks_have_the_same_bits_in_every_run(two: Path) -> None:
    first, second = (load_file(two / f"{index}.safetensors") for index in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(first["rows 0"], first["rows 1"])


def test_one_rank_goes_on_where_two_were_stopped(small: TrainConfig, two: Path) -> None:
    """Rank 0 alone has saved, and nothing of it is of a rank."""
    state = RunState(two / "state-0", "key")
    saved = state.load()
    assert saved is not None and saved[1] == SAVED and not (two / "state-1").exists()
    whole = learned(small, ALONE)
    torch.testing.assert_close(learned(small, ALONE, state), whole, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(load_file(two / "0.safetensors")["rows 0"], whole, rtol=1e-3, atol=1e-5)


def test_two_ranks_go_on_where_one_was_stopped(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the command, as torchrun starts it; all is written and told once."""
    options: dict[str, Any] = {"batch_size": 5, "epochs": 4, "checkpoint_every": 1}
    whole, halted = make_config(**options), make_config(**options)
    assert whole.out and halted.out
    train(whole)
    step = Loop.step

    def stop(loop: Loop, at: int, batches: Any) -> torch.Tensor:
        if at == STOP:
            raise StoppedError
        return step(loop, at, batches)

    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        patch.setattr(Loop, "step", stop)
        train(halted)
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m", "contrastok", "train",
            "--terms", str(halted.terms[0]), "--pairs", str(halted.pairs), "--model", halted.model, "--out", str(halted.out),
            "--batch-size", "5", "--epochs", "4", "--learning-rate", "0.05", "--checkpoint-every", "1", "--device", "cpu",
            "--json", "-",
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(f"Resuming at step {STOP}") == 1 and json.loads(done.stdout)["steps"]
    first, second = load_checkpoint(whole.out), load_checkpoint(halted.out)
    assert np.abs(second.rows - first.rows).max() < 1e-3 * np.abs(first.rows - first.initial_rows).max()
    assert second.manifest["training"]["ranks"] == 2 and "ranks" not in first.manifest["training"]
    assert sorted(path.name for path in halted.out.parent.iterdir()) == [halted.out.name]


def test_what_ranks_cannot_share_is_refused(make_config: Make) -> None:
    both = make_config(objective="mlm", batch_size=1)
    require_shares(both, ALONE)
    with pytest.raises(
        ConfigError, match=r"--objective mlm .* one of .*anchored_pairs[\s\S]* number of ranks, 2, not 1"
    ):
        require_shares(both, Ranks(0, 2))
    for name in OBJECTIVES:
        reads_states = name in ("token_distill", "one_token", "mlm") or OBJECTIVES[name].head
        assert (name in SPLIT) == (not reads_states)


def test_several_processes_that_have_not_joined_are_refused(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accelerate.Accelerator.num_processes", 2)
    with pytest.raises(ModelError, match="runs on one process"):
        make_loop(make_config())
