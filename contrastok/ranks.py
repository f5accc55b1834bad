"""Several processes train as one: each has its share of every batch, and all see the loss of the whole batch.

What a batch holds is planned once, whoever does it. Each rank embeds its share of the batch, and the embeddings are
gathered with their gradients. Then every rank computes the whole loss, a `count`-th of it, and the gradients are added
up: those of one process with the whole batch, whatever the loss looks at. Only embeddings and gradients travel.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist

from contrastok.errors import ConfigError, ContrastokError, ModelError, raise_all

if TYPE_CHECKING:
    from contrastok.config import TrainConfig

T = TypeVar("T")

PATIENCE = timedelta(days=7)
"""How long a rank waits for another: while rank 0 encodes and calibrates, however long that takes. A rank that dies is
not waited for: the launcher ends the others, and the connection to it breaks."""


class LostRankError(ContrastokError):
    """Another process of the run has ended, so that this one cannot go on."""


@dataclass(frozen=True)
class Ranks:
    """The processes of a run, as one of them sees them; a run without a launcher is one of one.

    Attributes:
        index: which one this is, from 0 on. Rank 0 reads the clock, writes, and talks.
        count: how many there are.
    """

    index: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this one writes and talks."""
        return self.index == 0

    def share(self, total: int) -> list[int]:
        """Which of `total` sequences this rank embeds: as many on each, so that the last ones take some twice."""
        size = -(-total // self.count)
        return [place % total for place in range(self.index * size, (self.index + 1) * size)]

    def gather(self, part: torch.Tensor, total: int) -> torch.Tensor:
        """What all ranks made of their shares, in the order of the batch.

        The gradient of a part is the sum of those that all ranks have of it, so that a loss of which each rank takes a
        `count`-th has its whole gradient (as OpenCLIP's `ClipLoss` with `gather_with_grad`).

        Args:
            part: of the sequences of `share(total)`, `[ceil(total / count), d]`.
            total: sequences of the batch.

        Returns:
            `[total, d]`, the same bits on every rank.
        """
        if self.count == 1:
            return part
        parts: torch.Tensor = _Gather.apply(part, self)  # type: ignore[no-untyped-call]
        return parts[:total]

    def add_up(self, tensors: Iterable[torch.Tensor]) -> None:
        """Put the sum over ranks in the place of each tensor, the same bits on every rank."""
        if self.count > 1:
            for tensor in tensors:
                dist.all_reduce(tensor)

    def copy_first(self, tensors: Iterable[torch.Tensor]) -> None:
        """Put what rank 0 has in the place of each tensor."""
        if self.count > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def told(self, value: T) -> T:
        """What rank 0 has."""
        if self.count == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def wait(self) -> None:
        """Until all ranks are here."""
        if self.count > 1:
            dist.barrier()

    def require_same(self, what: str, value: str, hint: str) -> None:
        """Refuse to go on where ranks have different values.

        Raises:
            ModelError: on every rank; says which differ from rank 0.
        """
        if self.count == 1:
            return
        values = [""] * self.count
        dist.all_gather_object(values, value)
        if others := [str(rank) for rank, other in enumerate(values) if other != values[0]]:
            raise ModelError(f"{what} of rank {', '.join(others)} is not that of rank 0", hint=hint)

    def after_first(self) -> None:
        """Wait for rank 0 to call `meet`; rank 0 goes on."""
        if not self.first:
            self.wait()

    def meet(self, key: str) -> None:
        """Let the others do, after rank 0, what it has done so far, and wait for them.

        Rank 0 has then told what is wrong with the input, once, and the others find what it encoded in the cache.

        Args:
            key: the identity of the run.

        Raises:
            ModelError: the others are about to do something else.
        """
        if self.first:
            self.wait()
        self.require_same(
            "the run", key, "start the same command on all machines, with the same files, versions and kind of device"
        )

    def muted(self, config: TrainConfig) -> TrainConfig:
        """The options, so that one rank alone talks."""
        return config if self.first else dataclasses.replace(config, quiet=True, json=None, report_to=())


class _Gather(torch.autograd.Function):
    """`all_gather` with a gradient; torch deprecates its own (`torch.distributed.nn`) for one that is not public."""

    @staticmethod
    def forward(ctx: Any, part: torch.Tensor, ranks: Ranks) -> torch.Tensor:
        parts = [torch.empty_like(part) for _ in range(ranks.count)]
        dist.all_gather(parts, part.contiguous())
        ctx.mine = slice(ranks.index * len(part), (ranks.index + 1) * len(part))
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (gradient,) = gradients
        summed = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed[ctx.mine], None


ALONE = Ranks()
"""A run without a launcher."""


def launched() -> bool:
    """Whether torchrun, `accelerate launch` or the like started several processes, of which this is one."""
    return "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") not in ("", "1")


def follows() -> bool:
    """Whether this process is one of several and not the one that writes."""
    return launched() and os.environ["RANK"] != "0"


def on_cpu(config: TrainConfig) -> bool:
    """Whether Accelerate must be told to stay on the CPU: without a GPU it joins ranks only when told so."""
    return config.device == "cpu" or (launched() and not torch.cuda.is_available())


@contextlib.contextmanager
def joined(config: TrainConfig) -> Iterator[Ranks]:
    """Join the processes that a launcher started.

    Yields:
        this process among them.

    Raises:
        ConfigError: they do not find each other, or a GPU each; says what torch said.
        LostRankError: another one has ended.
    """
    if not launched():
        yield ALONE
        return
    from accelerate import PartialState

    ours = not dist.is_initialized()
    PartialState._reset_state()  # an earlier run in this process may have been one of one
    try:
        state = PartialState(cpu=on_cpu(config), timeout=PATIENCE)
    except Exception as error:  # of environment variables, addresses, devices: each backend has errors of its own
        hint = "start no more ranks than a machine has GPUs, or add --device cpu; without a launcher, unset RANK"
        raise ConfigError(f"the processes of a launcher do not get together: {error}", hint=hint) from error
    ranks = Ranks(state.process_index, state.num_processes)
    try:
        yield ranks
    except RuntimeError as error:
        if not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        hint = "what that one said tells why; the same command goes on from the last saved state"
        raise LostRankError(f"rank {ranks.index} stops, for another one has ended", hint=hint) from error
    if ours:  # not after an error: others may never come
        dist.destroy_process_group()


def require_shares(config: TrainConfig, ranks: Ranks) -> None:
    """Refuse options with which several ranks would do no more than one.

    Raises:
        ConfigError: says which.
    """
    from contrastok.objectives import OBJECTIVES

    problems = []
    if not OBJECTIVES[config.objective].splits:
        able = ", ".join(name for name, known in OBJECTIVES.items() if known.splits)
        problems.append(
            f"--objective {config.objective} reads the states of a whole batch, so that it runs on one process: start "
            f"it without a launcher, or take one of {able}"
        )
    if config.batch_size < ranks.count:
        problems.append(f"--batch-size must be at least the number of ranks, {ranks.count}, not {config.batch_size}")
    raise_all(ConfigError, problems if ranks.count > 1 else [])
