"""What is said of a published function beside ours, and of what packages do that ours must not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version

import torch
import torch.nn.functional as F

from benchmarks.markdown import table
from benchmarks.peer_inputs import Inputs

TOLERANCE = 1e-5
"""Rows that are apart by less, in norms of the row, are the same: what float32 leaves of a sum."""
SPREAD = 0.02
"""Draws whose spreads are apart by less, as a share, are of one distribution."""
SAME, UNKNOWN = "the same rows", "differs: not known why"


@dataclass(frozen=True)
class Beside:
    """How far our rows are from a package's.

    Attributes:
        difference: the largest norm of a difference, in norms of the package's row; None where nothing was compared.
        cosine: the least cosine of a row of ours to the package's.
        verdict: in words.
        rows: compared.
    """

    difference: float | None
    cosine: float | None
    verdict: str
    rows: int = 0


@dataclass(frozen=True)
class Shown:
    """A defect of a package, on these inputs.

    Attributes:
        theirs: what the package does.
        ours: what contrastok does there.
        seen: whether the package still does it.
    """

    theirs: str
    ours: str
    seen: bool = True


@dataclass(frozen=True)
class Line:
    """One line of a table: what is called, and what came of it.

    Attributes:
        subject: the method of ours; of a defect, its name.
        package: as PyPI calls it.
        release: its version; "" where it is not installed.
        called: what of it.
        found: None where it cannot be called.
        missing: why.
        test: of a defect, the test of ours that would see it.
    """

    subject: str
    package: str
    release: str
    called: str
    found: Beside | Shown | None = None
    missing: str = ""
    test: str = ""


Compare = Callable[[Inputs], Beside]
Show = Callable[[Inputs], Shown]
Build = Callable[[Inputs], Line]


def beside(subject: str, package: str, called: str, lines: list[Build]) -> Callable[[Compare], Compare]:
    """Make a line of the table of rows of a function, and put it into `lines`."""

    def register(compare: Compare) -> Compare:
        lines.append(_line(Line(subject, package, "", called), compare))
        return compare

    return register


def shows(subject: str, package: str, called: str, test: str, lines: list[Build]) -> Callable[[Show], Show]:
    """Make a line of the table of defects of a function, and put it into `lines`."""

    def register(show: Show) -> Show:
        lines.append(_line(Line(subject, package, "", called, test=test), show))
        return show

    return register


def _line(line: Line, look: Compare | Show) -> Build:
    """A function that fills a line, or says that the package is missing."""

    def build(inputs: Inputs) -> Line:
        try:
            told = replace(line, release=version(line.package))
        except PackageNotFoundError:
            return replace(line, missing="not installed")
        try:
            return replace(told, found=look(inputs))
        except ImportError as error:
            return replace(told, missing=f"cannot be imported: {error}")

    return build


def compared(ours: torch.Tensor, theirs: torch.Tensor, why: str = "", tolerance: float = TOLERANCE) -> Beside:
    """Compare rows.

    Args:
        ours, theirs: `[n, d]`, of any float dtype.
        why: they differ, where the definitions are not the same.
        tolerance: see `TOLERANCE`.
    """
    ours, theirs = ours.detach().cpu().double(), theirs.detach().cpu().double()
    apart = (ours - theirs).norm(dim=-1) / theirs.norm(dim=-1).clamp_min(1e-30)
    difference, cosine = float(apart.max()), float(F.cosine_similarity(ours, theirs, dim=-1).min())
    verdict = SAME if difference < tolerance else f"differs: {why}" if why else UNKNOWN
    return Beside(difference, cosine, verdict, len(ours))


def drawn_alike(ours: torch.Tensor, theirs: torch.Tensor, mean: torch.Tensor, covariance: torch.Tensor) -> Beside:
    """Compare draws from what should be one normal distribution.

    The spread of draws is their mean squared Mahalanobis distance from the mean, over the dimensions: 1 for draws from
    this distribution, and more for draws that do not keep to the directions in which it is wide.

    Args:
        ours, theirs: `[n, d]`.
        mean, covariance: of the distribution, float64 `[d]`, `[d, d]`.
    """
    found = compared(ours, theirs)
    one, other = (_spread(rows.detach().double() - mean, covariance) for rows in (ours, theirs))
    same = abs(one / other - 1) < SPREAD
    verdict = f"the same distribution, drawn anew: spread {one:.2f}, theirs {other:.2f}"
    return replace(found, verdict=verdict if same else f"{UNKNOWN}; spread {one:.2f}, theirs {other:.2f}")


def _spread(off: torch.Tensor, covariance: torch.Tensor) -> float:
    return float((off * torch.linalg.solve(covariance, off.T).T).sum(-1).mean()) / off.shape[1]


def unexplained(lines: Iterable[Line]) -> list[str]:
    """The subjects of lines whose rows differ and none knows why."""
    return [line.subject for line in lines if isinstance(line.found, Beside) and line.found.verdict.startswith(UNKNOWN)]


def rows_table(lines: Sequence[Line]) -> str:
    """The comparison of rows, in Markdown."""
    head = ["ours", "package", "what of it is called", "rows", "largest difference", "least cosine", "verdict"]
    return table(head, [[line.subject, _package(line), f"`{line.called}`", *_cells(line)] for line in lines])


def defects_table(lines: Sequence[Line]) -> str:
    """What packages do that ours must not, in Markdown."""
    head = ["package", "called", "what is wrong", "on these inputs", "ours", "the test that would see it in ours"]
    rows = []
    for line in lines:
        told = [line.missing, ""]
        if isinstance(line.found, Shown):
            told = [line.found.theirs if line.found.seen else f"not so here: {line.found.theirs}", line.found.ours]
        rows.append([_package(line), f"`{line.called}`", line.subject, *told, f"`{line.test}`"])
    return table(head, rows)


def _package(line: Line) -> str:
    return f"{line.package} {line.release}".strip()


def _cells(line: Line) -> list[str]:
    found = line.found
    if not isinstance(found, Beside) or found.difference is None or found.cosine is None:
        return ["", "", "", found.verdict if isinstance(found, Beside) else line.missing]
    return [f"{found.rows:,}", f"{found.difference:.1e}", f"{found.cosine:.6f}", found.verdict]
