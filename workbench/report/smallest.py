"""How small an ε turns the calls: the curve of the search, beside what attacks of one ε did to the same exams."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import altair

from workbench.audit.figures.smallest import fixed
from workbench.audit.results import Run
from workbench.report.chart_style import ladder, percents, styled, table, told_apart
from workbench.report.figures import Figure, Figures
from workbench.report.words import counted, full_words
from workbench.schema.specs import SmallestSpec
from workbench.schema.words import epsilon_words, stress_name

SEARCH: Final = "the smallest ε found"
LINES: Final = 3
"""Lines that one chart can tell apart: the search, and the first two attacks."""


@dataclass(frozen=True)
class Beside:
    """An attack of one ε: what it left right, what the search left right there, and where the attack did better."""

    attack: str
    epsilon: float
    words: str
    left: Figure
    searched: Figure
    beaten: Figure


@dataclass(frozen=True)
class Searched:
    """One search."""

    spec: SmallestSpec
    curve: tuple[Figure, ...]
    median: Figure
    survives: Figure
    beside: tuple[Beside, ...]

    @property
    def words(self) -> str:
        """Name the norm and the eyes."""
        whose = {"both": "both eyes", "worst_of_one": "the weaker eye alone"}.get(self.spec.eyes, self.spec.eyes)
        return f"{self.spec.norm}, {whose}"

    @property
    def sentence(self) -> str:
        """Say what was found, with its intervals."""
        unit = "/255" if self.spec.norm == "linf" else ""
        median = full_words(self.median)
        if self.median.value is not None:
            bounds = "" if self.median.low is None else f" ({self.median.low:.2g}–{self.median.high:.2g})"
            median = f"{self.median.value:.2g}{unit}{bounds}"
        first, last = self.curve[0], self.curve[-1]
        return (
            f"{self.words}: of {counted(first.n, 'exam')} {full_words(first)} are called rightly as they are and "
            f"{full_words(last)} still at {epsilon_words(self.spec.norm, self.spec.largest)}. Median of the smallest ε "
            f"over those called rightly: {median}. Of the turned calls {full_words(self.survives)} stay turned once "
            "the picture is saved with 8 bits."
        )


def smallest(run: Run, figures: Figures) -> tuple[Searched, ...]:
    """Return what every search for the smallest ε of the run found."""
    return tuple(
        Searched(
            one.search,
            tuple(figures.along("holds_up_to", one.id)),
            figures.get("smallest_epsilon_median", one.id),
            figures.get("smallest_survives_8bit_share", one.id),
            tuple(_beside(run, figures, one.id, one.search)),
        )
        for one in run.manifest.measurements
        if one.search is not None
    )


def _beside(run: Run, figures: Figures, search: str, spec: SmallestSpec) -> list[Beside]:
    told = []
    for one in fixed(run, spec):
        assert one.stress is not None
        at = one.stress.strength
        told.append(
            Beside(
                stress_name(one.stress.name),
                at,
                epsilon_words(spec.norm, at),
                _left(figures.get("success_share", one.id)),
                figures.get("holds_up_to", search, at=at),
                figures.get("search_beaten_share", search, at=at, of=one.id),
            )
        )
    return told


def _left(success: Figure) -> Figure:
    """Return the share that an attack left right."""
    low, value, high = (None if bound is None else 1 - bound for bound in (success.high, success.value, success.low))
    return replace(success, value=value, low=low, high=high)


def smallest_chart(found: tuple[Searched, ...], *, dark: bool = False) -> altair.ConcatChart:
    """Return the share of exams still called rightly against ε, of the search and of the attacks beside it."""
    attacks = list(dict.fromkeys(beside.attack for one in found for beside in one.beside))[: LINES - 1]
    of_rate = told_apart((SEARCH, *attacks), dark)
    panels: list[altair.LayerChart] = []
    for one in found:
        unit = "ε, in 1/255" if one.spec.norm == "linf" else f"{one.spec.norm} ε, of the pixel range"
        x = altair.X("epsilon:Q", title=unit, axis=altair.Axis(grid=False))
        panel = ladder(table(_points(one, attacks)), x, None if panels else "called rightly, %", of_rate)
        panels.append(panel.properties(title=one.words, width=330, height=200))
    return styled(altair.concat(*panels, columns=2, spacing=20), dark)


def _points(found: Searched, attacks: list[str]) -> list[dict[str, Any]]:
    shared = {"condition": found.words}
    rows = [{**shared, "rate": SEARCH, "epsilon": one.at, **percents(one)} for one in found.curve]
    beside = [one for one in found.beside if one.attack in attacks]
    rows += [{**shared, "rate": one.attack, "epsilon": one.epsilon, **percents(one.left)} for one in beside]
    return rows
