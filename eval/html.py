"""The report as one HTML file that holds everything it needs and asks the network for nothing."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from contrastok.eval.charts import charts
from contrastok.eval.data import LABELS, ReportData, as_json
from contrastok.eval.neighbors import SPACES
from contrastok.eval.summary import headline, statements

TEMPLATE = "report.html.j2"


def render(data: ReportData) -> str:
    """The page as text.

    Every word of a glossary or corpus goes through Jinja's escaping, in JSON blocks through its `tojson`, which
    also escapes `<`. Should anything slip through, the page's content security policy runs only the scripts that
    carry the page's own nonce, and lets nothing reach the network.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"figure": figure, "count": count, "signed": signed, "share": share}
    specs = charts(data)
    nonce = hashlib.sha256(json.dumps(as_json(data), sort_keys=True, default=str).encode()).hexdigest()[:32]
    return environment.get_template(TEMPLATE).render(
        data=data,
        charts=specs,
        spaces=SPACES,
        labels=LABELS,
        headline=headline(data),
        statements=statements(data),
        places={token.token: place for place, token in enumerate(data.per_token)},
        vega=_vega() if specs else "",
        nonce=nonce,
    )


def _vega() -> Markup:
    """Vega, Vega-Lite and Vega-Embed as one script, safe inside a script element."""
    bundle = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # the stub forgets the argument's default
    return Markup(bundle.replace("</script", r"<\/script"))


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


def signed(value: float) -> str:
    """A number with its sign and one decimal."""
    return f"{round(value, 1) + 0.0:+.1f}"
