"""docs/search.md: words that come later are taught to the checkpoint, and what was taught before keeps its bits."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from .conftest import ROOT, Run

SHOP = ROOT / "examples" / "search"


def test_a_checkpoint_learns_further_words(here: Run, tiny_model: Path, tmp_path: Path) -> None:
    lines = (SHOP / "terms.jsonl").read_text().splitlines()
    terms, first, second = tmp_path / "terms.jsonl", tmp_path / "first", tmp_path / "second"
    for count, model, out in ((2, tiny_model, first), (4, first, second)):
        terms.write_text("\n".join(lines[:count]))
        common = ["--terms", terms, "--model", model, "--quiet"]
        pairs = tmp_path / f"pairs-{count}"
        here("gen-pairs", *common, "--corpus", SHOP / "corpus", "--known-sentences", 0, "--out", pairs)
        here("train", *common, "--pairs", pairs, "--epochs", 1, "--init", "charlen_mean", "--out", out)
    manifest = json.loads((second / "contrastok.json").read_text())
    assert [token["token"] for token in manifest["tokens"]] == ["oruvela", "tandrel"]
    assert [left_out["term"] for left_out in manifest["skipped"]] == ["velmora", "kestvik"]
    before, after = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name][: len(tensor)]), name
    table = "embeddings.word_embeddings.weight"
    assert after[table].shape[0] == before[table].shape[0] + 2
