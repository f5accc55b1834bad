"""The whole command on a tiny checkpoint whose trained rows are copies of known words' rows."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contrastok.cli import main, parse
from contrastok.errors import ConfigError, InputError, OutputError
from contrastok.eval.report import report
from contrastok.report_config import ReportConfig

from .conftest import PRIOR

COPIED = {"halloumi": "cheese", "kimchiq": "bread", "<b>zzq": "water"}
"""New token -> the known word whose row it gets."""


@pytest.fixture(scope="module")
def checkpoint(make_checkpoint: Callable[..., Path]) -> Path:
    return make_checkpoint(copied=COPIED)


def _by_token(summary: dict[str, Any]) -> dict[str, Any]:
    return {token["token"]: token for token in summary["per_token"]}


@pytest.mark.parametrize("family", ["wordpiece", "byte-bpe", "unigram"])
def test_a_copied_row_lands_on_its_original(family: str, make_checkpoint: Callable[..., Path]) -> None:
    summary = report(ReportConfig(model=make_checkpoint(family, copied=COPIED), neighbors=4, quiet=True))
    for term, word in COPIED.items():
        token = _by_token(summary)[term]
        for hood in token["neighbors"]:
            assert hood["after"][0] == {"word": word, "cosine": 1.0}, hood["space"]
            assert len(hood["before"]) == len(hood["after"]) == 4
            assert {other["word"] for other in hood["others"]} == set(COPIED) - {term}
        known, own_name, *_ = token["relations"]
        assert known["vocabulary"]["trained"] == 1
        assert own_name["glossary"] is None


def test_the_summary_the_page_the_json_and_the_csv_agree(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, file = tmp_path / "new" / "report.html", tmp_path / "report.json"
    summary = report(ReportConfig(models=(checkpoint,), out=out, json=file, csv=Path("-"), quiet=True))
    assert json.loads(file.read_text()) == summary
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [line["token"] for line in lines] == [token["token"] for token in summary["per_token"]]
    own = next(line for line in lines if line["token"] == "halloumi")
    assert own["neighbors_after"].startswith("cheese, ") and own["verdict"] == _by_token(summary)["halloumi"]["verdict"]
    assert own["rank_trained"] == str(_by_token(summary)["halloumi"]["basis"]["ranks"]["trained"])
    page = out.read_text()
    assert summary["tokens"] == sum(summary["verdicts"].values()) == 3
    assert summary["relations"]["held_out"]["trained"]["count"] == 6
    assert set(summary["relations"]["held_out"]) >= {"initial", "trained", "split_word"}
    ranks = [found["trained"] for token in summary["per_token"] if (found := token["definition_ranks"])]
    assert summary["definitions"]["trained"]["count"] == len(ranks) > 0
    assert summary["definitions"]["trained"]["mrr"] == pytest.approx(
        sum(1 / rank for rank in ranks) / len(ranks), abs=1e-4
    )
    assert "does a token find its definition?" in page and set(summary["definitions"]) >= {"initial", "split_word"}
    assert summary["index"].startswith("exact search over") and summary["index"] in page
    assert r"\u003cb\u003ezzq" in page and "<b>zzq" not in page
    assert list(out.parent.iterdir()) == [out]


def test_a_page_by_another_name_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"report.pdf would hold an HTML page: end its name in .html"):
        report(ReportConfig(model=checkpoint, out=tmp_path / "report.pdf", quiet=True))


def test_the_same_checkpoint_gives_the_same_page(checkpoint: Path, tmp_path: Path) -> None:
    pages = []
    for name in ("a.html", "b.html"):
        report(ReportConfig(model=checkpoint, out=tmp_path / name, quiet=True))
        pages.append((tmp_path / name).read_bytes())
    assert pages[0] == pages[1]


def test_it_needs_no_base_model(checkpoint: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    for file in checkpoint.iterdir():
        (moved / file.name).symlink_to(file)
    (moved / "contrastok.json").unlink()
    manifest = json.loads((checkpoint / "contrastok.json").read_text())
    manifest["base_model"]["name"] = str(tmp_path / "gone")
    (moved / "contrastok.json").write_text(json.dumps(manifest))
    there, here = (report(ReportConfig(model=model, quiet=True)) for model in (moved, checkpoint))
    assert there["per_token"] == here["per_token"]


def test_without_initial_rows_nothing_is_told_of_a_gain(
    make_checkpoint: Callable[..., Path], checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contrastok.eval.summary.FEW", 1)
    unknown = make_checkpoint(copied=COPIED, initial=False)
    summary = report(ReportConfig(model=unknown, out=tmp_path / "report.html", quiet=True))
    for figures in (*summary["relations"].values(), *summary["vocabulary_relations"].values()):
        assert "trained" in figures and "initial" not in figures and "change" not in figures
    for token in summary["per_token"]:
        assert token["norm_initial"] is None and token["move"] is None
        assert all(r["glossary"]["initial"] is None for r in token["relations"] if r["glossary"])
        assert not any(hood["before"] for hood in token["neighbors"])
        assert "before training" not in token["reason"]
    assert {point["when"] for point in summary["points"]} == {"vocabulary", "after"}
    page = (tmp_path / "report.html").read_text()
    assert "The initial rows are not known, so nothing here shows what training gained over them." in page
    shown, rows = page.split('<script type="application/json" id="rows"')[0], page.split('id="rows"')[1]
    assert "Training " not in shown and "→" not in shown
    for row in json.loads(rows.split(">", 1)[1].split("</script>")[0]):
        assert row["move"] is None and not any(before for _, before, *_ in row["spaces"])
    known = report(ReportConfig(model=checkpoint, quiet=True))
    assert known["relations"]["held_out"]["trained"] == summary["relations"]["held_out"]["trained"]
    assert all(token["move"] > 0 for token in known["per_token"])


def test_what_the_manifest_says_of_the_predictor_reaches_json_and_page(checkpoint: Path, tmp_path: Path) -> None:
    predicted = tmp_path / "predicted"
    shutil.copytree(checkpoint, predicted)
    manifest = json.loads((checkpoint / "contrastok.json").read_text())
    for token, confidence in zip(manifest["tokens"], (0.25, 0.5, 1.0), strict=True):
        token["confidence"] = confidence
    manifest["tokens"][0]["definition"] = ""
    (predicted / "contrastok.json").write_text(json.dumps({**manifest, "prior": PRIOR, "init": "predictor"}))
    summary = report(ReportConfig(model=predicted, out=tmp_path / "report.html", quiet=True))
    assert {t: (v["confidence"], v["leans_on"]) for t, v in _by_token(summary).items()} == {
        "halloumi": (0.25, []),
        "kimchiq": (0.5, ["definition"]),
        "<b>zzq": (1.0, ["definition"]),
    }
    assert summary["relearned"]["words"] == 400 and summary["relearned"]["landed"] == 0.6
    assert "Known words relearned" in (tmp_path / "report.html").read_text()


def test_a_dry_run_counts_and_writes_nothing(checkpoint: Path, tmp_path: Path) -> None:
    summary = report(ReportConfig(model=checkpoint, out=tmp_path / "report.html", dry_run=True, quiet=True))
    assert summary["tokens"] == 3 and summary["relations"] == 12 and summary["held_out_relations"] == 9
    assert summary["vocabulary_words"] > 10
    assert not list(tmp_path.iterdir())


def test_an_existing_page_stays_unless_told_otherwise(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    out.write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        report(ReportConfig(model=checkpoint, out=out, quiet=True))
    assert out.read_text() == "mine"
    report(ReportConfig(model=checkpoint, out=out, overwrite=True, quiet=True))
    assert out.read_text().lstrip().startswith("<!DOCTYPE html>")


def test_a_run_that_ends_while_the_page_is_made_leaves_no_file(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_: object) -> str:
        raise KeyboardInterrupt

    names = {"out": tmp_path / "report.html", "csv": tmp_path / "report.csv", "json": tmp_path / "report.json"}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("contrastok.eval.html.render", killed)
        report(ReportConfig(model=checkpoint, quiet=True, **names))
    assert not list(tmp_path.iterdir())
    report(ReportConfig(model=checkpoint, quiet=True, **names))
    assert {file.name for file in tmp_path.iterdir()} == {path.name for path in names.values()}


def test_a_folder_that_is_no_checkpoint_is_named(tiny_model: Path) -> None:
    with pytest.raises(InputError, match="no checkpoint of contrastok"):
        report(ReportConfig(model=tiny_model, quiet=True))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no checkpoint was named"),
        (["a", "b", "c"], "3 checkpoints were named"),
        (["a", "--json", "-", "--csv", "-"], "cannot both go to standard output"),
        (["a", "--out", "x", "--csv", "x"], "must be different files"),
        (["a", "b"], "a: no such file or folder"),
    ],
)
def test_what_cannot_be_is_told(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_folders_go_before_the_option_of_a_toml_file(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('[report]\nmodel = "of/toml"\n')
    for arguments, expected in ([], ["of/toml"]), (["a"], ["a"]), (["a", "b"], ["a", "b"]):
        config = parse(["report", *arguments, "--config", str(tmp_path / "run.toml")])
        assert isinstance(config, ReportConfig) and list(map(str, config.checkpoints)) == expected
