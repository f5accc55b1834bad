"""The command `doctor`: the checks, one after the other, as a checklist."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.markup import escape
from rich.table import Table

from contrastok.console import Console, emit_json
from contrastok.doctor.case import Case
from contrastok.doctor.finding import CHECKS, Finding
from contrastok.errors import ContrastokError
from contrastok.files import check_json
from contrastok.guidance_config import DoctorConfig

STYLES = {"ok": "green", "warning": "yellow", "problem": "red"}


class Problems(ContrastokError):
    """What `doctor` found would stop training or make it vain."""


def doctor(config: DoctorConfig) -> dict[str, Any]:
    """Check model, tokenizer, terms and text before training, and print what to do about what was found.

    Args:
        config: the options. Nothing is written but the JSON; with `dry_run` the checks are only listed.

    Returns:
        What `--json` writes: "problems" and "warnings" (how many), and "findings" with check, state, detail and advice.

    Raises:
        Problems: there is a problem; the checklist was printed and the JSON written before.
        ContrastokError: the options themselves are wrong.
    """
    config.validate()
    check_json(config.json, config.overwrite, config.inputs)
    console = Console(config.quiet)
    if config.dry_run:
        console.print(f"Would check: {', '.join(CHECKS)}")
        emit_json(plan := {"dry_run": True, "checks": list(CHECKS)}, config.json)
        return plan
    findings = list(console.track(examine(Case(config, console)), "Checking"))
    states = Counter(finding.state for finding in findings)
    console.print(checklist(findings))
    console.print(f"Problems: {states['problem']}, warnings: {states['warning']}.")
    found = [asdict(finding) for finding in findings]
    summary = {"problems": states["problem"], "warnings": states["warning"], "findings": found}
    emit_json(summary, config.json)
    if states["problem"]:
        names = ", ".join(dict.fromkeys(finding.check for finding in findings if finding.state == "problem"))
        raise Problems(f"problems were found: {names}", hint="mend them before you train; the checklist says how")
    return summary


def examine(case: Case) -> Iterator[Finding]:
    """Run every check. An error that several of them meet (the model cannot be loaded, say) is told once."""
    told: set[str] = set()
    for name, check in CHECKS.items():
        try:
            yield from check(case)
        except ContrastokError as error:
            if str(error) not in told:
                told.add(str(error))
                place = f"{error.where}: " if error.where is not None else ""
                yield Finding(name, "problem", place + error.what, error.hint)


def checklist(findings: Sequence[Finding]) -> Table:
    """One line a finding, with what to do below what was found."""
    table = Table(title="Before training", title_justify="left", box=None, pad_edge=False)
    table.add_column("check", no_wrap=True)
    table.add_column("")
    table.add_column("found, and what to do", overflow="fold")
    for finding in findings:
        style = STYLES[finding.state]
        advice = f"\n[{style}]->[/] {escape(finding.advice)}" if finding.advice else ""
        state = f"[{style}]{finding.state}[/]"
        table.add_row(escape(finding.check), state, escape(finding.detail) + advice)
    return table
