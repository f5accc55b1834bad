from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from contrastok.checkpoint import load_checkpoint
from contrastok.config import TrainConfig
from contrastok.errors import InputError, ModelError
from contrastok.eval import generation_measure
from contrastok.eval.generation import generation
from contrastok.eval.harm import load_base
from contrastok.eval.told import read_text, tell
from contrastok.eval_config import GenerationConfig
from contrastok.models import transformer
from contrastok.trainer import train
from tests.contrastok.conftest import FRAMES, GLOSSARY, write_pairs

from .conftest import documented

TEXTS = [
    "Zorblaxin with salt, then zorblaxin and bread",
    "they like brimwax",
    "the bread is on the table",
    "cheese, salt and oil",
    "we bought zorblaxin at the market",  # stands in the pairs
]


@pytest.fixture(scope="session")
def checkpoints(
    make_decoder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Path, Path]]:
    """For a tied and an untied language model: a checkpoint, and its pairs."""
    root = tmp_path_factory.mktemp("generation")
    terms = root / "terms.jsonl"
    terms.write_text(
        "".join(json.dumps({"token": term, "definition": d}) + "\n" for term, (d, _, _) in GLOSSARY.items())
    )
    rows = [(t, f.format(t), d, [], "x", "y") for t, (d, _, _) in GLOSSARY.items() for f in FRAMES]
    made = {}
    for kind in ("gpt2", "llama"):
        model = str(make_decoder(kind))
        pairs, out = write_pairs(root / f"{kind}-pairs", rows, model), root / kind
        options: dict[str, Any] = {"objective": "causal_lm", "epochs": 2, "device": "cpu", "quiet": True}
        train(TrainConfig(terms=(terms,), pairs=pairs, model=model, out=out, **options))
        made[kind] = out, pairs
    return made


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    file = tmp_path / "texts.txt"
    file.write_text("\n\n".join(TEXTS) + "\n")
    return file


def stock(folder: Any, ids: list[int]) -> torch.Tensor:
    from transformers import AutoModelForCausalLM

    logits: torch.Tensor = AutoModelForCausalLM.from_pretrained(folder).eval()(torch.tensor([ids])).logits[0, :-1]
    return logits.detach()


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_figures_are_the_stock_models(
    checkpoints: dict[str, tuple[Path, Path]], texts: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ranks, perplexities and tokens, text by text, by what stock models and tokenizers say."""
    monkeypatch.setattr("contrastok.eval.told.POSITIONS", 7)
    folder, pairs = checkpoints[kind]
    summary = generation(GenerationConfig(model=folder, texts=(str(texts),), pairs=pairs, quiet=True))
    checkpoint = load_checkpoint(folder)
    base, new = load_base(checkpoint), {i for t in checkpoint.manifest["tokens"] for i in t["ids"]}
    assert summary["identical"] is True and summary["leaked"] == 1
    nats, ranks, counts = {"base": 0.0, "result": 0.0}, [], [0, 0]
    for text in TEXTS[:2]:
        for at, (name, tokenizer, where) in enumerate(
            [
                ("base", base.tokenizer, checkpoint.manifest["base_model"]["name"]),
                ("result", checkpoint.tokenizer, folder),
            ]
        ):
            ids = tokenizer(text)["input_ids"]
            logits = stock(where, ids)
            for i, token in enumerate(ids[1:]):
                nats[name] -= float(logits[i].log_softmax(-1)[token]) * (token not in tokenizer.all_special_ids)
                if token in new and name == "result":
                    ranks.append(1 + int((logits[i] > logits[i, token]).sum()))
            counts[at] += len(ids)
    size = len("".join(TEXTS[:2]).encode())
    found = summary["perplexity_per_byte"]["with_new_token"]
    assert found["texts"] == 2 and found["bytes"] == size
    for name, total in nats.items():
        assert found[name] == pytest.approx(math.exp(total / size), rel=1e-3)
    assert found["log_ratio"] == pytest.approx((nats["result"] - nats["base"]) / size, abs=1e-4)
    assert summary["tokens"]["base"] == counts[0] and summary["tokens"]["saved"] == counts[0] - counts[1] > 0
    assert summary["ranks"]["occurrences"] == len(ranks) == 3
    views = summary["ranks"]["views"]
    assert views["trained"]["mrr"] == pytest.approx(np.mean([1 / rank for rank in ranks]), abs=1e-3)
    assert views["trained"]["median_rank"] == np.median(ranks)
    assert set(views) == documented("generation", "token") - (set() if kind == "gpt2" else {"initial"})


def test_the_split_word_is_ranked_by_its_first_piece(checkpoints: dict[str, tuple[Path, Path]]) -> None:
    checkpoint = load_checkpoint(checkpoints["gpt2"][0])
    base = load_base(checkpoint)
    text = read_text("they like brimwax, zorblaxin", base.tokenizer, checkpoint.tokenizer, 64)
    new = {i for t in checkpoint.manifest["tokens"] for i in t["ids"]}
    places = [at for at, token in enumerate(text.new.ids) if token in new]
    begins = [text.old.spans[generation_measure.first_piece(text, at)] for at in places]
    assert [text.text[a:b].strip()[0] for a, b in begins] == ["b", "z"] and len(places) == 2
    assert [text.text.index("brimwax"), text.text.index("zorblaxin")] == [
        a + len(text.text[a:b]) - len(text.text[a:b].lstrip()) for a, b in begins
    ]


def test_long_texts_are_cut_alike_in_both_tokenisations(checkpoints: dict[str, tuple[Path, Path]]) -> None:
    checkpoint = load_checkpoint(checkpoints["gpt2"][0])
    base = load_base(checkpoint)
    text = read_text("the bread and brimwax " * 40, base.tokenizer, checkpoint.tokenizer, 20)
    assert len(text.new.ids) <= len(text.old.ids) <= 20 and text.text.startswith("the bread and brimwax the")
    assert text.new.spans[-2][1] == text.old.spans[-2][1] == len(text.text)  # the last one is special


def test_another_bit_of_a_weight_is_found(checkpoints: dict[str, tuple[Path, Path]]) -> None:
    checkpoint = load_checkpoint(checkpoints["llama"][0])
    base = load_base(checkpoint)
    ids = [base.tokenizer(text)["input_ids"] for text in TEXTS[2:4]]
    old = torch.arange(400)
    assert tell([base, checkpoint.model], ids, old)[1] == [True, True]
    weight = transformer(checkpoint.model).layers[0].mlp.down_proj.weight
    with torch.no_grad():
        weight[0, 0] += 1e-2
    assert tell([base, checkpoint.model], ids, old)[1] == [False, False]


def test_what_cannot_be_measured_is_refused(
    checkpoints: dict[str, tuple[Path, Path]], tiny_checkpoint: Path, texts: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="language-model head, which eval generation needs"):
        generation(GenerationConfig(model=tiny_checkpoint, texts=(str(texts),), quiet=True))
    (tmp_path / "none.txt").write_text("\n\n")
    with pytest.raises(InputError, match="there is no text"):
        generation(GenerationConfig(model=checkpoints["gpt2"][0], texts=(str(tmp_path / "none.txt"),), quiet=True))
    dry = GenerationConfig(model=checkpoints["gpt2"][0], texts=(str(texts),), quiet=True, dry_run=True)
    assert generation(dry) == {"dry_run": True, "files": 1, "bytes": texts.stat().st_size}


def test_the_first_texts_of_each_sort_are_taken(
    checkpoints: dict[str, tuple[Path, Path]], texts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And without pairs, it says that nothing but definitions could be left out."""
    summary = generation(GenerationConfig(model=checkpoints["gpt2"][0], texts=(str(texts),), limit=1))
    assert "Without --pairs the definitions alone" in " ".join(capsys.readouterr().err.split())
    assert [group["texts"] for group in summary["perplexity_per_byte"].values()] == [1, 1]
    assert summary["ranks"]["occurrences"] == 2
