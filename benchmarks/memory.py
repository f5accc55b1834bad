"""What teaching new tokens to a model takes in memory, beside what the frozen model takes.

    python -m benchmarks.memory --shape gemma-2-2b [--new 100] [--json FILE]
    python -m benchmarks.memory --shape all --new 100 1000

A model has the table of a known one in bf16 and a thin body, for memory goes into tables. Its head is tied to the table, has
its own, or there is none and texts are embedded. One step is forward, loss (over all classes by the model's own head, where
there is one), backward and AdamW. The methods:

* frozen: forward, and backward to the embedded text. Nothing is trained; this much every method needs.
* full: the table is trained, and that of the head where it has its own.
* full, copied: the same by PEFT's `modules_to_save`, which trains a copy of each.
* lora: PEFT's LoRA of rank 32 on the table, and on the head where it has its own. Old rows move.
* peft: PEFT's TrainableTokens on the table, and on the head where it has its own.
* contrastok: new rows over the table. A head stays as it is: new tokens are read and not written.
* contrastok, head: new rows in the table and among the classes (`frozen_linear_cross_entropy`), one for both where the head
  is tied. It holds no logits of the whole vocabulary, which `frozen` does, so it may take less.

New tokens are the table's last rows. `peak` is what is in use at most from before a method gets ready to the end of its
steps, above the model; `extra` is what of it goes beyond `frozen`. It is counted in resident memory on a CPU, which other things
move by some MiB: an extra counts as no less than the trained parameters with gradient and moments. Every method
runs in a process of its own; one that would not fit is left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
from torch import nn

from benchmarks.embedding_op import adamw, device
from benchmarks.harness import Steps, machine, take_turns, timed, write_json
from benchmarks.markdown import table
from contrastok.embedding import RowOverlay
from contrastok.kernels.linear_cross_entropy import frozen_linear_cross_entropy

BATCH, EVERY = (4, 16), 10
"""Sequences and tokens of each; how often one of the tokens is new."""
RANK = 32
"""Of LoRA, as PEFT's documentation compares it."""
FLOOR, FULL, OURS, PEFT = "frozen", "full, copied", "contrastok", "peft"
BOTH = "contrastok, head"
ROOM = 2**31
"""Bytes that a process needs beside tables."""


@dataclass(frozen=True)
class Shape:
    """A table of V rows of width d in bf16, and what the head has: the same one, its own, or there is no head."""

    rows: int
    width: int
    head: Literal["tied", "own", "none"]

    @property
    def bytes(self) -> int:
        """Of one table."""
        return 2 * self.rows * self.width

    @property
    def tables(self) -> int:
        """How many different ones there are."""
        return 2 if self.head == "own" else 1


SHAPES = {
    "gemma-2-2b": Shape(256_000, 2304, "tied"),
    "gemma-2-2b-texts": Shape(256_000, 2304, "none"),
    "llama-3-tied": Shape(128_256, 4096, "tied"),
    "llama-3": Shape(128_256, 4096, "own"),
}


@dataclass(frozen=True)
class Task:
    """What every method gets.

    Attributes:
        shape: of the tables.
        new: number of new tokens.
    """

    shape: Shape
    new: int

    @property
    def ids(self) -> list[int]:
        """The new tokens' ids."""
        return list(range(self.shape.rows - self.new, self.shape.rows))

    def model(self) -> Any:
        """The frozen model. Its rows repeat, for values do not matter and drawing them takes long."""
        from transformers import LlamaConfig, LlamaForCausalLM, LlamaModel

        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=8, hidden_size=self.shape.width, intermediate_size=64, num_hidden_layers=1, num_attention_heads=1,
            head_dim=64, tie_word_embeddings=self.shape.head == "tied", use_cache=False,
        )  # fmt: skip
        model = (LlamaModel if self.shape.head == "none" else LlamaForCausalLM)(config).to(device(), torch.bfloat16)
        for layer in (model.get_input_embeddings(), model.get_output_embeddings())[: self.shape.tables]:
            layer.weight = nn.Parameter(self.table())
        model.get_input_embeddings().num_embeddings = model.config.vocab_size = self.shape.rows
        if self.shape.head != "none":
            model.get_output_embeddings().out_features = self.shape.rows
        model.tie_weights()
        return model.requires_grad_(False).eval()

    def table(self) -> torch.Tensor:
        """Rows `[V, d]`."""
        block = 0.03 * torch.randn(1024, self.shape.width, generator=torch.Generator().manual_seed(0))
        many = block.to(device(), torch.bfloat16).repeat(-(-self.shape.rows // 1024), 1)
        return many[: self.shape.rows].clone()

    def batch(self) -> torch.Tensor:
        """Ids, int64 `[B, T]`."""
        draw = torch.Generator().manual_seed(1)
        ids = torch.randint(self.shape.rows - self.new, BATCH, generator=draw)
        ids[:, ::EVERY] = torch.randint(
            self.shape.rows - self.new, self.shape.rows, ids[:, ::EVERY].shape, generator=draw
        )
        return ids.to(device())


Lesson = tuple[Callable[[], torch.Tensor], list[nn.Parameter]]
"""Gives the loss of the batch; what is trained."""


def frozen(model: Any, task: Task) -> Lesson:
    """The text's embeddings get a gradient, and nothing makes use of it."""
    ids = task.batch()
    return lambda: loss(model, task, inputs_embeds=model.get_input_embeddings()(ids).requires_grad_(True)), []


def full(model: Any, task: Task) -> Lesson:
    """The tables themselves."""
    layers = (model.get_input_embeddings(), model.get_output_embeddings())[: task.shape.tables]
    return loss_of(model, task), [layer.weight.requires_grad_(True) for layer in layers]


def copied(model: Any, task: Task) -> Lesson:
    """Copies of the tables. PEFT takes a tied pair apart if both are named, so one is."""
    from peft import LoraConfig

    return adapted(model, task, LoraConfig(target_modules=["q_proj"], modules_to_save=targets(task)), "modules_to_save")


def lora(model: Any, task: Task) -> Lesson:
    """Two thin matrices beside each table."""
    from peft import LoraConfig

    return adapted(model, task, LoraConfig(r=RANK, target_modules=targets(task)), "lora_")


def peft(model: Any, task: Task) -> Lesson:
    """The new rows."""
    from peft import TrainableTokensConfig

    settings = TrainableTokensConfig(token_indices=task.ids, target_modules=targets(task))
    return adapted(model, task, settings, "trainable_tokens_delta")


def contrastok(model: Any, task: Task) -> Lesson:
    """The new rows."""
    table = model.get_input_embeddings()
    overlay = RowOverlay(table, table.weight[task.ids], task.ids, range(task.new))
    model.set_input_embeddings(overlay)
    return loss_of(model, task), [overlay.rows]


def both_ways(model: Any, task: Task) -> Lesson:
    """The new rows, and the classes of a head that has its own table."""
    _, rows = contrastok(model, task)
    head, ids, slots = model.get_output_embeddings().weight, task.batch(), model.get_input_embeddings().slots
    classes = rows if task.shape.head == "tied" else [nn.Parameter(head[task.ids].float())]
    told = torch.where(slots >= 0, slots + len(head), torch.arange(len(slots), device=slots.device))
    targets = told[ids[:, 1:]].flatten()

    def loss() -> torch.Tensor:
        states = model.model(input_ids=ids)[0][:, :-1].flatten(0, 1)
        return frozen_linear_cross_entropy(states, head, classes[0], targets, absent=slots >= 0)[0].mean()

    return loss, list({id(p): p for p in rows + classes}.values())


def adapted(model: Any, task: Task, settings: Any, trained: str) -> Lesson:
    """A method of PEFT; of its parameters those are trained whose name holds a word."""
    from peft import get_peft_model

    wrapped = get_peft_model(model, settings).eval()
    parameters = {name: p for name, p in wrapped.named_parameters() if p.requires_grad}
    for name, parameter in parameters.items():
        parameter.requires_grad_(trained in name)
    return loss_of(wrapped, task), [p for name, p in parameters.items() if trained in name]


def targets(task: Task) -> list[str]:
    """The modules that have tables of their own."""
    return ["embed_tokens", "lm_head"][: task.shape.tables]


def loss_of(model: Any, task: Task) -> Callable[[], torch.Tensor]:
    """The loss of the batch."""
    ids = task.batch()
    return lambda: loss(model, task, input_ids=ids)


def loss(model: Any, task: Task, **given: torch.Tensor) -> torch.Tensor:
    """A language model's own loss; without a head some number of the pooled texts."""
    if task.shape.head == "none":
        return model(**given)[0].float().mean(1).square().sum()  # type: ignore[no-any-return]
    return model(**given, labels=task.batch()).loss  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Method:
    """One way of training.

    Attributes:
        prepare: gets a model ready.
        tables: how often each table must fit beside the model.
        needs_head: whether it is about heads alone.
    """

    prepare: Callable[[Any, Task], Lesson]
    tables: int
    needs_head: bool = False


METHODS = {
    FLOOR: Method(frozen, 1),
    "full": Method(full, 5),
    FULL: Method(copied, 5),
    "lora": Method(lora, 2),
    PEFT: Method(peft, 4),
    OURS: Method(contrastok, 1),
    BOTH: Method(both_ways, 1, needs_head=True),
}


def steps_of(name: str, task: Task) -> Steps:
    """Steps of a method, which gets ready in the first of them: what it needs for that counts."""
    model, ready = task.model(), list[Callable[[], None]]()

    def step() -> None:
        if not ready:
            ready.append(prepared(METHODS[name], model, task))
        ready[0]()

    return timed(step)


def prepared(method: Method, model: Any, task: Task) -> Callable[[], None]:
    """Forward, backward, update."""
    lesson, parameters = method.prepare(model, task)
    optimizer = adamw(parameters) if parameters else None

    def step() -> None:
        lesson().backward()
        if optimizer is not None:
            optimizer.step()
            optimizer.zero_grad()

    return step


def left_out(name: str, task: Task, free: int) -> str | None:
    """Why a method is left out here, in a sentence; None where it fits.

    Args:
        name: of the method.
        task: what it would get.
        free: bytes that there are.
    """
    if METHODS[name].needs_head and task.shape.head == "none":
        return f"{name} is left out: there is no head"
    tables = task.shape.tables * (1 + METHODS[name].tables)
    needed = tables * task.shape.bytes + ROOM
    if needed <= free:
        return None
    return f"{name} is left out: it may need {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free"


def free_bytes() -> int:
    """Memory that can be had."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0]
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def measure(name: str, new: int, rounds: int) -> dict[str, Any]:
    """One shape: every method's peak and extra, and PEFT's extra over contrastok's."""
    task = Task(SHAPES[name], new)
    skipped = {key: why for key in METHODS if (why := left_out(key, task, free_bytes()))}
    for why in skipped.values():
        print(f"{name}: {why}")
    methods = {key: (steps_of, (key, task)) for key in METHODS if key not in skipped}
    found = take_turns(methods, steps=1, warmup=1, rounds=rounds)
    peak = {key: int(median(m.peak for m in measured)) for key, measured in found.items()}
    least = 4 * 4 * new * task.shape.width  # rows, gradient and two moments in fp32
    extra = {key: max(bytes_ - peak[FLOOR], least) for key, bytes_ in peak.items() if key != FLOOR}
    return {
        "shape": name,
        "new": new,
        "head": task.shape.head,
        "table_bytes": task.shape.bytes,
        "peak_bytes": peak,
        "extra_bytes": extra,
        "least_extra_bytes": least,
        "saved_bytes": {key: peak[FULL] - peak[key] for key in (PEFT, OURS, BOTH) if {key, FULL} <= peak.keys()},
        "extra_ratio": {key: bytes_ / extra[OURS] for key, bytes_ in extra.items() if key != OURS},
        "skipped": skipped,
    }


def main() -> None:
    """Run, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=[*SHAPES, "all"], default="gemma-2-2b")
    parser.add_argument("--new", type=int, nargs="+", default=[100], help="new tokens; several for several tables")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    names = list(SHAPES) if arguments.shape == "all" else [arguments.shape]
    found = [measure(name, new, arguments.rounds) for name in names for new in arguments.new]
    for one in found:
        print(f"\n{one['shape']}, {one['new']:,} new tokens, {machine()['device']}\n")
        rows = [
            [key, mib(one["peak_bytes"][key]), mib(one["extra_bytes"].get(key)), ratio(one, key)]
            for key in one["peak_bytes"]
        ]
        print(table(["method", "peak above the model, MiB", "extra, MiB", "times contrastok's extra"], rows))
        for key, saved in one["saved_bytes"].items():
            print(f"\n{key} takes {saved / 2**30:.2f} GiB less than {FULL}")
    write_json(found[0] if len(found) == 1 else {"measured": found}, arguments.json)


def mib(count: int | None) -> str:
    """Bytes in MiB."""
    return "" if count is None else f"{count / 2**20:,.1f}"


def ratio(one: dict[str, Any], key: str) -> str:
    """A method's extra over contrastok's."""
    return f"{one['extra_ratio'][key]:,.0f}" if key in one["extra_ratio"] else ""


if __name__ == "__main__":
    main()
