"""A few of the kills that `python -m benchmarks.crashes` does by the hundred, at places that are the same in each run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.crashes import DONE, RESUMED, START, Job, Whole, kill, prepare, whole


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Job, Whole]]]:
    """gen-pairs and train, and what they write undisturbed."""
    folder = tmp_path_factory.mktemp("crashes")
    yield {job.name: (job, whole(job, folder / job.name)) for job in prepare(folder)}


@pytest.mark.parametrize(
    ("command", "share", "then"),
    [("gen-pairs", 0.05, START), ("gen-pairs", 0.6, RESUMED), ("train", 0.75, RESUMED), ("train", 1.0, DONE)],
)
def test_what_is_killed_is_done_again_to_the_same_bytes(
    jobs: dict[str, tuple[Job, Whole]], tmp_path: Path, command: str, share: float, then: str
) -> None:
    job, expected = jobs[command]
    assert kill(job, expected, tmp_path, operation=round(share * expected.operations)) == then


def test_other_bytes_and_what_is_left_are_seen(jobs: dict[str, tuple[Job, Whole]], tmp_path: Path) -> None:
    job, expected = jobs["gen-pairs"]
    other = replace(expected, files={**expected.files, "pairs.parquet": "another hash"})
    with pytest.raises(RuntimeError, match="other bytes"):
        kill(job, other, tmp_path / "other", seconds=0)
    (tmp_path / "left" / "work").mkdir(parents=True)
    (tmp_path / "left" / "work" / ".out.partial").write_text("half")
    with pytest.raises(RuntimeError, match="is left beside"):
        kill(job, expected, tmp_path / "left", seconds=0)
