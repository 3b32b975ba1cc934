"""How every chart of a run looks, light for the report and dark for the app, and how figures become its points."""

from __future__ import annotations

from collections.abc import Iterable
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
        .configure_legend(labelColor=ink, orient="top", labelFontSize=12, symbolSize=70)
    )
