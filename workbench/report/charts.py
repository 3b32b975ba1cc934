"""The plots of a run, drawn once for the report (light) and for the app (dark)."""

from __future__ import annotations

from typing import Any, Final, Literal

import altair
import pandas as pd

from workbench.audit.layout import CLEAN
from workbench.audit.results import Run
from workbench.metrics.bootstrap import clustered_interval
from workbench.metrics.referral import mean
from workbench.report.chart_style import SHAPES, TOOLTIP, colours, ladder, percents, rule, styled, table, told_apart
from workbench.report.figures import Figure, Figures
from workbench.report.headline import RATES, condition_words, kind_of
from workbench.schema.seeds import seed_for
from workbench.schema.words import stress_name, whose_words

ACROSS: Final = 5
"""Panels in a row."""
RATE_WORDS: Final = {"error_rate": "Error", "referral_rate": "Referred", "silent_failure_rate": "Silent failure"}


def three_rates_chart(figures: Figures, *, dark: bool = False) -> altair.LayerChart:
    """Return the three rates under every condition, each with its 95 % interval."""
    run = figures.run
    drawn = [one for one in run.manifest.measurements if one.kind == "draws"]
    words = {one.id: condition_words(one) for one in drawn}
    data = table(
        {"condition": words[one.id], "rate": RATE_WORDS[name], **percents(figures.get(name, one.id))}
        for one in drawn
        for name in RATES
    )
    rates = list(RATE_WORDS.values())
    colour = altair.Color("rate:N", sort=rates, scale=altair.Scale(domain=rates, range=colours(dark)), title=None)
    base = altair.Chart(data).encode(
        y=altair.Y("condition:N", sort=list(words.values()), title=None, axis=altair.Axis(grid=True, labelLimit=260)),
        yOffset=altair.YOffset("rate:N", sort=rates),
        color=colour,
        tooltip=TOOLTIP,
    )
    scale = altair.Scale(domain=[0, 100])
    bars = base.mark_rule(strokeWidth=1.6, opacity=0.75).encode(
        x=altair.X("low:Q", title="share of exams, %", scale=scale), x2="high:Q"
    )
    shape = altair.Shape("rate:N", sort=rates, scale=altair.Scale(domain=rates, range=list(SHAPES)), title=None)
    points = base.mark_point(filled=True, size=48, opacity=1).encode(x=altair.X("value:Q"), shape=shape)
    budget = rule(100 * run.manifest.policy.referral_budget, dark)
    return styled(altair.layer(budget, bars, points).properties(width=560, height=altair.Step(11)), dark)


def stress_chart(figures: Figures, *, dark: bool = False) -> altair.VConcatChart:
    """Return error and silent failure against strength, attacks above corruptions."""
    kinds: tuple[Literal["attack", "corruption"], ...] = ("attack", "corruption")
    rows = [_strength_panels(figures, kind, dark) for kind in kinds if has_stress(figures.run, kind)]
    return styled(altair.vconcat(*rows), dark)


def strength_chart(
    figures: Figures, kind: Literal["attack", "corruption"], *, dark: bool = False
) -> altair.ConcatChart:
    """Return error and silent failure against epsilon (attacks) or severity (corruptions), one panel per stress.

    Strength 0 is the same exams clean.
    """
    return styled(_strength_panels(figures, kind, dark), dark)


def has_stress(run: Run, kind: Literal["attack", "corruption"]) -> bool:
    """Return whether the run has any such stress."""
    return any(one.kind == "draws" and kind_of(one) == kind for one in run.manifest.measurements)


def _strength_panels(figures: Figures, kind: Literal["attack", "corruption"], dark: bool) -> altair.ConcatChart:
    data = _strengths(figures, kind)
    names = list(dict.fromkeys(data["stress"])) if len(data) else []
    unit = "ε, in 1/255" if kind == "attack" else "severity, 0 is clean"
    of_rate = told_apart((RATE_WORDS["error_rate"], RATE_WORDS["silent_failure_rate"]), dark)
    panels = []
    width = min(max(780 // max(min(len(names), ACROSS), 1) - 32, 110), 220)
    for place, name in enumerate(names):
        of_stress = data[data["stress"] == name]
        ticks = sorted(of_stress["strength"].unique())
        x = altair.X("strength:Q", title=unit, axis=altair.Axis(values=ticks, format=".6~g", grid=False))
        panel = ladder(of_stress, x, "share of exams, %" if place % ACROSS == 0 else None, of_rate)
        panels.append(panel.properties(title=name.split(", ", 1), width=width, height=150))
    return altair.concat(*panels, columns=ACROSS, spacing=14)


def _strengths(figures: Figures, kind: Literal["attack", "corruption"]) -> pd.DataFrame:
    run, decisions = figures.run, figures.run.decisions()
    rows: list[dict[str, Any]] = []
    begun: set[str] = set()
    for one in run.manifest.measurements:
        if one.kind != "draws" or one.stress is None or kind_of(one) != kind:
            continue
        name = stress_name(one.stress.name) + whose_words(one.stress)
        exams = decisions.loc[decisions["measurement"] == one.id, "exam_id"]
        for rate in ("error_rate", "silent_failure_rate"):
            shared = {"stress": name, "rate": RATE_WORDS[rate], "condition": name}
            if name not in begun:
                start = _clean_on(figures, decisions, rate, exams)
                rows.append({**shared, "strength": 0.0, **start})
            rows.append({**shared, "strength": one.stress.strength, **percents(figures.get(rate, one.id))})
        begun.add(name)
    return table(rows)


def _clean_on(figures: Figures, decisions: pd.DataFrame, rate: str, exams: pd.Series) -> dict[str, Any]:
    """Return a clean rate on the exams that were stressed, which may be a sample of all."""
    clean = decisions[decisions["measurement"] == CLEAN]
    if len(exams) == len(clean):
        return percents(figures.get(rate))
    column = {"error_rate": "wrong", "silent_failure_rate": "silent_failure"}[rate]
    known = clean[clean["exam_id"].isin(exams) & clean[column].notna()]
    found = clustered_interval(
        mean,
        known["patient_id"].to_numpy(dtype=str),
        known[column].to_numpy(dtype=bool),
        resamples=figures.run.summary.resamples,
        seed=seed_for(figures.run.manifest.seed, CLEAN, rate, "sample"),
    )
    return {"value": 100 * found.value, "low": 100 * found.low, "high": 100 * found.high, "n": found.n}


def has_two_eyes(figures: Figures) -> bool:
    """Return whether the run's rows say how the two eyes of a patient were answered."""
    return figures.get("worse_eye_ranked_higher").value is not None


def two_eyes_chart(figures: Figures, *, dark: bool = False) -> altair.HConcatChart:
    """Return healthy eyes called referable by the fellow's grade, and how surely the worse eye is ranked higher."""
    called = [(at, figures.get("healthy_eye_called", at=float(at))) for at in range(5)]
    ranked = [(at, figures.get("worse_eye_ranked_higher", at=float(at))) for at in range(1, 5)]
    coin = altair.Chart(pd.DataFrame({"value": [50.0]})).mark_rule(strokeDash=[5, 4], color=colours(dark)[1])
    panels = [
        _points_panel(called, "true grade of the fellow", "healthy eyes called referable, %", dark),
        altair.layer(
            coin.encode(y="value:Q"), _points_panel(ranked, "grades apart", "worse eye ranked higher, %", dark)
        ),
    ]
    return styled(altair.hconcat(*panels, spacing=28), dark)


def _points_panel(points: list[tuple[int, Figure]], x: str, y: str, dark: bool) -> altair.LayerChart:
    """Return shares with their intervals at whole numbers."""
    data = table({"at": at, **percents(figure)} for at, figure in points)
    base = altair.Chart(data).encode(x=altair.X("at:O", title=x, axis=altair.Axis(labelAngle=0)), tooltip=TOOLTIP[-4:])
    axis = altair.Y("value:Q", title=y, scale=altair.Scale(domain=[0, 100]))
    known = base.transform_filter("isValid(datum.low)")
    bars = known.mark_rule(strokeWidth=1.6, opacity=0.7, color=colours(dark)[0]).encode(y="low:Q", y2="high:Q")
    dots = base.mark_point(filled=True, opacity=1, size=55, color=colours(dark)[0]).encode(y=axis)
    return altair.layer(bars, dots).properties(width=270, height=190)
