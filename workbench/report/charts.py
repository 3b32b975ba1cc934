"""The plots of a run, drawn once for the report (light) and for the app (dark)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal

import altair
import numpy as np
import pandas as pd

from workbench.audit.layout import CLEAN
from workbench.audit.results import Run
from workbench.metrics.bootstrap import clustered_interval
from workbench.metrics.calibration import equal_mass_bins
from workbench.metrics.referral import mean
from workbench.report.figures import Figure, Figures
from workbench.report.headline import RATES, condition_words, kind_of
from workbench.report.performance import judged_eyes
from workbench.schema.grades import REFERABLE_GRADE
from workbench.schema.seeds import seed_for
from workbench.schema.words import stress_name

RATE_WORDS: Final = {"error_rate": "Error", "referral_rate": "Referred", "silent_failure_rate": "Silent failure"}
LIGHT: Final = ("#0072b2", "#6b7280", "#d55e00")
DARK: Final = ("#56b4e9", "#aab2bd", "#f0903c")
"""Error, referred, silent failure: Okabe, Ito 2008; shapes repeat what the colours say."""
SHAPES: Final = ("circle", "square", "diamond")
BINS: Final = 10
FONT: Final = "Arial, Helvetica, 'Liberation Sans', sans-serif"
"""One whose widths are the same where the chart is laid out and where it is read."""


def three_rates_chart(run: Run, *, dark: bool = False) -> altair.LayerChart:
    """Return the three rates under every condition, each with its 95 % interval."""
    figures = Figures(run)
    drawn = [one for one in run.manifest.measurements if one.kind == "draws"]
    words = {one.id: condition_words(one) for one in drawn}
    data = _table(
        {"condition": words[one.id], "rate": RATE_WORDS[name], **_percents(figures.get(name, one.id))}
        for one in drawn
        for name in RATES
    )
    rates = list(RATE_WORDS.values())
    colour = altair.Color("rate:N", sort=rates, scale=altair.Scale(domain=rates, range=_colours(dark)), title=None)
    base = altair.Chart(data).encode(
        y=altair.Y("condition:N", sort=list(words.values()), title=None, axis=altair.Axis(grid=True, labelLimit=260)),
        yOffset=altair.YOffset("rate:N", sort=rates),
        color=colour,
        tooltip=_TOOLTIP,
    )
    scale = altair.Scale(domain=[0, 100])
    bars = base.mark_rule(strokeWidth=1.6, opacity=0.75).encode(
        x=altair.X("low:Q", title="share of exams, %", scale=scale), x2="high:Q"
    )
    shape = altair.Shape("rate:N", sort=rates, scale=altair.Scale(domain=rates, range=list(SHAPES)), title=None)
    points = base.mark_point(filled=True, size=48, opacity=1).encode(x=altair.X("value:Q"), shape=shape)
    budget = _rule(100 * run.manifest.policy.referral_budget, dark)
    return _styled(altair.layer(budget, bars, points).properties(width=560, height=altair.Step(11)), dark)


def stress_chart(run: Run, *, dark: bool = False) -> altair.VConcatChart:
    """Return error and silent failure against strength, attacks above corruptions."""
    kinds: tuple[Literal["attack", "corruption"], ...] = ("attack", "corruption")
    rows = [_strength_panels(run, kind, dark) for kind in kinds if has_stress(run, kind)]
    return _styled(altair.vconcat(*rows), dark)


def strength_chart(run: Run, kind: Literal["attack", "corruption"], *, dark: bool = False) -> altair.HConcatChart:
    """Return error and silent failure against epsilon (attacks) or severity (corruptions), one panel per stress.

    Strength 0 is the same exams clean.
    """
    return _styled(_strength_panels(run, kind, dark), dark)


def has_stress(run: Run, kind: Literal["attack", "corruption"]) -> bool:
    """Return whether the run has any such stress."""
    return any(one.kind == "draws" and kind_of(one) == kind for one in run.manifest.measurements)


def _strength_panels(run: Run, kind: Literal["attack", "corruption"], dark: bool) -> altair.HConcatChart:
    data = _strengths(run, kind)
    names = list(dict.fromkeys(data["stress"])) if len(data) else []
    unit = "ε, in 1/255" if kind == "attack" else "severity, 0 is clean"
    rates = [RATE_WORDS["error_rate"], RATE_WORDS["silent_failure_rate"]]
    colours = [_colours(dark)[0], _colours(dark)[2]]
    legend = altair.Legend(symbolOpacity=1)
    colour = altair.Color("rate:N", scale=altair.Scale(domain=rates, range=colours), title=None, legend=legend)
    shape = altair.Shape("rate:N", scale=altair.Scale(domain=rates, range=[SHAPES[0], SHAPES[2]]), title=None)
    panels = []
    width = min(max(780 // max(len(names), 1) - 32, 110), 220)
    for place, name in enumerate(names):
        of_stress = data[data["stress"] == name]
        ticks = sorted(of_stress["strength"].unique())
        title, scale = "share of exams, %" if place == 0 else None, altair.Scale(domain=[0, 100])
        y = altair.Y("value:Q", title=title, scale=scale)
        base = altair.Chart(of_stress).encode(
            x=altair.X("strength:Q", title=unit, axis=altair.Axis(values=ticks, format="~g", grid=False)),
            color=colour,
            tooltip=_TOOLTIP,
        )
        band = base.mark_area(opacity=0.16).encode(y=altair.Y("low:Q", title=title, scale=scale), y2="high:Q")
        line = base.mark_line(strokeWidth=2).encode(y=y)
        points = base.mark_point(filled=True, size=42, opacity=1).encode(y=y, shape=shape)
        panels.append(altair.layer(band, line, points).properties(title=name, width=width, height=150))
    return altair.hconcat(*panels, spacing=14)


def _strengths(run: Run, kind: Literal["attack", "corruption"]) -> pd.DataFrame:
    figures, decisions = Figures(run), run.decisions()
    rows: list[dict[str, Any]] = []
    begun: set[str] = set()
    for one in run.manifest.measurements:
        if one.kind != "draws" or one.stress is None or kind_of(one) != kind:
            continue
        name = stress_name(one.stress.name) + ("" if one.stress.eyes == "both" else f", {one.stress.eyes} only")
        exams = decisions.loc[decisions["measurement"] == one.id, "exam_id"]
        for rate in ("error_rate", "silent_failure_rate"):
            shared = {"stress": name, "rate": RATE_WORDS[rate], "condition": name}
            if name not in begun:
                start = _clean_on(run, decisions, figures, rate, exams)
                rows.append({**shared, "strength": 0.0, **start})
            rows.append({**shared, "strength": one.stress.strength, **_percents(figures.get(rate, one.id))})
        begun.add(name)
    return _table(rows)


def _clean_on(run: Run, decisions: pd.DataFrame, figures: Figures, rate: str, exams: pd.Series) -> dict[str, Any]:
    """Return a clean rate on the exams that were stressed, which may be a sample of all."""
    clean = decisions[decisions["measurement"] == CLEAN]
    if len(exams) == len(clean):
        return _percents(figures.get(rate))
    column = {"error_rate": "wrong", "silent_failure_rate": "silent_failure"}[rate]
    known = clean[clean["exam_id"].isin(exams) & clean[column].notna()]
    found = clustered_interval(
        mean,
        known["patient_id"].to_numpy(dtype=str),
        known[column].to_numpy(dtype=bool),
        resamples=run.summary.resamples,
        seed=seed_for(run.manifest.seed, CLEAN, rate, "sample"),
    )
    return {"value": 100 * found.value, "low": 100 * found.low, "high": 100 * found.high, "n": found.n}


def reliability_table(run: Run) -> pd.DataFrame:
    """Return ten bins of equal mass on the clean eyes: mean P(referable) against the observed share, in percent.

    The interval of each observed share is clustered by patient.
    """
    eyes = judged_eyes(run)
    p = eyes["p_referable"].to_numpy(dtype=float)
    truth = (eyes["icdr_grade"] >= REFERABLE_GRADE).to_numpy(dtype=bool)
    patients = eyes["patient_id"].to_numpy(dtype=str)
    bins = equal_mass_bins(p, BINS)
    rows = []
    for number in np.unique(bins):
        inside = bins == number
        found = clustered_interval(
            mean,
            patients[inside],
            truth[inside],
            resamples=run.summary.resamples,
            seed=seed_for(run.manifest.seed, "reliability", int(number)),
        )
        row = {"mean_p": 100 * float(p[inside].mean()), "value": 100 * found.value, "n": found.n}
        rows.append(row | {"low": 100 * found.low, "high": 100 * found.high})
    return pd.DataFrame(rows, columns=["mean_p", "value", "low", "high", "n"])


def reliability_chart(run: Run, *, dark: bool = False) -> altair.LayerChart:
    """Return the reliability diagram of P(referable) on the clean eyes; the diagonal is perfect calibration."""
    data = reliability_table(run)
    scale = altair.Scale(domain=[0, 100])
    diagonal = (
        altair.Chart(pd.DataFrame({"p": [0, 100]}))
        .mark_line(strokeDash=[5, 4], strokeWidth=1.2, color=_colours(dark)[1])
        .encode(x=altair.X("p:Q", scale=scale), y=altair.Y("p:Q", scale=scale))
    )
    base = altair.Chart(data).encode(
        x=altair.X("mean_p:Q", title="mean predicted P(referable), %", scale=scale), tooltip=_TOOLTIP[-4:]
    )
    known = base.transform_filter("isValid(datum.low)")
    bars = known.mark_rule(strokeWidth=1.6, opacity=0.7, color=_colours(dark)[0]).encode(
        y=altair.Y("low:Q", title="observed referable eyes, %", scale=scale), y2="high:Q"
    )
    points = base.mark_point(filled=True, opacity=1, size=55, color=_colours(dark)[0]).encode(y="value:Q")
    return _styled(altair.layer(diagonal, bars, points).properties(width=300, height=260), dark)


def referral_chart(run: Run, *, dark: bool = False) -> altair.HConcatChart:
    """Return error rate and AUC of what the model keeps, against the retained share; dashed: referring at random."""
    figures = Figures(run)
    panels = [
        _referral_panel(figures.along("error_rate_at_retained"), "error rate of retained exams, %", 100.0, dark),
        _referral_panel(figures.along("auc_at_retained"), "AUC (exam) of retained exams", 1.0, dark),
    ]
    return _styled(altair.hconcat(*panels, spacing=28), dark)


def _referral_panel(points: list[Figure], title: str, unit: float, dark: bool) -> altair.LayerChart:
    rows: list[dict[str, Any]] = [
        {"retained": 100 * (one.at or 0.0), "value": unit * one.value, "n": one.n}
        | {"low": _times(one.low, unit), "high": _times(one.high, unit)}
        for one in points
        if one.value is not None
    ]
    data = pd.DataFrame(rows, columns=["retained", "value", "low", "high", "n"])
    x = altair.X("retained:Q", title="retained by the model, %", scale=altair.Scale(domain=[0, 100], reverse=True))
    bounds = [value for row in rows for value in (row["value"], row["low"], row["high"]) if value is not None]
    domain = [0.0, max([20.0, *bounds])] if unit == 100.0 else [min([0.5, *bounds]), 1.0]
    scale = altair.Scale(domain=domain)
    base = altair.Chart(data).encode(x=x, tooltip=_TOOLTIP[-4:])
    colour = _colours(dark)[0]
    band = base.transform_filter("isValid(datum.low)").mark_area(opacity=0.16, color=colour)
    layers = [
        band.encode(y=altair.Y("low:Q", title=title, scale=scale), y2="high:Q"),
        base.mark_line(strokeWidth=2, color=colour).encode(y=altair.Y("value:Q", scale=scale)),
        base.mark_point(filled=True, size=38, opacity=1, color=colour).encode(y="value:Q"),
    ]
    if rows:
        # Referring at random keeps an unbiased sample, so what is kept stays as good as all of it.
        everyone = max(rows, key=lambda row: row["retained"])
        random = pd.DataFrame({"retained": [0.0, 100.0], "value": [everyone["value"]] * 2})
        line = altair.Chart(random).mark_line(strokeDash=[5, 4], strokeWidth=1.4, color=_colours(dark)[1])
        layers.append(line.encode(x="retained:Q", y="value:Q"))
    return altair.layer(*layers).properties(width=270, height=220)


_TOOLTIP: Final = [
    altair.Tooltip("condition:N"),
    altair.Tooltip("rate:N"),
    altair.Tooltip("value:Q", format=".1f"),
    altair.Tooltip("low:Q", format=".1f"),
    altair.Tooltip("high:Q", format=".1f"),
    altair.Tooltip("n:Q"),
]


def _percents(figure: Figure) -> dict[str, Any]:
    values = {name: _times(getattr(figure, name), 100.0) for name in ("value", "low", "high")}
    return {**values, "n": figure.n}


def _times(value: float | None, unit: float) -> float | None:
    return None if value is None else unit * value


def _table(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Return the rows that have a value: nothing is drawn for what was not measured."""
    data = pd.DataFrame(list(rows))
    return data[data["value"].notna()].reset_index(drop=True) if len(data) else data


def _colours(dark: bool) -> list[str]:
    return list(DARK if dark else LIGHT)


def _rule(value: float, dark: bool) -> altair.Chart:
    rule = altair.Chart(pd.DataFrame({"budget": [value]})).mark_rule(strokeDash=[5, 4], color=_colours(dark)[1])
    return rule.encode(x="budget:Q")


def _styled(chart: Any, dark: bool) -> Any:
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
