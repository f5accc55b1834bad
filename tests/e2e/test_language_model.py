"""A tiny random language model through the commands: what it learns is nothing, what it keeps is everything."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch

from tests.e2e.conftest import KITCHEN, Run

HEARD = ("aioli", "blanching", "kombucha", "orecchiette", "tiramisu", "turmeric")
"""Words of the sample domain that stand in texts which `decoder` was not trained on."""


def test_new_tokens_of_a_model_that_has_learned_something_are_said(here: Run, decoder: Path, tmp_path: Path) -> None:
    """Training must make tokens likelier where they stand, and the text with them, than the mean of the pieces does."""
    terms = tmp_path / "terms.jsonl"
    terms.write_text("".join(json.dumps({"token": word}) + "\n" for word in HEARD))
    common = ["--terms", terms, "--model", decoder, "--token-mode", "vocab"]
    here("gen-pairs", *common, "--corpus", KITCHEN / "corpus", "--known-sentences", 0, "--wordnet", "none",
         "--out", tmp_path / "pairs")  # fmt: skip
    found = {}
    for epochs in (0, 6):
        here("train", *common, "--pairs", tmp_path / "pairs", "--init", "subtoken_mean", "--objective", "causal_lm",
             "--epochs", epochs, "--out", tmp_path / f"model{epochs}")  # fmt: skip
        here("eval", "generation", "--model", tmp_path / f"model{epochs}", "--texts", decoder / "held-out.jsonl",
             "--json", tmp_path / f"said{epochs}.json")  # fmt: skip
        found[epochs] = json.loads((tmp_path / f"said{epochs}.json").read_text())
        assert found[epochs]["identical"] is True
    ranks, told = found[6]["ranks"]["views"], "with_new_token"
    assert ranks["trained"]["mrr"] > ranks["initial"]["mrr"]
    assert ranks["initial"] == found[0]["ranks"]["views"]["trained"]  # both began with the same rows
    assert found[6]["perplexity_per_byte"][told]["result"] < found[0]["perplexity_per_byte"][told]["result"]


def test_a_language_model_learns_new_tokens(here: Run, make_decoder: Callable[..., Path], tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    terms, model, out = tmp_path / "terms.jsonl", make_decoder("llama"), tmp_path / "model"
    terms.write_text(
        '{"token": "halloumi", "definition": "a salty cheese from Cyprus"}\n{"token": "tahini"}\n'
        '{"token": "<|tool|>", "special": true, "definition": "what a tool has answered"}\n'
    )
    common = ["--terms", terms, "--model", model, "--token-mode", "vocab"]
    corpus = tmp_path / "corpus.txt"
    lines = [line for file in sorted((KITCHEN / "corpus").glob("*.txt")) for line in file.read_text().splitlines()]
    held, told = ([line for line in lines if ("halloumi" in line.lower()) is holds][:40] for holds in (True, False))
    corpus.write_text("\n\n".join([*held[10:], *told]) + "\n")
    (tmp_path / "held.txt").write_text("\n\n".join([*held[:10], *told[:10]]) + "\n")
    here(
        "gen-pairs",
        *common,
        "--corpus",
        corpus,
        "--known-sentences",
        0,
        "--wordnet",
        "none",
        "--out",
        tmp_path / "pairs",
    )
    said = here(
        "train", *common, "--pairs", tmp_path / "pairs", "--objective", "token_distill_lm", "--epochs", 2, "--out", out,
        "--json", tmp_path / "train.json",
    )  # fmt: skip
    assert "decoding drops" not in said.stderr
    assert "AutoModelForCausalLM" in (out / "README.md").read_text()
    here("eval", "generation", "--model", out, "--texts", tmp_path / "held.txt", "--pairs", tmp_path / "pairs",
         "--json", tmp_path / "generation.json")  # fmt: skip
    summary = json.loads((tmp_path / "generation.json").read_text())
    assert summary["identical"] is True and summary["tokens"]["saved"] > 0 and summary["ranks"]["occurrences"] > 0
    language_model, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    ids = tokenizer("grilled halloumi with mint", add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == "grilled halloumi with mint"  # the space is a part of the token
    marked = tokenizer("it said<|tool|>bread", add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(marked) == "it said<|tool|>bread"
    assert tokenizer.decode(marked, skip_special_tokens=True) == "it saidbread"
    written = language_model.generate(torch.tensor([ids]), max_new_tokens=3, do_sample=False)
    assert written.shape == (1, len(ids) + 3)
