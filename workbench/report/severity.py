"""How mild a corruption need be to flip a call, and whether graders would still have accepted the photographs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import altair
import pandas as pd

from workbench.audit.results import Run
from workbench.report.chart_style import ladder, percents, styled, table, told_apart
from workbench.report.figures import Figure, Figures
from workbench.schema.words import stress_name

ANY: Final = "any quality"
ACCEPTED: Final = "accepted"
ACROSS: Final = 3
"""Panels in a row."""
LINES: Final = {ANY: "at any quality", ACCEPTED: "at a quality graders would accept"}


@dataclass(frozen=True)
class Search:
    """One corruption: the share of exams flipped up to each level, and of the flipped those that flip back."""

    words: str
    flipped: tuple[Figure, ...]
    accepted: tuple[Figure, ...]
    flips_back: Figure


def searches(run: Run, figures: Figures) -> tuple[Search, ...]:
    """Return what every severity search of the run found."""
    return tuple(
        Search(
            stress_name(one.method or ""),
            tuple(figures.along("flipped_up_to", one.id, of=ANY)),
            tuple(figures.along("flipped_up_to", one.id, of=ACCEPTED)),
            figures.get("flips_back_share", one.id),
        )
        for one in run.manifest.measurements
        if one.kind == "mildest"
    )


def severity_chart(found: tuple[Search, ...], *, dark: bool = False) -> altair.ConcatChart:
    """Return the cumulative share of exams flipped against severity, one panel per corruption; 0 flips nothing."""
    of_rate = told_apart((LINES[ANY], LINES[ACCEPTED]), dark)
    panels = []
    for place, one in enumerate(found):
        x = altair.X("severity:Q", title="severity up to", axis=altair.Axis(values=list(range(6)), grid=False))
        panel = ladder(_points(one), x, "exams flipped, %" if place % ACROSS == 0 else None, of_rate)
        panels.append(panel.properties(title=one.words, width=220, height=150))
    return styled(altair.concat(*panels, columns=ACROSS, spacing=14), dark)


def _points(found: Search) -> pd.DataFrame:
    nothing: dict[str, Any] = {"severity": 0.0, "value": 0.0, "low": 0.0, "high": 0.0, "n": 0}
    rows = []
    for of, figures in ((ANY, found.flipped), (ACCEPTED, found.accepted)):
        shared = {"rate": LINES[of], "condition": found.words}
        rows.append({**shared, **nothing})
        rows += [{**shared, "severity": figure.at, **percents(figure)} for figure in figures]
    return table(rows)
