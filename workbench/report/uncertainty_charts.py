"""The plots of what the model's uncertainty is worth: reliability, referral curves, net benefit."""

from __future__ import annotations

from typing import Any, Final

import altair
import pandas as pd

from workbench.report.chart_style import TOOLTIP, colours, styled, table, times
from workbench.report.figures import Figure, Figures
from workbench.schema.words import CALIBRATION_NAMES

CURVES: Final = (
    ("error_rate_at_retained", "error rate, %", 100.0),
    ("auc_at_retained", "AUC (exam)", 1.0),
    ("sensitivity_at_retained", "sensitivity, %", 100.0),
    ("specificity_at_retained", "specificity, %", 100.0),
)
BASELINES: Final = (("random", [5, 4]), ("oracle", [1, 3]))


def reliability_points(figures: Figures, calibration: str) -> pd.DataFrame:
    """Return bins of equal mass on the clean eyes: mean P(referable) against the observed share, in percent."""
    points = figures.along("reliability_observed", of=calibration)
    rows = [
        {"mean_p": 100 * (one.at or 0.0), "value": times(one.value, 100.0), "n": one.n}
        | {"low": times(one.low, 100.0), "high": times(one.high, 100.0)}
        for one in points
    ]
    return pd.DataFrame(rows, columns=["mean_p", "value", "low", "high", "n"])


def reliability_chart(figures: Figures, *, dark: bool = False) -> altair.HConcatChart:
    """Return the reliability diagram as the model answers, beside it under the policy's calibration, if fitted."""
    points = {kind: reliability_points(figures, kind) for kind in ("none", figures.run.manifest.policy.calibration)}
    shown = {kind: found for kind, found in points.items() if kind == "none" or len(found)}
    panels = [_reliability_panel(found, CALIBRATION_NAMES[kind], dark) for kind, found in shown.items()]
    return styled(altair.hconcat(*panels, spacing=28), dark)


def _reliability_panel(data: pd.DataFrame, title: str, dark: bool) -> altair.LayerChart:
    scale = altair.Scale(domain=[0, 100])
    diagonal = (
        altair.Chart(pd.DataFrame({"p": [0, 100]}))
        .mark_line(strokeDash=[5, 4], strokeWidth=1.2, color=colours(dark)[1])
        .encode(x=altair.X("p:Q", scale=scale), y=altair.Y("p:Q", scale=scale))
    )
    base = altair.Chart(data).encode(
        x=altair.X("mean_p:Q", title="mean predicted P(referable), %", scale=scale), tooltip=TOOLTIP[-4:]
    )
    known = base.transform_filter("isValid(datum.low)")
    bars = known.mark_rule(strokeWidth=1.6, opacity=0.7, color=colours(dark)[0]).encode(
        y=altair.Y("low:Q", title="observed referable eyes, %", scale=scale), y2="high:Q"
    )
    points = base.mark_point(filled=True, opacity=1, size=55, color=colours(dark)[0]).encode(y="value:Q")
    return altair.layer(diagonal, bars, points).properties(width=270, height=230, title=title)


def referral_chart(figures: Figures, *, dark: bool = False) -> altair.VConcatChart:
    """Return error, AUC, sensitivity and specificity of what the model keeps, against the share that it keeps.

    Dashed: referring at random. Dotted: referring every wrong exam first.
    """
    panels = [_referral_panel(figures, name, title, unit, dark) for name, title, unit in CURVES]
    rows = [altair.hconcat(*panels[first : first + 2], spacing=28) for first in (0, 2)]
    return styled(altair.vconcat(*rows, spacing=18), dark)


def _referral_panel(figures: Figures, name: str, title: str, unit: float, dark: bool) -> altair.LayerChart:
    data = _retained(figures.along(name), unit)
    title = f"{title}, of retained exams"
    bounds = [value for column in ("value", "low", "high") for value in data[column].dropna()]
    domain = [0.0, max([20.0, *bounds])] if name.startswith("error") else [min([unit / 2, *bounds]), unit]
    scale = altair.Scale(domain=domain, clamp=True)
    x = altair.X("retained:Q", title="retained by the model, %", scale=altair.Scale(domain=[0, 100], reverse=True))
    base = altair.Chart(data).encode(x=x, tooltip=TOOLTIP[-4:])
    colour = colours(dark)[0]
    band = base.transform_filter("isValid(datum.low)").mark_area(opacity=0.16, color=colour)
    layers = [
        band.encode(y=altair.Y("low:Q", title=title, scale=scale), y2="high:Q"),
        base.mark_line(strokeWidth=2, color=colour).encode(y=altair.Y("value:Q", scale=scale)),
        base.mark_point(filled=True, size=38, opacity=1, color=colour).encode(y="value:Q"),
    ]
    for baseline, dash in BASELINES:
        line = altair.Chart(_retained(figures.along(name, of=baseline), unit)).mark_line(
            strokeDash=dash, strokeWidth=1.4, color=colours(dark)[1]
        )
        layers.append(line.encode(x=x, y=altair.Y("value:Q", scale=scale)))
    return altair.layer(*layers).properties(width=270, height=190)


def _retained(points: list[Figure], unit: float) -> pd.DataFrame:
    rows: list[dict[str, Any]] = [
        {"retained": 100 * (one.at or 0.0), "value": times(one.value, unit), "n": one.n}
        | {"low": times(one.low, unit), "high": times(one.high, unit)}
        for one in points
        if one.value is not None
    ]
    return pd.DataFrame(rows, columns=["retained", "value", "low", "high", "n"])


def net_benefit_chart(figures: Figures, *, dark: bool = False) -> altair.LayerChart:
    """Return the decision curve: net benefit of acting on the model, on everybody and on nobody."""
    lines = (("act on the model", None), ("act on everybody", "everybody"))
    data = table(
        {"who": who, "threshold": 100 * (one.at or 0.0), "value": one.value, "low": one.low, "high": one.high}
        for who, of in lines
        for one in figures.along("net_benefit", of=of)
    )
    names = [who for who, _ in lines]
    colour = altair.Color(
        "who:N",
        scale=altair.Scale(domain=names, range=colours(dark)[:2]),
        title=None,
        legend=altair.Legend(symbolOpacity=1),
    )
    highest = max(0.05, *data["high"].dropna(), *data["value"]) if len(data) else 1.0
    scale = altair.Scale(domain=[-0.05, highest], clamp=True)
    base = altair.Chart(data).encode(
        x=altair.X("threshold:Q", title="P(referable) from which one would act, %"),
        color=colour,
    )
    band = base.transform_filter(f"isValid(datum.low) && datum.who == '{names[0]}'").mark_area(opacity=0.16)
    nobody = altair.Chart(pd.DataFrame({"value": [0.0]})).mark_rule(strokeDash=[5, 4], color=colours(dark)[1])
    layers = [
        nobody.encode(y=altair.Y("value:Q", scale=scale)),
        band.encode(y=altair.Y("low:Q", title="net benefit per exam", scale=scale), y2="high:Q"),
        base.mark_line(strokeWidth=2).encode(y=altair.Y("value:Q", scale=scale)),
    ]
    return styled(altair.layer(*layers).properties(width=300, height=230), dark)
