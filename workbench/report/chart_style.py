"""How every chart of a run looks, light for the report and dark for the app, and how figures become its points."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import altair
import pandas as pd

from workbench.report.figures import Figure

LIGHT: Final = ("#0072b2", "#6b7280", "#d55e00")
DARK: Final = ("#56b4e9", "#aab2bd", "#f0903c")
"""Error, referred, silent failure: Okabe, Ito 2008; shapes repeat what the colours say."""
SHAPES: Final = ("circle", "square", "diamond")
FONT: Final = "Arial, Helvetica, 'Liberation Sans', sans-serif"
"""One whose widths are the same where the chart is laid out and where it is read."""

TOOLTIP: Final = [
    altair.Tooltip("condition:N"),
    altair.Tooltip("rate:N"),
    altair.Tooltip("value:Q", format=".1f"),
    altair.Tooltip("low:Q", format=".1f"),
    altair.Tooltip("high:Q", format=".1f"),
    altair.Tooltip("n:Q"),
]


def percents(figure: Figure) -> dict[str, Any]:
    """Return a share with its interval in percent, as a point of a chart."""
    values = {name: times(getattr(figure, name), 100.0) for name in ("value", "low", "high")}
    return {**values, "n": figure.n}


def times(value: float | None, unit: float) -> float | None:
    """Return a value in another unit, or None."""
    return None if value is None else unit * value


def table(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Return the rows that have a value: nothing is drawn for what was not measured."""
    data = pd.DataFrame(list(rows))
    return data[data["value"].notna()].reset_index(drop=True) if len(data) else data


def colours(dark: bool) -> list[str]:
    """Return the three colours of a theme; the second is the quiet one."""
    return list(DARK if dark else LIGHT)


def told_apart(words: Sequence[str], dark: bool) -> dict[str, Any]:
    """Return how up to three lines of a chart are told apart, by colour and by shape."""
    order = (0, 2, 1)
    shades, shapes = [colours(dark)[place] for place in order], [SHAPES[place] for place in order]
    legend = altair.Legend(symbolOpacity=1, labelLimit=320)
    scales = [altair.Scale(domain=list(words), range=of[: len(words)]) for of in (shades, shapes)]
    return {
        "color": altair.Color("rate:N", sort=list(words), scale=scales[0], title=None, legend=legend),
        "shape": altair.Shape("rate:N", sort=list(words), scale=scales[1], title=None),
    }


def ladder(data: pd.DataFrame, x: altair.X, y_title: str | None, of_rate: dict[str, Any]) -> altair.LayerChart:
    """Return shares in percent along a strength: lines with their points, and the bands of their intervals."""
    scale = altair.Scale(domain=[0, 100])
    y = altair.Y("value:Q", title=y_title, scale=scale)
    base = altair.Chart(data).encode(x=x, color=of_rate["color"], tooltip=TOOLTIP)
    band = base.mark_area(opacity=0.16).encode(y=altair.Y("low:Q", title=y_title, scale=scale), y2="high:Q")
    line = base.mark_line(strokeWidth=2).encode(y=y)
    points = base.mark_point(filled=True, size=42, opacity=1).encode(y=y, shape=of_rate["shape"])
    return altair.layer(band, line, points)


def rule(value: float, dark: bool) -> altair.Chart:
    """Return a dashed line across a chart at one value."""
    drawn = altair.Chart(pd.DataFrame({"budget": [value]})).mark_rule(strokeDash=[5, 4], color=colours(dark)[1])
    return drawn.encode(x="budget:Q")


def styled(chart: Any, dark: bool) -> Any:
    """Return the chart in the colours and the type of its theme."""
    ink, quiet, line = ("#e8eaed", "#aab2bd", "#2c333d") if dark else ("#1f2933", "#52606d", "#e3e8ee")
    return (
        chart.configure(background="transparent", font=FONT, padding=4)
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=quiet,
            titleColor=quiet,
            titleFontWeight="normal",
            gridColor=line,
            domainColor=line,
            tickColor=line,
            labelFontSize=11,
            titleFontSize=11,
        )
        .configure_title(color=ink, fontSize=12, anchor="start", fontWeight=600)
        .configure_legend(labelColor=ink, orient="top", labelFontSize=12, symbolSize=70, columnPadding=18)
    )
