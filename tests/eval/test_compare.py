from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from contrastok import models
from contrastok.config import GenPairsConfig, TrainConfig
from contrastok.data_gen.pipeline import gen_pairs
from contrastok.errors import ConfigError, ContrastokError, OutputError
from contrastok.eval import compare as module
from contrastok.eval import compare_run
from contrastok.eval.compare import compare
from contrastok.eval.compare_folder import barren, claim, goes_on
from contrastok.eval.compare_inputs import hashes, inner_commands
from contrastok.eval.compare_methods import Method, chosen_methods, every_method
from contrastok.eval.compare_run import Cost, LostError, Refused, train_apart
from contrastok.eval.compare_table import COLUMNS, compare_chart, measured, to_markdown
from contrastok.eval.recovery import train_config
from contrastok.eval_config import CompareConfig
from contrastok.initializers import INITIALIZERS
from contrastok.reads import without_unread
from contrastok.trainer import train
from tests.conftest import KITCHEN
from tests.contrastok.conftest import GLOSSARY

LINES: list[dict[str, Any]] = [
    {
        "method": "default",
        "cost": {"steps": 1200, "cpu_seconds": 51.7, "times_first": 1.0, "peak_mb": 900.6},
        "recovery": {"trained": {"mrr": 0.5, "mrr_interval": [0.4, 0.6]}},
        "no_harm": {"identical": True},
    },
    {"method": "init=mean", "cost": {"times_first": 0.25, "peak_mb": 700.0}, "no_harm": {"identical": False}},
    {"method": "init=omp", "refused": "needs another model: a|b"},
    {"method": "lora", "lost": "its process was ended"},
]


@dataclass(frozen=True)
class Deadly:
    """Ends the process that it is sent to."""

    act: Callable[[int], Any]
    code: int

    def __reduce__(self) -> Any:
        return self.act, (self.code,)


KILLED = Deadly(signal.raise_signal, signal.SIGKILL)


def test_methods_are_chosen_by_name_and_by_group() -> None:
    assert set(every_method()) >= {"default", *(f"init={name}" for name in INITIALIZERS)}
    assert chosen_methods(["all"]) == list(every_method().values())
    assert {*every_method()} >= {"layers=2", "reset-every=25", "two-stage", "lora", "init-norm=median", "mix=free"}
    for method in every_method().values():  # each a set of options that train takes
        wanted = TrainConfig(terms=(Path("t"),), pairs=Path("p"), out=Path("o"), init_model="minilm")
        assert not without_unread(replace(wanted, **method.options)).problems(), method.name
    assert {m.options["init"] for m in chosen_methods(["init"])} == set(INITIALIZERS)
    names = [m.name for m in chosen_methods(["init=charlen_mean", "default", "init=charlen_mean"])]
    assert names == ["init=charlen_mean", "default"]


def test_an_unknown_method_says_the_closest() -> None:
    config = CompareConfig(terms=(Path("a"),), corpus=("b",), out=Path("c"), methods=("init=charlen-mean",))
    with pytest.raises(ConfigError, match="init=charlen_mean"):
        config.validate()


def test_columns_hold_what_was_measured() -> None:
    names = [column.name for column in measured(LINES)]
    assert names == ["trained, row MRR", "steps", "CPU s", "CPU time, to the first", "peak MB"]
    assert len(names) < len(COLUMNS)
    table = to_markdown(LINES).splitlines()
    assert table[2] == "| split words |  |  |  |  |  |  |"
    assert table[3] == "| default | 0.500 | 1,200 | 52 | 1.00 | 901 | same bits |"
    assert table[4] == "| init=mean |  |  |  | 0.25 | 700 | changed |"
    assert table[5] == r"| init=omp |  |  |  |  |  | does not apply: needs another model: a\|b |"
    assert table[6] == "| lora |  |  |  |  |  | not measured: its process was ended |"
    assert compare_chart(LINES).startswith(b"\x89PNG")


def test_the_untouched_model_has_a_line() -> None:
    found = {"retrieval": {"trained": {"mrr@10": 0.8}, "split word": {"mrr@10": 0.7}}, "no_harm": {"identical": True}}
    table = to_markdown([{"method": "init=omp", "refused": "no"}, {"method": "default", **found}]).splitlines()
    assert table[2:] == [
        "| split words | 0.700 |  |",
        "| init=omp |  | does not apply: no |",
        "| default | 0.800 | same bits |",
    ]


def test_figures_of_a_few_tokens_are_left_out() -> None:
    names = {"glossary, encoded": {"initial": {"mrr": 0.2, "units": 20}, "trained": {"mrr": 0.4, "units": 19}}}
    assert to_markdown([{"method": "default", "relatedness": names}]).splitlines()[::3] == [
        "| method | related names: start, MRR | other text |",
        "| default | 0.200 |  |",
    ]


def test_a_run_of_its_own_tells_its_cost_and_keeps_the_shared_cache(
    glossary: Path, corpus: Path, tiny_model: Path, tmp_path: Path
) -> None:
    common: dict[str, Any] = {"terms": (glossary,), "model": str(tiny_model), "quiet": True}
    gen_pairs(GenPairsConfig(**common, corpus=(str(corpus),), out=tmp_path / "pairs", known_sentences=0))
    cache, out = tmp_path / "cache", tmp_path / "model"
    cache.mkdir()
    (cache / "shared").write_text("x")
    config = TrainConfig(**common, pairs=tmp_path / "pairs", out=out, epochs=0, device="cpu", init="charlen_mean")
    held = bytearray(2 * 10**9)  # by this process: not what the run took
    cost = train_apart(config, cache)
    assert isinstance(cost, Cost) and cost.cpu_seconds > 0 and 2**20 < cost.peak_bytes < len(held)
    assert [file.name for file in cache.iterdir()] == ["shared"] and (out / "contrastok.json").is_file()
    assert cost.steps == 0
    refused = train_apart(replace(config, init="predictor", out=tmp_path / "other"), cache)
    assert isinstance(refused, Refused) and "evidence" in refused.why and not (tmp_path / "other").exists()


def test_a_process_that_ends_without_a_word_is_told(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    ends: dict[str, Any] = {"was ended by SIGKILL; memory": KILLED, "with exit code 3;": Deadly(os._exit, 3)}
    for said, deadly in ends.items():
        with pytest.raises(LostError, match=said):
            train_apart(deadly, tmp_path / "cache")
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


@pytest.mark.parametrize("trusted", [False, True])
def test_a_run_of_its_own_trusts_what_the_comparison_trusts(
    trusted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, bool]] = []

    def look(_: TrainConfig) -> dict[str, Any]:
        seen.append(models._trust())
        return {"steps": 0}

    monkeypatch.setattr("contrastok.trainer.train", look)
    asked = CompareConfig(terms=(Path("t"),), corpus=("c",), out=tmp_path, hidden=5, trust_remote_code=trusted)
    inner = inner_commands(asked, tmp_path)
    monkeypatch.setenv("CONTRASTOK_CACHE", "")  # is set, and put back after the test
    for config in (inner.train, train_config(inner.recovery, tmp_path)):
        compare_run._train(config, str(tmp_path))
    assert seen == [{"trust_remote_code": trusted}] * 2 and inner.generate.trust_remote_code is trusted


def test_loaders_show_no_bars_in_a_run_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.utils import logging

    shown: list[bool] = []

    def bars(_: Any) -> dict[str, Any]:
        shown.append(logging.is_progress_bar_enabled())
        return {"steps": 7}

    monkeypatch.setenv("CONTRASTOK_CACHE", "")
    monkeypatch.setattr("contrastok.trainer.train", bars)
    before, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.enable_progress_bar()
    try:
        cost = compare_run._train(TrainConfig(), "")
    finally:
        logging.set_verbosity(level)
        (logging.enable_progress_bar if before else logging.disable_progress_bar)()
    assert shown == [False] and isinstance(cost, Cost) and cost.steps == 7


@pytest.fixture
def glossary(tmp_path: Path) -> Path:
    lines = [
        json.dumps({"token": t, "definition": d, "synonyms": s, "broader": b}) for t, (d, s, b) in GLOSSARY.items()
    ]
    (tmp_path / "terms.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path / "terms.jsonl"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    lines = [
        f"{frame} {token} {rest}."
        for token in GLOSSARY
        for frame, rest in (("We bought fresh", "at the market"), ("The cook likes", "with bread"))
    ]
    (tmp_path / "corpus.txt").write_text("\n".join(lines) + "\n")
    return tmp_path / "corpus.txt"


@pytest.fixture
def config(
    tiny_model: Path, glossary: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> CompareConfig:
    """A comparison on the tiny model; training runs in this process, for one of its own takes seconds."""

    def here(config: Any, cache: Path) -> Cost | Refused:
        return Cost(1.0, 2**20, train(config)["steps"])

    monkeypatch.setattr(module, "train_apart", here)
    return CompareConfig(
        terms=(glossary,),
        corpus=(str(corpus), str(KITCHEN / "corpus")),
        model=str(tiny_model),
        methods=("init=charlen_mean", "init=subtoken_mean"),
        out=tmp_path / "compare",
        epochs=1,
        hidden=5,
        quiet=True,
    )


def test_a_stopped_comparison_goes_on(config: CompareConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    real, trained = module.train_apart, []

    def stops(run: Any, cache: Path) -> Any:
        if len(trained) == 2:  # the first method has been trained on both lessons
            raise KeyboardInterrupt
        trained.append(run.init)
        return real(run, cache)

    monkeypatch.setattr(module, "train_apart", stops)
    with pytest.raises(KeyboardInterrupt):
        compare(config)
    assert config.out and not (config.out / "compare.md").exists()
    monkeypatch.setattr(module, "train_apart", lambda run, cache: trained.append(run.init) or real(run, cache))
    summary = compare(config)
    assert trained == ["charlen_mean"] * 2 + ["subtoken_mean"] * 2
    assert [line["method"] for line in summary["lines"]] == list(config.methods)
    for line in summary["lines"]:
        assert line["no_harm"]["identical"] is True
        assert 0 < line["recovery"]["trained"]["mrr"] <= 1
        assert line["cost"]["times_first"] == 1
        assert set(line["missing"]) <= {"relatedness", "retrieval"}
    assert json.loads((config.out / "compare.json").read_text())["lines"] == summary["lines"]
    assert sorted(file.name for file in config.out.iterdir()) == ["compare.json", "compare.md", "compare.png"]
    with pytest.raises(OutputError, match="exists already"):
        compare(config)


def test_methods_at_the_same_time_have_the_figures_of_one_after_another(config: CompareConfig, tmp_path: Path) -> None:
    config = replace(config, hidden=0, epochs=0)
    alone, together = (
        compare(replace(config, out=tmp_path / name, num_proc=count))["lines"]
        for name, count in (("alone", 1), ("together", 2))
    )
    for line in (*alone, *together):
        assert line.pop("cost")["times_first"] > 0  # other runs, so other seconds
    assert alone == together and [line["method"] for line in together] == list(config.methods)


def test_a_stopped_comparison_goes_on_with_other_methods(
    config: CompareConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stops(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_lesson", stops)
    config = replace(config, hidden=0)
    with pytest.raises(KeyboardInterrupt):
        compare(config)
    monkeypatch.undo()
    monkeypatch.setattr(module, "train_apart", lambda *_: Refused("no"))
    summary = compare(replace(config, methods=("init=mean",), epochs=config.epochs))
    assert [line["method"] for line in summary["lines"]] == ["init=mean"]


def test_after_the_text_has_changed_nothing_goes_on(config: CompareConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def stops(run: Any, cache: Path) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "train_apart", stops)
    config = replace(config, hidden=0)
    with pytest.raises(KeyboardInterrupt):
        compare(config)
    with Path(config.corpus[0]).open("a") as text:
        text.write("One more sentence.\n")
    with pytest.raises(OutputError, match="exists already"):
        compare(config)


def test_a_method_whose_process_ended_is_tried_again(
    config: CompareConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = replace(config, methods=(*config.methods, "init=mean"), quiet=False)
    assert config.out
    plan = compare(replace(config, dry_run=True))
    assert len(plan["hidden"]) == config.hidden and not config.out.exists()
    real, trained = module.train_apart, list[str]()

    def ends(run: Any, cache: Path) -> Any:
        trained.append(run.init)
        return train_apart(KILLED, cache) if len(trained) in (2, 3) else real(run, cache)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "train_apart", ends)
    with pytest.raises(LostError, match=r"2 of 3 methods(.|\n)*SIGKILL(.|\n)*same command again"):
        compare(config)
    assert trained == ["charlen_mean", "charlen_mean", "subtoken_mean", "mean", "mean"]  # in recovery; before it
    assert "not measured" in (told := capsys.readouterr().err) and "num-proc" in told and "init=mean" in told
    assert "lines" not in json.loads((config.out / "compare.json").read_text())
    assert len(list((config.out / "work" / "lines").iterdir())) == 1 and not (config.out / "compare.md").exists()
    trained[:] = [""] * 3  # past those that end
    summary = compare(config)
    assert trained[3:] == ["charlen_mean"] * 2 + ["subtoken_mean"] * 2
    assert [line["method"] for line in summary["lines"]] == list(config.methods)
    for line in summary["lines"]:
        assert line["cost"]["steps"] == plan["steps"][line["method"]] > 0 and "lost" not in line
    assert not (config.out / "work").exists()


def test_a_worker_that_ends_is_told(config: CompareConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    deadly = [Method(name, {"init": "mean"}, KILLED) for name in ("a", "b")]  # type: ignore[arg-type]
    monkeypatch.setattr(module, "chosen_methods", lambda _: deadly)
    with pytest.raises(LostError, match=r"2 of 2 methods(.|\n)*a worker ended"):
        compare(replace(config, hidden=0, epochs=0, num_proc=2))
    assert config.out and (config.out / "work").is_dir()


def test_what_is_wrong_with_an_input_is_told_before_the_folder_is_taken(config: CompareConfig, tmp_path: Path) -> None:
    no, bad, fields = tmp_path / "no.jsonl", tmp_path / "bad.toml", tmp_path / "fields.jsonl"
    bad.write_text("[train]\ntemperature = -1\n")
    fields.write_text('{"body": "We bought fresh zorblaxin at the market."}\n')
    wrong: list[dict[str, Any]] = [
        {"terms": (no,)},
        {"corpus": (str(no),)},
        {"corpus": (str(fields),)},  # which is known only when it is read
        {"glossary": (no,)},
        {"queries": no, "passages": no},
        {"pairs_file": no},
        {"sts": no},
        {"config": no},
        {"config": bad},
        {"model": str(tmp_path / "nothing")},
    ]
    for options in wrong:
        for dry_run in (False, True):
            with pytest.raises(ContrastokError):
                compare(replace(config, **options, dry_run=dry_run))
            assert config.out and not config.out.exists(), options


def test_a_folder_with_nothing_to_go_on_from_is_free(config: CompareConfig) -> None:
    assert config.out
    claim(config.out, {"options": {"epochs": 2}})
    assert not goes_on(config, {"options": {"epochs": 1}})
    assert goes_on(config, {"options": {"epochs": 2}})
    (config.out / "work" / "lines").mkdir(parents=True)
    (config.out / "work" / "lines" / "line.json").touch()
    with pytest.raises(OutputError, match="exists already"):
        goes_on(config, {"options": {"epochs": 1}})
    (config.out / "work" / "lines" / "line.json").unlink()
    assert barren(config.out)
    (config.out / "notes.txt").touch()  # somebody's
    assert not barren(config.out)
    (config.out / "notes.txt").unlink()
    claim(config.out, {"options": {}, "lines": []})
    assert not barren(config.out) and not barren(config.out / "nowhere")


def test_a_dry_run_plans_tokens_and_steps(config: CompareConfig, capsys: pytest.CaptureFixture[str]) -> None:
    methods = ("default", "init=sava", "two-stage", "objective=one_token")
    config = replace(config, methods=methods, hidden=0, quiet=False, json=Path("-"), dry_run=True)
    plan = compare(config)
    assert config.out and not config.out.exists()
    assert plan["dry_run"] is True and plan["methods"] == list(methods)
    assert {token["token"] for token in plan["tokens"]} == set(GLOSSARY)
    assert plan["steps"] == {
        "default": (one := plan["steps"]["default"]),
        "two-stage": 2 * one,
        "objective=one_token": 3,
    }
    assert list(plan["refused"]) == ["init=sava"] and "init-model" in plan["refused"]["init=sava"]
    told = capsys.readouterr()
    assert json.loads(told.out) == plan
    assert "Would train 3 of 4 methods; 1 does not apply" in told.err and "Would add 3 terms" in told.err
    compare(replace(config, methods=("default",), json=None))
    assert "Would train 1 of 1 method\n" in capsys.readouterr().err


def test_models_and_files_that_the_options_of_train_name_are_inputs(config: CompareConfig, tmp_path: Path) -> None:
    file, donor, net, model = (tmp_path / name for name in ("v.txt", "donor", "net", "model"))
    for folder in (donor, net, model):
        folder.mkdir()
        (folder / "config.json").write_text("{}")
    file.touch()
    toml = tmp_path / "run.toml"
    toml.write_text(f"[train]\ninit-vectors = '{file}'\ninit-model = '{donor}'\ninit-hypernet = '{net}'\n")
    config = replace(config, config=toml, model=str(model))
    found = {tuple(hashes(config, inner_commands(config, tmp_path)))}
    for count, changed in enumerate((file, donor / "a", net / "b", model / "c"), 2):
        changed.write_text(changed.name)
        found.add(tuple(hashes(config, inner_commands(config, tmp_path))))
        assert len(found) == count, changed
