from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from contrastok.cli import main
from contrastok.errors import OutputError
from contrastok.lock import only_run

HOLD = """
import sys
from pathlib import Path
from contrastok.lock import only_run
with only_run(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def held_elsewhere(path: Path) -> subprocess.Popen[str]:
    """Another process that holds an output until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_a_second_run_into_the_same_output_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "out"
    first = held_elsewhere(out)
    (tmp_path / "link").symlink_to(tmp_path / "deep")
    for name in (out, tmp_path / "link" / "out"):
        assert main(["gen-pairs", "--terms", "t.txt", "--corpus", "c.txt", "--out", str(name)]) == 2
        assert "another run is writing it" in capsys.readouterr().err
    # killed, it holds nothing, and the next run takes its lock file away
    first.kill()
    first.wait()
    with only_run(out), pytest.raises(OutputError, match="another run"), only_run(out):
        raise AssertionError
    assert not (tmp_path / "deep" / ".out.lock").exists()


def test_nothing_is_left_of_a_lock(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), only_run(tmp_path / "a" / "b" / "out"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with only_run(tmp_path / "a" / "b" / "out"):
        (tmp_path / "a" / "b" / "out").write_text("whole")
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["out"]


@pytest.mark.parametrize("name", ["file/out", "file/deep/out", ".", "/", "/proc/out"])
def test_where_no_lock_can_be_had_the_run_goes_on(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with only_run(tmp_path / name):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
