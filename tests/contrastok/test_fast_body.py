from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from contrastok.bank import collate
from contrastok.checkpoint import load_checkpoint
from contrastok.config import TrainConfig
from contrastok.errors import ModelError
from contrastok.fast_body import compile_layers, masks_ready
from contrastok.models import load_model, transformer
from contrastok.trainer import train
from tests.conftest import FAMILIES
from tests.contrastok.test_loop import make_loop


class Looks(TorchDispatchMode):
    """Counts where the host asks a tensor for its value: on a GPU each waits for all work before it.

    Adam's own count of steps is not among them: it stands on the host, wherever the rows are.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            self.count += not any(frame.filename.endswith("optim/adam.py") for frame in traceback.extract_stack())
        return func(*args, **(kwargs or {}))


def features(model: Any) -> dict[str, torch.Tensor]:
    texts = ["the cheese", "we bought old cheese at the market today"]
    return collate(model.tokenizer, model.tokenizer(texts)["input_ids"], "cpu")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_ready_mask_says_the_same(family: str, make_model: Callable[..., Path]) -> None:
    model = load_model(str(make_model(family)))
    inputs = features(model)
    before = model(dict(inputs))["sentence_embedding"]
    with masks_ready(model, model.tokenizer) as ready:
        assert ready and "position_ids" in inspect.signature(transformer(model).forward).parameters
        torch.testing.assert_close(model(dict(inputs))["sentence_embedding"], before, rtol=1e-4, atol=1e-5)
    assert "forward" not in vars(transformer(model))
    assert torch.equal(model(dict(inputs))["sentence_embedding"], before)


def test_a_model_that_looks_back_only_keeps_its_own_mask(tiny_model: Path) -> None:
    model = load_model(str(tiny_model))
    transformer(model).config.is_decoder = True  # BERT as a decoder: each token sees those before it
    before = model(features(model))["sentence_embedding"]
    with masks_ready(model, model.tokenizer) as ready:
        assert not ready
        assert torch.equal(model(features(model))["sentence_embedding"], before)


def test_no_step_waits_for_the_device(make_config: Callable[..., TrainConfig]) -> None:
    loop = make_loop(make_config())
    batches = loop.feed[0]
    with Looks() as looks:
        loop.step(0, batches)
    assert looks.count == len(batches)  # the body's own look at the padding mask, once a forward pass
    with masks_ready(loop.model, loop.feed.tokenizer) as ready, Looks() as looks:
        loop.step(1, batches)
    assert ready and looks.count == 0


def test_compiled_layers_train_the_same_rows(
    make_config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # what is compiled is traced in full; the back end that writes C++ is left out, for not every machine has a compiler
    monkeypatch.setattr(nn.Module, "compile", partial_backend())
    configs = [make_config(epochs=1, compile=compiled, out=tmp_path / str(compiled)) for compiled in (False, True)]
    plain, compiled = map(train, configs)
    assert compiled["frozen"] == plain["frozen"]
    rows = [torch.from_numpy(load_checkpoint(config.out).rows) for config in configs if config.out]
    torch.testing.assert_close(rows[0], rows[1], rtol=1e-3, atol=1e-5)


def partial_backend() -> Any:
    real = nn.Module.compile

    def compile(self: nn.Module, **options: Any) -> None:
        partial(real, self, backend="aot_eager", **options)()

    return compile


def test_a_body_without_layers_is_refused(tiny_model: Path) -> None:
    model = load_model(str(tiny_model))
    transformer(model).encoder.layer = nn.Sequential()
    with pytest.raises(ModelError, match=r"no list of like layers.*\n.*without --compile"):
        compile_layers(model)
