"""What is proved rather than tried: the smoothed call by its radius, and the margin of a linear head."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import altair

from workbench.audit import layout
from workbench.audit.results import Run
from workbench.report.chart_style import ladder, percents, styled, table, told_apart
from workbench.report.figures import Figure, Figures
from workbench.report.words import counted, full_words, value_words
from workbench.schema.specs import SmoothingSpec

CONSTANT: Final = 0.02
"""Where no more than this share is called otherwise than the rest, the smoothed system is nearly a constant."""


@dataclass(frozen=True)
class Smoothed:
    """What smoothing with one noise says of the run's exams."""

    spec: SmoothingSpec
    curve: tuple[Figure, ...]
    sensitivity: tuple[Figure, ...]
    abstention: Figure
    radius: Figure
    agreement: Figure
    called: Figure

    @property
    def words(self) -> str:
        """Name the noise."""
        return f"σ = {self.spec.sigma:g}"


@dataclass(frozen=True)
class Proved:
    """The section: one block per noise, the sentences, and the head."""

    smoothed: tuple[Smoothed, ...]
    sentences: tuple[str, ...]
    head: Figure
    head_share: Figure
    one_level: float
    """L2 length of a change of every pixel of both eyes by 1/255."""


def proved(run: Run, figures: Figures) -> Proved | None:
    """Return what the run proves; None where its plan asks for no certificate."""
    found = tuple(
        Smoothed(
            one.smoothing,
            tuple(figures.along("certified_accuracy", one.id)),
            tuple(figures.along("certified_sensitivity", one.id)),
            *(
                figures.get(name, one.id)
                for name in (
                    "abstention_rate",
                    "certified_radius_median",
                    "smoothed_agreement",
                    "smoothed_called_share",
                )
            ),
        )
        for one in run.manifest.measurements
        if one.smoothing is not None
    )
    if not found:
        return None
    head = [figures.get(name, layout.HEAD_MARGIN) for name in ("head_margin", "head_margin_share")]
    level = math.sqrt(6) * run.manifest.card.preprocess.size / 255
    return Proved(found, tuple(sentence(one) for one in found), head[0], head[1], level)


def sentence(one: Smoothed) -> str:
    """Return what one noise shows, with its intervals."""
    right, abstained = one.curve[0], one.abstention
    if abstained.value == 1.0:
        return f"{one.words}: every exam abstains; nothing is certified."
    told = (
        f"{one.words}: the smoothed system answers {full_words(right)} of {counted(right.n, 'exam')} rightly, of the "
        f"referable ones {full_words(one.sensitivity[0])}; {full_words(abstained)} abstain. Where it answers, the call "
        f"is proved within a radius of {value_words(one.radius)} for half of the exams, and it is the deployed call in "
        f"{full_words(one.agreement)}."
    )
    share = one.called.value
    if share is not None and min(share, 1 - share) <= CONSTANT:
        told += f" Of these it calls {full_words(one.called)} referable: nearly a constant, which is easily proved."
    return told


def certified_chart(found: Proved, *, dark: bool = False) -> altair.HConcatChart:
    """Return the share right and proved against the radius, of all exams and of the referable ones.

    One line per noise, the first three: a system that calls nobody is proved far, and no referable exam shows it.
    """
    shown = found.smoothed[:3]
    of_rate = told_apart([one.words for one in shown], dark)
    panels: list[altair.LayerChart] = []
    for title, name in (("All exams", "curve"), ("Referable exams", "sensitivity")):
        rows = [
            {"rate": one.words, "condition": title, "radius": figure.at, **percents(figure)}
            for one in shown
            for figure in getattr(one, name)
        ]
        x = altair.X("radius:Q", title="L2 radius over both eyes, pixel range 0 to 1", axis=altair.Axis(grid=False))
        panel = ladder(table(rows), x, None if panels else "right and proved, %", of_rate)
        panels.append(panel.properties(title=title, width=330, height=200))
    return styled(altair.hconcat(*panels, spacing=20), dark)
