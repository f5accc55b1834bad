from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from contrastok.cli import main
from contrastok.config import TrainConfig
from contrastok.console import Console
from contrastok.data_gen.corpus import Document
from contrastok.doctor import cost, place
from contrastok.doctor.case import Case
from contrastok.doctor.command import Problems, doctor, examine
from contrastok.doctor.finding import CHECKS, Finding
from contrastok.errors import ConfigError, InputError
from contrastok.guidance_config import DoctorConfig
from contrastok.models import frozen_hash, input_embedding
from contrastok.trainer import train
from tests.contrastok.conftest import write_pairs

Make = Callable[..., Case]


SECONDS = {"known_words": 0.0, "keys": 0.4, "map": 0.0, "calibration": 0.0, "steps": 0.6}
COSTS = {"steps": 1, "seconds": 1.0, "memory_mb": 2, "known_texts": 0, "keys": 9, "seconds_of": SECONDS}


@pytest.fixture
def given(make_config: Callable[..., TrainConfig]) -> dict[str, Any]:
    """Terms, pairs and model with which all is well."""
    config = make_config()
    return {"terms": config.terms, "pairs": config.pairs, "model": config.model, "quiet": True}


@pytest.fixture
def case(given: dict[str, Any]) -> Make:
    def make(**options: Any) -> Case:
        return Case(DoctorConfig(**{**given, **options}), Console(quiet=True))

    return make


def look(case: Case, name: str) -> list[Finding]:
    return list(CHECKS[name](case))


def states(findings: list[Finding]) -> list[str]:
    return [finding.state for finding in findings]


def words(folder: Path, *terms: str, definition: str = "") -> tuple[Path, ...]:
    file = folder / "terms.jsonl"
    file.write_text("".join(json.dumps({"token": term, "definition": definition}) + "\n" for term in terms))
    return (file,)


def test_a_healthy_run_has_one_line_a_check_and_writes_nothing(given: dict[str, Any], tmp_path: Path) -> None:
    summary = doctor(DoctorConfig(**given, out=tmp_path / "model"))
    found = {finding["check"]: finding for finding in summary["findings"]}
    assert len(found) == len(summary["findings"]) and summary["problems"] == 0
    assert [name for name, finding in found.items() if finding["state"] != "ok"] == ["known words"]  # a tiny model
    assert {"reachable", "collateral: pairs", "embedding table", "sequence limit", "output", "evidence"} < found.keys()
    assert all(bool(finding["advice"]) is (finding["state"] != "ok") for finding in found.values())
    assert list(tmp_path.iterdir()) == []


def test_the_estimate_is_that_of_the_dry_run_and_leaves_the_model_as_it_was(
    case: Make, make_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    (tmp_path / "run.toml").write_text("[train]\nepochs = 2\nbatch_size = 4\n")
    looked_at = case(config=tmp_path / "run.toml")
    before = frozen_hash(looked_at.model, [], len(input_embedding(looked_at.model).weight))
    [finding] = look(looked_at, "train: time and memory")
    dry = train(make_config(epochs=2, dry_run=True))
    assert finding.state == "ok" and finding.detail.startswith(f"{dry['steps']} steps in about")
    assert frozen_hash(looked_at.model, [], len(input_embedding(looked_at.model).weight)) == before


def test_terms_that_cannot_be_added_warn_or_with_strict_stop(case: Make, tmp_path: Path) -> None:
    terms = words(tmp_path, "zorblaxin", "cheese", "Zorblaxin")
    [finding] = look(case(terms=terms), "terms")
    assert finding.state == "warning" and finding.advice
    assert "'cheese' is already one token" in finding.detail and "'Zorblaxin' is the same token as" in finding.detail
    assert states(look(case(terms=terms, strict=True), "terms")) == ["problem"]
    [finding] = [f for f in examine(case(terms=words(tmp_path, "cheese"), pairs=None)) if f.check == "terms"]
    assert finding.state == "problem" and "no term is left" in finding.detail


def test_terms_in_other_terms(case: Make, tmp_path: Path) -> None:
    terms = words(tmp_path, "zorblax", "zorblaxin", "quib", "quib vexalotl")
    [finding] = look(case(terms=terms), "collisions")
    assert finding.state == "warning" and finding.detail.endswith(": 'quib' in 'quib vexalotl'")
    found = look(case(terms=terms, token_mode="vocab"), "collisions")
    assert states(found) == ["warning", "warning"] and "'zorblax' in 'zorblaxin'" in found[1].detail
    [finding] = look(case(terms=words(tmp_path, "zorblax", "zorblaxin")), "collisions")
    assert finding.state == "ok" and "1 are a part of a longer word" in finding.detail


def test_the_gate_is_that_of_train(case: Make) -> None:
    assert set(states(look(case(), "gate"))) == {"ok"}
    vocab = case(token_mode="vocab")
    found = {finding.check: finding for finding in look(vocab, "gate")}
    around = found["collateral: words around terms"]
    assert around.state == "warning" and "--token-mode added" in around.advice and "zorblaxins" in around.detail
    strict = {finding.check: finding.state for finding in look(case(token_mode="vocab", strict=True), "gate")}
    assert strict["collateral: words around terms"] == "problem"


def test_a_sentence_whose_term_is_not_its_token(case: Make, given: dict[str, Any], tmp_path: Path) -> None:
    rows = [("zorblaxin", "no such word here", "a cheese", [], "context-definition", "test")]
    pairs = write_pairs(tmp_path / "pairs", rows, given["model"])
    [finding] = look(case(pairs=pairs), "in your sentences")
    assert finding.state == "problem" and "'zorblaxin' in 0 of 1" in finding.detail
    pairs = write_pairs(tmp_path / "pairs", [*rows, ("zorblaxin", "a zorblaxin", *rows[0][2:])], given["model"])
    [finding] = look(case(pairs=pairs), "in your sentences")
    assert finding.state == "warning" and "'zorblaxin' in 1 of 2" in finding.detail


def test_evidence_from_text(case: Make, tmp_path: Path) -> None:
    text = tmp_path / "corpus.txt"
    text.write_text("".join(f"We bought zorblaxin {n} at the market.\n" for n in ("once", "often", "never", "today")))
    corpus = {"pairs": None, "corpus": (str(text),)}
    [finding] = look(case(terms=words(tmp_path, "zorblaxin"), **corpus), "evidence")
    assert finding.state == "ok" and "1 of 1 terms" in finding.detail
    [finding] = look(case(terms=words(tmp_path, "zorblaxin", "brimwax"), **corpus), "evidence")
    assert finding.state == "warning" and "neither sentence nor definition: 'brimwax'" in finding.detail
    [finding] = look(case(terms=words(tmp_path, "zorblaxin", "brimwax", definition="a thing"), **corpus), "evidence")
    assert finding.state == "warning" and "1 have fewer: 'brimwax' 0" in finding.detail
    [finding] = look(case(terms=words(tmp_path, "brimwax"), **corpus), "evidence")
    assert finding.state == "problem" and finding.advice
    [finding] = look(case(pairs=None), "evidence")
    assert finding.state == "warning" and "--corpus" in finding.detail
    [finding] = look(case(terms=words(tmp_path, "zorblaxin"), **corpus), "corpus")
    assert f"with {len(text.read_text()) - 4:,} characters" in finding.detail  # without the ends of its lines


def test_gen_pairs_takes_more_than_reading(case: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, plan = tmp_path / "corpus.txt", tmp_path / "run.toml"
    text.write_text("".join(f"We bought zorblaxin {n} at the market.\n" for n in ("once", "often", "never", "today")))
    corpus: dict[str, Any] = {"terms": words(tmp_path, "zorblaxin"), "pairs": None, "corpus": (str(text),)}
    monkeypatch.setattr(cost, "known_seconds", lambda plan, *_: 10.0 * len(plan.words))
    looked_at = case(**corpus)
    [finding] = look(looked_at, "gen-pairs: time and memory")
    count = len(looked_at.known.words)
    assert finding.state == "ok" and "4 sentences" in finding.detail and count > 0
    assert finding.detail.startswith(f"about {10 * count:,} s: <1 s of reading 163 bytes, <1 s of comparing 1 terms")
    assert f"{10 * count:,} s of evidence of {count:,} known words (--known-sentences)" in finding.detail
    assert "without loading the model" in finding.detail
    plan.write_text("[gen-pairs]\nknown_sentences = 0\nnegatives = 0\n")
    [finding] = look(case(config=plan, **corpus), "gen-pairs: time and memory")
    assert "known words" not in finding.detail and "comparing" not in finding.detail


def test_where_known_words_take_most_it_is_said_what_shortens_it(case: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = case()
    spent = {**SECONDS, "known_words": 50.0, "calibration": 30.0, "keys": 20.0}
    costs = {**COSTS, "seconds": 100.6, "known_texts": 40_000, "keys": 1_000, "seconds_of": spent}
    monkeypatch.setattr(cost, "estimate", lambda *_: costs)
    [finding] = look(looked_at, "train: time and memory")
    assert (
        "101 s: 50 s of encoding 40,000 texts of known words, 20 s of encoding 1,000 keys, 30 s of cal"
        in finding.detail
    )
    assert "--evidence-sentences" in finding.detail and "--calibrate 0" in finding.detail
    monkeypatch.setattr(cost, "estimate", lambda *_: COSTS)
    [finding] = look(looked_at, "train: time and memory")
    assert "--calibrate" not in finding.detail and "known words" not in finding.detail


def test_terms_behind_the_cut(case: Make, given: dict[str, Any], tmp_path: Path) -> None:
    far = "the cheese " * 60 + "zorblaxin"
    rows = [("zorblaxin", far, "a cheese", [], "context-definition", "test")]
    pairs = write_pairs(tmp_path / "pairs", rows, given["model"])
    [finding] = look(case(pairs=pairs), "sequence limit")
    assert finding.state == "problem" and "in 1 of 1 texts" in finding.detail and "--max-words" in finding.advice
    rows += [("zorblaxin", "a zorblaxin", far.replace("zorblaxin", "x"), [], "context-definition", "test")]
    found = look(case(pairs=write_pairs(tmp_path / "pairs", rows, given["model"])), "sequence limit")
    assert states(found) == ["warning", "warning"] and "1 of 2 positives" in found[1].detail
    longer = case()
    longer.model.max_seq_length = 500
    assert states(look(longer, "sequence limit")) == ["problem", "ok"]  # 80 positions


def test_a_damaged_table(case: Make) -> None:
    damaged = case()
    with torch.no_grad():
        input_embedding(damaged.model).weight[5, 3] = torch.nan
    [finding] = look(damaged, "model")
    assert finding.state == "problem" and finding.detail.startswith("1 rows")


def test_too_little_memory(case: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = case()
    monkeypatch.setattr(cost, "estimate", lambda *_: {**COSTS, "memory_mb": 2})
    for free, state in ((2**40, "ok"), (0, "warning")):
        memory = SimpleNamespace(available=free, total=2**40)
        monkeypatch.setattr("psutil.virtual_memory", lambda memory=memory: memory)
        [finding] = look(looked_at, "train: time and memory")
        assert finding.state == state and bool(finding.advice) is (state != "ok")
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=0, total=1))
    assert states(look(looked_at, "train: time and memory")) == ["problem"]


def test_on_a_gpu_its_own_memory_counts(case: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = case()
    monkeypatch.setattr(cost, "estimate", lambda *_: {**COSTS, "memory_mb": 8})
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=0, total=1))
    monkeypatch.setattr(type(looked_at.model), "device", torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 2**20)  # what the model holds is not lost
    for free, total, state in ((7, 20, "ok"), (6, 20, "warning"), (6, 7, "problem")):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, f=free, t=total: (f * 2**20, t * 2**20))
        [finding] = look(looked_at, "train: time and memory")
        assert finding.state == state and f"{free + 1} MB of the GPU are free" in finding.detail


def test_a_corpus_of_unknown_size_is_told(case: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [Document(f"We bought zorblaxin number {'x' * n} at the market.", str(n)) for n in range(9)]
    monkeypatch.setattr("contrastok.doctor.case.read_corpus", lambda *_: iter(texts))
    looked_at = case(terms=words(tmp_path, "zorblaxin"), pairs=None, corpus=("owner/dataset",))
    [finding] = look(looked_at, "gen-pairs: time and memory")
    assert finding.state == "ok"  # it was read to its end
    monkeypatch.setattr("contrastok.data_gen.estimate.SAMPLE", 100)
    looked_at = case(terms=words(tmp_path, "zorblaxin"), pairs=None, corpus=("owner/dataset",))
    [finding] = look(looked_at, "gen-pairs: time and memory")
    assert finding.state == "warning" and "size unknown" in finding.detail and finding.advice


def test_the_place_of_the_checkpoint(case: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert look(case(), "output") == []
    (tmp_path / "mine").mkdir()
    found = {finding.check: finding for finding in examine(case(out=tmp_path / "mine"))}
    assert found["output"].state == "problem" and "exists already" in found["output"].detail
    monkeypatch.setattr(place.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    [finding] = look(case(out=tmp_path / "deep" / "model"), "output")
    assert finding.state == "problem" and "free some space" in finding.advice
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]


def test_what_several_checks_meet_is_told_once_and_the_others_go_on(case: Make, tmp_path: Path) -> None:
    shutil.copytree(case().config.model, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    found = list(examine(case(model=str(tmp_path / "model"), pairs=None)))
    assert [finding.check for finding in found if finding.state == "problem"] == ["model"]
    assert "terms" in [finding.check for finding in found if finding.state == "ok"]


def test_pairs_and_text_that_cannot_be_read(case: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    monkeypatch.setattr("contrastok.doctor.case.read_corpus", lambda *given: tried.append(given) or iter(()))
    (tmp_path / "empty.txt").write_text("\n")
    found = list(examine(case(pairs=tmp_path / "nowhere", corpus=(str(tmp_path / "empty.txt"),))))
    assert [finding.check for finding in found if finding.state == "problem"] == ["pairs", "corpus"]
    assert len(tried) == 1

    def refuse(*given: Any) -> None:
        tried.append(given)
        raise InputError("cannot be reached", where="somewhere")

    monkeypatch.setattr("contrastok.doctor.case.read_corpus", refuse)
    found = list(examine(case(pairs=None, corpus=("somewhere",))))
    assert [finding.check for finding in found if finding.state == "problem"] == ["corpus"]
    assert len(tried) == 2  # a dataset that cannot be reached is not asked for again by every check


def test_options_of_the_commands_that_are_wrong(case: Make, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("[train]\nobjective = 'magic'\n")
    with pytest.raises(ConfigError, match="magic"):
        case(config=tmp_path / "run.toml")


def test_the_command(given: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["doctor", "--terms", str(given["terms"][0]), "--model", given["model"], "--json", "-"]
    assert main(options) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["warnings"] == 1 and "Problems: 0, warnings: 1." in told.err and "->" in told.err
    assert main([*options, "--quiet", "--out", str(tmp_path), "--strict"]) == 2
    told = capsys.readouterr()
    assert json.loads(told.out)["problems"] == 1 and "problems were found: output" in told.err
    assert main([*options, "--quiet", "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out)["checks"] == list(CHECKS)
    with pytest.raises(Problems):
        doctor(DoctorConfig(terms=given["terms"], model=str(tmp_path / "nowhere"), quiet=True))
