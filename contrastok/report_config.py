"""The configuration of `contrastok report`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from contrastok.files import PAGES
from contrastok.options import Common


@dataclass(frozen=True, kw_only=True)
class ReportConfig(Common):
    """Show where each new token landed: nearest neighbours before and after training, or of two runs.

    Example: contrastok report model/ --out report.html
             contrastok report first/ second/ --out runs.html
    """

    models: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """A checkpoint folder that contrastok train wrote; with a second one the two runs are compared."""
    model: Path | None = None
    """The same for one checkpoint, as a TOML file says it; folders given without an option go before it."""
    out: Path | None = None
    """HTML page to write. Without it only the table is printed."""
    csv: Path | None = None
    """Write the table as CSV, one line a token, to this file ("-": standard output)."""
    neighbors: int = 10
    """Neighbours shown for each token."""

    @property
    def checkpoints(self) -> tuple[Path, ...]:
        """The folders that were asked for."""
        return self.models or (() if self.model is None else (self.model,))

    def problems(self) -> list[str]:
        """Everything that is wrong with these options, one sentence each."""
        found = super().problems()
        if not self.checkpoints:
            found.append("no checkpoint was named: contrastok report model/")
        if len(self.checkpoints) > 2:
            found.append(f"{len(self.checkpoints)} checkpoints were named, and at most two can be compared")
        if self.out is not None and self.out.suffix.lower() not in PAGES:
            found.append(f"--out {self.out} would hold an HTML page: end its name in .html")
        if self.csv is not None and str(self.csv) == str(self.json) == "-":
            found.append("--json and --csv cannot both go to standard output")
        outputs = [path.resolve() for path in (self.out, self.csv, self.json) if path is not None and str(path) != "-"]
        if len(set(outputs)) < len(outputs):
            found.append("--out, --csv and --json must be different files")
        if not 1 <= self.neighbors <= 100:
            found.append(f"--neighbors must be between 1 and 100, not {self.neighbors}")
        return found
