"""A report as one HTML file that holds everything it needs and asks the network for nothing."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from contrastok.curve import curve_window
from contrastok.eval import two_runs
from contrastok.eval.charts import Spec, charts
from contrastok.eval.data import LABELS, ReportData
from contrastok.eval.neighbors import SPACES
from contrastok.eval.reproduce import commands_again
from contrastok.eval.rows import token_rows
from contrastok.eval.summary import headline, sections
from contrastok.eval.two_runs import TwoRuns
from contrastok.eval.two_runs_rows import pair_rows
from contrastok.visible import short

HERE = Path(__file__).parent


def render(data: ReportData) -> str:
    """The page of one run as text."""
    return page(
        "report",
        token_rows(data),
        charts(data),
        data=dataclasses.replace(data, per_token=()),  # the script draws them, from their rows
        spaces=SPACES,
        labels=LABELS,
        headline=headline(data),
        sections=sections(data),
        command=commands_again(data.training),
        averaged=curve_window(data.training),
        glossary_names=max((r.glossary.of for t in data.per_token for r in t.relations if r.glossary), default=0),
        places={token.token: place for place, token in enumerate(data.per_token)},
    )


def render_two(runs: TwoRuns) -> str:
    """The page of two runs as text."""
    both = {"First run": runs.first, "Second run": runs.second}
    return page(
        "two_runs",
        pair_rows(runs),
        {},
        models=[run.model for run in both.values()],
        headline=two_runs.headline(runs),
        sections=two_runs.sections(runs),
        verdicts=two_runs.verdict_table(runs),
        changes={change: runs.count(change) for change in two_runs.CHANGES},
        commands={name: commands_again(run.training) for name, run in both.items()},
    )


def page(name: str, rows: Sequence[Mapping[str, Any]], specs: Mapping[str, Spec], **told: Any) -> str:
    """The template NAME.html.j2 with the script NAME.js.

    Every word of a glossary or corpus goes through Jinja's escaping, in JSON blocks through its `tojson`, which
    also escapes `<`; the scripts put them into the document as text. Should anything slip through, the page's
    content security policy runs only the scripts that carry the page's own nonce, and lets nothing reach the network.

    Args:
        name: of template and script.
        rows: of the table; each has "token" and "kind".
        specs: the charts by name, as Vega-Lite specifications.
        told: what else the template shows.
    """
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"figure": figure, "count": count, "share": share, "short": short}
    block = htmlsafe_json_dumps(rows, ensure_ascii=False, separators=(",", ":"))
    return environment.get_template(f"{name}.html.j2").render(
        rows=block,
        charts=specs,
        style=_inside((HERE / "page.css").read_text(encoding="utf-8")),
        script=_inside("".join((HERE / file).read_text(encoding="utf-8") for file in ("page.js", f"{name}.js"))),
        vega=_vega() if specs else "",
        nonce=hashlib.sha256(f"{block}{told}".encode(errors="replace")).hexdigest()[:32],
        **told,
    )


@cache
def _vega() -> Markup:
    """Vega, Vega-Lite and Vega-Embed as one script."""
    return _inside(vl_convert.javascript_bundle())  # type: ignore[call-arg]  # the stub forgets the argument's default


def _inside(source: str) -> Markup:
    """A script or style of ours or of a library, as it can stand inside its element."""
    return Markup(source.replace("</script", r"<\/script"))


def figure(value: float | None, digits: int = 3) -> str:
    """A number with a fixed number of decimals, a bound when it would show as zero, or a dash."""
    if value is None:
        return "–"
    least = 10.0**-digits
    return f"<{least:.{digits}f}" if 0 < value < least / 2 else f"{value:.{digits}f}"


def count(value: float | None) -> str:
    """A whole number with separators (a median may end in .5), or a dash."""
    return "–" if value is None else f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def share(value: float | None) -> str:
    """A share as whole per cent, or a dash."""
    return "–" if value is None else f"{value:.0%}"
