from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from contrastok import files
from contrastok.errors import OutputError
from contrastok.files import atomic_file, atomic_folder, check_output, sha256_file, to_json


def dead_pid() -> int:
    """The id of a process that is gone."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def left(folder: Path, pid: int, kind: str) -> Path:
    """What a process of this machine leaves beside `out`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.getpid", lambda: pid)
        return files._beside(folder / "out", kind)


def test_an_output_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with atomic_folder(out) as folder:
        (folder / "a").write_text("1")
        assert not out.exists()
    assert (out / "a").read_text() == "1"
    with pytest.raises(RuntimeError), atomic_folder(out) as folder:
        (folder / "a").write_text("2")
        raise RuntimeError
    assert (out / "a").read_text() == "1" and list(out.parent.iterdir()) == [out]
    with pytest.raises(RuntimeError), atomic_file(tmp_path / "file") as partial:
        partial.write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == [tmp_path / "deep"]


def test_what_killed_runs_left_is_removed_and_what_living_ones_hold_is_kept(tmp_path: Path) -> None:
    dead, alive = left(tmp_path, dead_pid(), "partial"), left(tmp_path, os.getppid(), "partial")
    kept = [alive, tmp_path / ".out.notes.partial", tmp_path / f".out.more.{dead.name.removeprefix('.out.')}"]
    for folder in (dead, *kept):
        folder.mkdir()
    with atomic_folder(tmp_path / "out"):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["out", *(folder.name for folder in kept)])


def test_what_runs_of_other_machines_hold_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a shared disk, with a cache on it for one: the id of a living process there is that of a dead one here."""
    pid = dead_pid()
    with monkeypatch.context() as patch:
        patch.setattr("socket.gethostname", lambda: "node-7.cluster/a")
        theirs = left(tmp_path, pid, "partial")
        assert theirs.name == f".out.node-7-cluster-a.{pid}.partial"
        theirs.write_text("half")
        left(tmp_path, pid, "old").write_text("old")
    with atomic_file(tmp_path / "out") as partial:
        partial.write_text("whole")
    assert theirs.read_text() == "half"
    assert (tmp_path / "out").read_text() == "whole"


@pytest.mark.parametrize("host", [None, "of-a-container-that-is-gone"])
def test_an_output_moved_aside_by_a_killed_run_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str | None
) -> None:
    """Killed between the two renames of a replacement: the old output must not be lost."""
    with monkeypatch.context() as patch:
        if host is not None:
            patch.setattr("socket.gethostname", lambda: host)
        aside = left(tmp_path, dead_pid(), "old")
    aside.mkdir()
    (aside / "a").write_text("precious")
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "out"):
        raise RuntimeError
    assert (tmp_path / "out" / "a").read_text() == "precious"
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_replacing(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="--overwrite"):
        check_output(tmp_path / "out", overwrite=False)
    check_output(tmp_path / "out", overwrite=True)
    with atomic_folder(tmp_path / "out", overwrite=True) as folder:
        (folder / "b").write_text("1")
    assert [p.name for p in tmp_path.iterdir()] == ["out"] and (tmp_path / "out" / "b").exists()


def test_folders_of_other_people_inputs_and_home_are_never_replaced(tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    for folder in (mine, theirs):
        folder.mkdir()
        (folder / "file").write_text("")
    (mine / "pairs.json").write_text("")
    check_output(mine, True, marker="pairs.json", inputs=[theirs])
    for out, options in (
        (theirs, {}),
        (mine, {"inputs": [mine]}),
        (tmp_path, {"inputs": [mine]}),
        (mine / "out", {"inputs": [mine]}),
        (Path.home(), {}),
        (Path.cwd(), {}),
        (Path.cwd().parent, {}),
    ):
        with pytest.raises(OutputError):
            check_output(out, True, marker="pairs.json", **options)  # type: ignore[arg-type]
    with pytest.raises(OutputError, match="which this run reads"):
        check_output(mine / "out", True, marker="pairs.json", inputs=[mine])
    page = mine / "report.html"
    check_output(page, False, inputs=[mine])  # a file may lie in the folder that it is about
    page.write_text("of before")
    check_output(page, True, inputs=[mine])  # no run reads a page
    page.unlink()
    page.symlink_to(mine / "pairs.json")
    with pytest.raises(OutputError, match="lies inside"):
        check_output(page, True, inputs=[mine])
    page.unlink()
    with pytest.raises(OutputError, match="is a folder"):
        check_output(mine, True)


def test_a_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        check_output(tmp_path / "file" / "out", overwrite=False)


def test_json_has_no_nan_and_hashes_are_of_bytes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        to_json({"a": float("nan")})
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_file(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
