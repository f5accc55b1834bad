"""The folder of a comparison: free, that of a run that was stopped, or in the way."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contrastok.eval_config import CompareConfig
from contrastok.files import atomic_file, check_json, check_output, to_json

MARKER = "compare.json"
"""Every folder of a comparison holds it."""
READY = "ready"
"""In the folder of a run that is at work: pairs and encodings are complete."""


def goes_on(config: CompareConfig, facts: Mapping[str, Any]) -> bool:
    """Whether the folder is that of a run of the same options that was stopped.

    Raises:
        OutputError: it is not, and there is something in it.
    """
    assert config.out is not None  # validate() saw to it
    told = config.out / MARKER
    if told.is_file() and told.read_text(encoding="utf-8", errors="replace") == to_json(dict(facts)):
        return True
    check_json(config.json, config.overwrite, config.inputs)
    check_output(config.out, config.overwrite or barren(config.out), marker=MARKER, inputs=config.inputs)
    return False


def barren(out: Path) -> bool:
    """Whether a run left nothing in its folder that another could go on from: no pairs, and no line."""
    try:
        told = json.loads((out / MARKER).read_text(encoding="utf-8"))
        ours = "options" in told and "lines" not in told and {path.name for path in out.iterdir()} <= {MARKER, "work"}
    except (OSError, ValueError, TypeError, RecursionError):
        return False
    return ours and not (out / "work" / READY).exists() and not any((out / "work" / "lines").glob("*.json"))


def claim(out: Path, facts: Mapping[str, Any]) -> None:
    """Take the folder, in place of what `goes_on` has let go."""
    shutil.rmtree(out, ignore_errors=True)
    with atomic_file(out / MARKER) as partial:
        partial.write_text(to_json(dict(facts)), encoding="utf-8")
