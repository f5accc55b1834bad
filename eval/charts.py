"""The charts of the page as Vega-Lite specifications.

Colours are CSS variables of the page: the charts are drawn as SVG, so they follow its dark mode by themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import altair as alt

from contrastok.curve import curve_window, moving_mean
from contrastok.eval.data import LABELS, MapPoint, ReportData, TokenReport
from contrastok.visible import short, visible

MAP_SPACE = "encoded"
"""The space whose neighbours the map shows."""
HEIGHT = 540
"""Of the map, in pixels."""
LABELLED_WORDS = 40
"""Vocabulary words written out on the map: those that most tokens have for a neighbour."""
WIDTHS = (320, 640, 1000)
"""Of the map, in pixels: which words are written out is decided for each, so that none covers another."""
LABEL = 24
"""Characters of a word that the map writes out."""
LETTER = 3.4
"""Half the width of one, in pixels, as it is in most words."""
WIDE_LETTER = 4.4
"""The same for words of wide letters: none shall be cut by the edge."""
CURVE_POINTS = 400
"""Steps of the training curve that are drawn, and means."""

ANGLE = "atan2(scale('x', datum.x) - scale('x', datum.x0), scale('y', datum.y0) - scale('y', datum.y)) * 180 / PI"
"""Of an arrow's head, clockwise from upwards, in pixels: the map is as wide as the window."""

INSIDE = (
    f"scale('x', datum.x) < 0 || scale('x', datum.x) > width ? 0 : max(0, {WIDE_LETTER} * length(datum.label) - "
    f"scale('x', datum.x)) - max(0, scale('x', datum.x) + {WIDE_LETTER} * length(datum.label) - width)"
)
"""How far a label has to go sideways so that the edge of the map does not cut it."""

PLAIN: dict[str, Any] = {"axis": None, "scale": alt.Scale(zero=False, nice=False, padding=24)}
"""A coordinate of the map: its values mean nothing, so it shows no axis."""

Spec = dict[str, Any]
Row = dict[str, Any]


def charts(data: ReportData) -> dict[str, Spec]:
    """Every chart the data allows, by name: "map", "reliability", and of training "loss" and "accuracy"."""
    found: dict[str, Spec] = {}
    if data.points:
        found["map"] = map_chart(data.points, data.per_token)
    if data.relearned is not None:
        found["reliability"] = reliability_chart(data.relearned.reliability)
    curve, steps = data.training.get("curve") or [], curve_window(data.training)
    found |= {
        name: curve_chart(curve, name, title, steps)
        for name, title in (("loss", "loss"), ("accuracy", "retrieval accuracy in the batch"))
        if any(name in row for row in curve)
    }
    return found


def map_chart(points: Sequence[MapPoint], tokens: Sequence[TokenReport]) -> Spec:
    """Vocabulary words in grey; each new token as an arrow from its initial place to a mark coloured by verdict."""
    words, moves = _map_rows(points, {t.token: t for t in tokens})
    here, start = (
        {c: alt.Y(f"{c}{suffix}:Q", **PLAIN) if c == "y" else alt.X(f"{c}{suffix}:Q", **PLAIN) for c in "xy"}
        for suffix in ("", "0")
    )
    middle = {"x": alt.X("xm:Q", **PLAIN), "y": alt.Y("ym:Q", **PLAIN)}
    order = LABELS[::-1]
    colours = alt.Scale(domain=order, range=[f"var(--{label})" for label in order])
    shapes = alt.Scale(domain=order, range=["circle", "diamond", "triangle-up"])
    colour = alt.Color("verdict:N", title=None, scale=colours, legend=alt.Legend(orient="top-left"))
    told = [("name", "token"), *((name, name) for name in ("verdict", "before", "after"))]
    tip = [alt.Tooltip(f"{name}:N", title=title) for name, title in told]
    grey = alt.Chart(alt.Data(values=words)).encode(**here, tooltip=alt.Tooltip("word:N"))
    new = alt.Chart(alt.Data(values=moves))
    fits = alt.expr("width >= datum.wide ? 1 : 0")
    inside = alt.expr(INSIDE)
    names = new.mark_text(fontSize=11.5, fontWeight=600, dx=inside, dy=-11, color="var(--text)", opacity=fits)
    common = grey.mark_text(fontSize=10, dx=inside, dy=-8, color="var(--muted)", opacity=fits).encode(text="label:N")
    zoom = alt.selection_interval(bind="scales", zoom="wheel![event.ctrlKey || event.shiftKey]")
    return _spec(
        alt.layer(
            grey.mark_circle(size=26, color="var(--faint)", opacity=0.55),
            *_if_labelled(words, common),
            new.mark_rule(opacity=0.45, strokeDash=[3, 3]).encode(**start, x2="x:Q", y2="y:Q", color=colour),
            new.transform_filter("datum.xm !== null")
            .mark_point(shape="triangle", filled=True, size=45, opacity=0.7, angle=alt.expr(ANGLE))
            .encode(**middle, color=colour),
            new.mark_point(size=22, strokeWidth=1.2).encode(**start, color=colour, tooltip=tip),
            new.mark_point(size=85, filled=True, opacity=0.95, cursor="pointer")
            .encode(**here, color=colour, shape=alt.Shape("verdict:N", title=None, scale=shapes), tooltip=tip)
            .add_params(zoom),
            *_if_labelled(moves, names.encode(**here, text="label:N")),
        ).properties(height=HEIGHT)
    )


def _if_labelled(rows: Iterable[Row], layer: Any) -> list[Any]:
    """A layer of the rows with a label; none where no label found room, for Vega warns of a layer without rows."""
    return [layer.transform_filter("datum.label != ''")] if any(row["label"] for row in rows) else []


def reliability_chart(parts: Sequence[Mapping[str, float]]) -> Spec:
    """Mean confidence of known words against the share of them that landed; on the diagonal the two are the same."""
    rows = [dict(part) for part in parts]
    axis = _axis(format="%")
    whole = alt.Scale(domain=[0, 1])
    x = alt.X("confidence:Q", title="confidence", axis=axis, scale=whole)
    y = alt.Y("landed:Q", title="share that landed", axis=axis, scale=whole)
    tip = [alt.Tooltip(f"{name}:Q", format=".0%") for name in ("confidence", "landed")]
    diagonal = alt.Chart(alt.Data(values=[{"confidence": at, "landed": at} for at in (0, 1)]))
    found = alt.Chart(alt.Data(values=rows)).encode(x=x, y=y)
    return _spec(
        alt.layer(
            diagonal.mark_line(color="var(--faint)", strokeDash=[3, 3]).encode(x=x, y=y),
            found.mark_line(color="var(--accent)", strokeWidth=1.6),
            found.mark_point(color="var(--accent)", filled=True, size=60, opacity=1).encode(
                tooltip=[*tip, alt.Tooltip("words:Q")]
            ),
        ).properties(height=240)
    )


def curve_chart(curve: Sequence[Mapping[str, Any]], name: str, title: str, steps: int) -> Spec:
    """One figure of training: every step as a faint point, and the mean of so many steps as a line; 0 for no line."""
    points = [(row["step"], row[name]) for row in curve if row.get(name) is not None]
    x, y = (
        alt.X("step:Q", axis=_axis()),
        alt.Y("value:Q", title=title, axis=_axis(), scale=alt.Scale(zero=name == "accuracy")),
    )
    single, mean = (alt.Chart(alt.Data(values=_thinned(values))) for values in (points, moving_mean(points, steps)))
    layers = [single.mark_circle(color="var(--faint)", size=14, opacity=0.6).encode(x=x, y=y)]
    if steps:
        layers.append(mean.mark_line(color="var(--accent)", strokeWidth=1.6).encode(x=x, y=y))
    return _spec(alt.layer(*layers).properties(height=170))


def _thinned(points: Sequence[tuple[float, float]]) -> list[Row]:
    """As many as can be seen beside one another."""
    return [{"step": step, "value": value} for step, value in points[:: max(1, len(points) // CURVE_POINTS)]]


def _axis(**options: Any) -> alt.Axis:
    return alt.Axis(
        grid=True,
        gridColor="var(--line)",
        domainColor="var(--line)",
        tickColor="var(--line)",
        labelColor="var(--muted)",
        titleColor="var(--muted)",
        titleFontWeight="normal",
        **options,
    )


def _spec(chart: Any) -> Spec:
    styled = (
        chart.properties(width="container", background="transparent")
        .configure(font="inherit")
        .configure_view(stroke=None)
        .configure_legend(labelColor="var(--text)", labelFontSize=12)
    )
    spec: Spec = styled.to_dict()
    spec.pop("$schema", None)  # an address, and the page shall hold none; the mode is given where it is embedded
    return spec


def _map_rows(points: Sequence[MapPoint], tokens: Mapping[str, TokenReport]) -> tuple[list[Row], list[Row]]:
    """Rows of the two data sets: vocabulary words, and new tokens with both of their places."""
    start = {p.word: p for p in points if p.when == "before"}
    ends = [p for p in points if p.when == "after" and p.word in tokens]
    common = Counter(n.word for t in tokens.values() for n in t.neighborhood(MAP_SPACE).after)
    vocabulary = sorted((p for p in points if p.when == "vocabulary"), key=lambda p: -common[p.word])
    readable = _without_overlap([*ends, *vocabulary[:LABELLED_WORDS]], points)
    words = [{"word": visible(p.word), "x": p.x, "y": p.y, **_label(p, readable)} for p in vocabulary]
    moves = [
        {
            "token": p.word,
            "name": visible(p.word),
            "x": p.x,
            "y": p.y,
            "x0": start.get(p.word, p).x,  # without an initial place it stands where it is
            "y0": start.get(p.word, p).y,
            "verdict": tokens[p.word].verdict,
            **_middle(start.get(p.word, p), p),
            **_label(p, readable),
            **{when: _list(getattr(tokens[p.word].neighborhood(MAP_SPACE), when)) for when in ("before", "after")},
        }
        for p in ends
    ]
    return words, moves


def _list(neighbors: Iterable[Any]) -> str:
    return ", ".join(visible(n.word) for n in list(neighbors)[:6])


def _label(point: MapPoint, readable: Mapping[MapPoint, int]) -> Row:
    """The word, shortened, if it can be read anywhere, and the width of the map from which on."""
    return {"label": short(point.word, LABEL) if point in readable else "", "wide": readable.get(point, 0)}


def _middle(start: MapPoint, end: MapPoint) -> Row:
    """Where an arrow's head stands: past the middle of its way, for the end is covered by the token's mark."""
    if (start.x, start.y) == (end.x, end.y):
        return {"xm": None, "ym": None}
    return {"xm": 0.4 * start.x + 0.6 * end.x, "ym": 0.4 * start.y + 0.6 * end.y}


def _without_overlap(wanted: Sequence[MapPoint], points: Sequence[MapPoint]) -> dict[MapPoint, int]:
    """The least of `WIDTHS` at which a point's label covers no other, first come first served."""
    xs, ys = [p.x for p in points], [p.y for p in points]
    span_x, span_y = (max(xs) - min(xs)) or 1, (max(ys) - min(ys)) or 1
    left, labels = min(xs), {p: len(short(p.word, LABEL)) for p in wanted}
    kept: dict[MapPoint, int] = {}
    for width in WIDTHS:
        at = {}
        for p, letters in labels.items():
            edge = WIDE_LETTER * letters  # as `INSIDE` keeps away from it
            x = min(max((p.x - left) * width / span_x, edge), width - edge)
            at[p] = (x, p.y * HEIGHT / span_y, LETTER * letters + 3)
        for p, (x, y, half) in at.items():
            others = (at[other] for other in kept if other != p)
            if p not in kept and all(abs(x - ox) > half + oh or abs(y - oy) > 14 for ox, oy, oh in others):
                kept[p] = width
    return kept
