"""Can the checkpoint be written where it shall go?"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from contrastok.checkpoint import MANIFEST
from contrastok.doctor.case import Case
from contrastok.doctor.finding import Finding, check
from contrastok.files import check_output


@check("output")
def writable(case: Case) -> Iterator[Finding]:
    """The place of the checkpoint: free, writable, and with room for it."""
    config = case.config
    if config.out is None:
        return
    check_output(config.out, config.overwrite, marker=MANIFEST, inputs=config.inputs)
    parent = config.out.resolve().parent
    while not parent.exists():
        parent = parent.parent
    weights = sum(tensor.numel() * tensor.element_size() for tensor in case.model.state_dict().values())
    free = shutil.disk_usage(parent).free
    detail = f"the checkpoint takes about {weights / 2**20:,.0f} MB, {free / 2**20:,.0f} MB are free"
    if free < weights:  # an old checkpoint is replaced only when the new one is complete
        yield Finding("output", "problem", detail, "free some space, or choose another --out")
    else:
        yield Finding("output", "ok", detail)
