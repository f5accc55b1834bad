"""The comparison with published packages, without them: they are not in CI. Stand-ins answer in their place."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import peer_lines, peer_rows, peers
from benchmarks.peer_defects import DEFECTS, between_axes
from benchmarks.peer_inputs import Inputs, make_inputs
from benchmarks.peer_lines import Beside, Line, Shown, compared, defects_table, drawn_alike, rows_table, unexplained
from benchmarks.peer_rows import ROWS
from contrastok.candidates import candidates
from contrastok.linear_maps import procrustes
from contrastok.matching_pursuit import matching_pursuit
from tests.conftest import ROOT, kitchen_lines

TERMS = ("zorblaxin", "brimwaxel", "quib vexalotl")
FRAMES = ("we bought {} at the market", "the cook likes {}", "{} is on the table", "there was no {} left")
PACKAGES = ("deepfocus", "wechsel", "mergekit")


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def inputs(make_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inputs]:
    pytest.importorskip("gensim")
    texts = [*(frame.format(term) for term in TERMS for frame in FRAMES), *dict.fromkeys(kitchen_lines()[:300])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("contrastok.word_vectors.ENOUGH", 1)  # as few epochs as there are
        patch.setattr("contrastok.word_vectors.BUCKETS", 2**10)
        patch.setattr(peer_rows, "DRAWS", 1500)
        patch.setattr("benchmarks.peer_inputs.DONOR", 300)
        donor = tmp_path_factory.mktemp("peers") / "donor"
        yield make_inputs(str(make_model("wordpiece")), TERMS, texts, donor, None)


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = peer_lines.version

    def version(package: str) -> str:
        if package in PACKAGES:
            raise PackageNotFoundError(package)
        return real(package)

    monkeypatch.setattr(peer_lines, "version", version)


def cells(table: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in table.splitlines()]


def test_without_the_packages_every_line_says_so_and_the_rest_is_compared(
    inputs: Inputs, nothing_installed: None
) -> None:
    rows, defects = peers.measure(inputs)
    assert [line.missing for line in rows] == ["not installed" if line.package in PACKAGES else "" for line in rows]
    (resize,) = (line for line in rows if line.package == "transformers")
    assert isinstance(resize.found, Beside) and resize.found.verdict.startswith("the same distribution")
    assert resize.found.rows == 1500 and resize.release
    assert {line.found for line in defects if line.package in PACKAGES} == {None}
    assert any(isinstance(line.found, Shown) and line.found.seen for line in defects)
    assert not unexplained(rows)
    first, second = peers.to_markdown(peers.facts(inputs), rows, defects).split("\n\n")[::2]
    for table, lines, width in ((first, rows, 7), (second, defects, 6)):
        assert len(table.splitlines()) == len(lines) + 2
        assert {line.count(" | ") for line in table.splitlines()} == {width - 1}


def test_inputs_are_told(inputs: Inputs) -> None:
    counts = peers.facts(inputs)
    assert counts["new tokens"] == counts["new tokens in word vectors"] == counts["new tokens in token vectors"] == 3
    assert counts["sentences"] == len(inputs.context.texts)
    words = len(candidates(inputs.context.tokenizer).ids)  # type: ignore[arg-type]
    assert 40 < counts["anchors in token vectors"] < words and 20 < counts["anchors in the donor"] < words


def test_a_package_that_breaks_on_import_is_told(inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_lines, "version", lambda package: "0")
    monkeypatch.setitem(sys.modules, "deepfocus", None)  # an import of it now fails
    line = ROWS[0](inputs)
    assert (line.package, line.release, line.found) == ("deepfocus", "0", None)
    assert line.missing.startswith("cannot be imported: ") and line.missing in rows_table([line])


@pytest.mark.parametrize(("scale", "verdict"), [(1.0, "the same rows"), (1.0001, "differs: not known why")])
def test_a_stand_in_with_our_coefficients_has_our_rows_and_others_are_seen(
    inputs: Inputs, monkeypatch: pytest.MonkeyPatch, scale: float, verdict: str
) -> None:
    def batch_omp(targets: torch.Tensor, points: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        places, weights = matching_pursuit(targets, points, count)
        return places, scale * weights

    monkeypatch.setattr(peer_lines, "version", lambda package: "0")
    monkeypatch.setitem(sys.modules, "mergekit", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "mergekit.tokensurgeon", SimpleNamespace(batch_omp=batch_omp))
    lines = [line for line in (build(inputs) for build in ROWS) if "batch_omp" in line.called]
    assert [line.found.verdict.split(" whatever")[0] for line in lines if isinstance(line.found, Beside)] == [
        verdict, "differs: its default is 64 anchors",
    ]  # fmt: skip
    assert unexplained(lines) == (["`omp`"] if scale > 1 else [])


def test_rows_are_compared_by_their_norms() -> None:
    theirs = draw(4, 8)
    ours = theirs.clone()
    ours[2] += 0.01 * theirs[2].norm() * torch.nn.functional.normalize(draw(8, seed=1), dim=0)
    found = compared(ours, theirs)
    assert found.difference == pytest.approx(0.01) and found.rows == 4
    assert 0.9999 < (found.cosine or 0) < 1 and found.verdict == peer_lines.UNKNOWN
    assert compared(ours, theirs, "it is another").verdict == "differs: it is another"
    assert compared(theirs, theirs.float(), "it is another").verdict == "the same rows"


def test_draws_are_compared_by_their_distribution() -> None:
    mix, mean = torch.diag(torch.tensor([5.0, 1, 1, 0.1], dtype=torch.float64)), torch.full((4,), 3.0).double()
    ours, theirs, plain = draw(9000, 4) @ mix + mean, draw(9000, 4, seed=1) @ mix + mean, draw(9000, 4, seed=1) + mean
    assert drawn_alike(ours, theirs, mean, mix @ mix).verdict.startswith("the same distribution")
    assert drawn_alike(ours, plain, mean, mix @ mix).verdict.startswith(peer_lines.UNKNOWN)


def test_tables() -> None:
    line = Line("`omp`", "mergekit", "1", "f", Beside(1e-8, 0.99, "the same rows", 1200))
    gone = Line("`omp`", "mergekit", "", "f", missing="not installed")
    assert cells(rows_table([line, gone]))[2:] == [
        ["`omp`", "mergekit 1", "`f`", "1,200", "1.0e-08", "0.990000", "the same rows"],
        ["`omp`", "mergekit", "`f`", "", "", "", "not installed"],
    ]
    seen = Line("wrong", "mergekit", "1", "f", Shown("5 are lost", "none"), test="tests/a.py::b")
    mended = Line("wrong", "mergekit", "2", "f", Shown("0 are lost", "none", seen=False), test="tests/a.py::b")
    assert cells(defects_table([seen, mended]))[2:] == [
        ["mergekit 1", "`f`", "wrong", "5 are lost", "none", "`tests/a.py::b`"],
        ["mergekit 2", "`f`", "wrong", "not so here: 0 are lost", "none", "`tests/a.py::b`"],
    ]


def test_the_tests_that_would_see_the_defects_in_ours_are_there(inputs: Inputs, nothing_installed: None) -> None:
    for line in (build(inputs) for build in DEFECTS):
        file, name = line.test.split("::")
        functions = [
            node.name for node in ast.parse((ROOT / file).read_text()).body if isinstance(node, ast.FunctionDef)
        ]
        assert name in functions, line.test


def test_between_axes_is_procrustes_where_the_axes_span_the_space() -> None:
    known = draw(60, 5)
    rows, new = known @ draw(5, 5, seed=1) + 0.1 * draw(60, 5, seed=2), draw(7, 5, seed=3)
    torch.testing.assert_close(between_axes(new, known, rows), procrustes(known, rows)(new))


@pytest.mark.parametrize("lost", [[], ["`omp`"]])
def test_the_command_fails_where_rows_differ_and_none_knows_why(
    inputs: Inputs, lost: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    verdict = peer_lines.UNKNOWN if lost else "the same rows"
    line = Line("`omp`", "mergekit", "1", "f", Beside(0.5, 0.9, verdict, 3))
    asked: list[Any] = []
    monkeypatch.setattr(peers, "real_inputs", lambda *given: asked.append(given[1:]) or inputs)
    monkeypatch.setattr(peers, "measure", lambda given: ([line], []))
    monkeypatch.setattr(sys, "argv", ["peers", "--terms", "5", "--out", str(tmp_path / "out.json")])
    if lost:
        with pytest.raises(SystemExit, match="not known why: `omp`"):
            peers.main()
    else:
        peers.main()
    assert asked == [("minilm", 5, 0)] and (tmp_path / "out.json").stat().st_size > 0
    assert f"| 5.0e-01 | 0.900000 | {verdict} |" in capsys.readouterr().out


@pytest.mark.skipif(not all(map(find_spec, PACKAGES)), reason="the published packages are missing: see CONTRIBUTING.md")
def test_beside_the_packages_themselves(inputs: Inputs) -> None:
    rows, _ = peers.measure(inputs)
    assert not unexplained(rows) and not any(line.missing for line in rows)
    assert sum(isinstance(line.found, Beside) and line.found.verdict == "the same rows" for line in rows) == 7
