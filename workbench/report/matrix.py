"""Every stress by its strength and the three rates, as one table whose cells are the darker the worse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import altair
import pandas as pd

from workbench.report.chart_style import colours, styled
from workbench.report.figures import Figure, Figures
from workbench.report.headline import Condition, conditions
from workbench.report.words import counted, full_words
from workbench.schema.specs import StressSpec
from workbench.schema.words import MIX_UPS, percent, stress_name, whose_words

RATES: Final = ("Error", "Referred", "Silent failure")


@dataclass(frozen=True)
class Cell:
    """One rate under one stress at one strength.

    ``shade``: the rate over the largest of its kind in the matrix, 0 to 1; None where there is no value.
    """

    words: str
    told: str
    shade: float | None


@dataclass(frozen=True)
class Line:
    """One stress: of each rate a cell per strength of its block, None where the plan does not hold it."""

    words: str
    rates: tuple[tuple[Cell | None, ...], ...]


@dataclass(frozen=True)
class Block:
    """The stresses whose strength has one unit."""

    title: str
    unit: str
    strengths: tuple[str, ...]
    clean: tuple[Cell, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Matrix:
    """All blocks, and what the darkest cell of each rate stands for."""

    blocks: tuple[Block, ...]
    darkest: tuple[Figure, ...]


def matrix(found: tuple[Condition, ...]) -> Matrix | None:
    """Return the matrix of a run's conditions (clean first); None where nothing was stressed."""
    stressed: dict[tuple[str, str], list[Condition]] = {}
    for one in found:
        if one.measurement.stress is not None:
            stressed.setdefault(_unit(one), []).append(one)
    if not stressed:
        return None
    darkest = tuple(max(of_rate, key=lambda one: one.value or 0.0) for of_rate in zip(*map(_rates, found), strict=True))
    blocks = (_block(title, unit, of_unit, found[0], darkest) for (title, unit), of_unit in stressed.items())
    return Matrix(tuple(blocks), darkest)


def matrix_chart(figures: Figures, *, dark: bool = False) -> altair.VConcatChart:
    """Return the matrix as a picture, a row of panels per unit of strength; a cell pointed at tells its interval."""
    made = matrix(conditions(figures.run, figures))
    blocks = () if made is None else made.blocks
    return styled(altair.vconcat(*(_panels(block, dark) for block in blocks), spacing=18), dark)


def _panels(block: Block, dark: bool) -> altair.HConcatChart:
    panels = []
    names = ["Clean", *(line.words for line in block.lines)]
    for place, rate in enumerate(RATES):
        rows = [("Clean", at, block.clean[place]) for at in block.strengths]
        rows += [
            (line.words, at, cell)
            for line in block.lines
            for at, cell in zip(block.strengths, line.rates[place], strict=True)
            if cell is not None
        ]
        data = pd.DataFrame(
            [(name, at, one.words, one.told, _mixed(one.shade, place, dark)) for name, at, one in rows],
            columns=["stress", "strength", "words", "told", "colour"],
        )
        axis = altair.Axis(labelLimit=260) if place == 0 else None
        base = altair.Chart(data).encode(
            x=altair.X("strength:O", sort=list(block.strengths), title=block.unit, axis=altair.Axis(labelAngle=0)),
            y=altair.Y("stress:N", sort=names, title=None, axis=axis),
            tooltip=altair.Tooltip("told:N", title="found"),
        )
        cells = base.mark_rect().encode(color=altair.Color("colour:N", scale=None))
        words = base.mark_text(color="#e8eaed" if dark else "#1f2933", fontSize=11).encode(text="words:N")
        panel = altair.layer(cells, words)
        panels.append(panel.properties(title=f"{rate}, %", width=altair.Step(38), height=altair.Step(19)))
    return altair.hconcat(*panels, spacing=10)


def _mixed(shade: float | None, place: int, dark: bool) -> str:
    """Return the colour of a cell: up to so much of its rate's colour that its number stays readable."""
    ground, full = ("#1a1f27" if dark else "#f3f6f9"), colours(dark)[place]
    share = 0.62 * (shade or 0.0)
    ends = [[int(colour[at : at + 2], 16) for at in (1, 3, 5)] for colour in (ground, full)]
    return "#" + "".join(f"{round((1 - share) * one + share * other):02x}" for one, other in zip(*ends, strict=True))


def _unit(condition: Condition) -> tuple[str, str]:
    if _stress(condition).name in MIX_UPS:
        return "Mix-ups of the exam", "once or not"
    if condition.kind == "corruption":
        return "Corruptions", "severity, 1 to 5"
    norm = _stress(condition).aim.norm
    return "Attacks", {"linf": "ε, in 1/255", "l0": "pixels changed"}.get(norm, f"ε in {norm}")


def _block(title: str, unit: str, of_unit: list[Condition], clean: Condition, darkest: tuple[Figure, ...]) -> Block:
    strengths = sorted({_stress(one).strength for one in of_unit})
    families: dict[str, dict[float, Condition]] = {}
    for one in of_unit:
        families.setdefault(_family(_stress(one)), {})[_stress(one).strength] = one
    lines = (
        Line(words, _by_rate([by_strength.get(at) for at in strengths], darkest))
        for words, by_strength in families.items()
    )
    first = tuple(
        _cell(clean.words, figure, largest.value or 0.0) for figure, largest in zip(_rates(clean), darkest, strict=True)
    )
    return Block(title, unit, tuple(f"{at:g}" for at in strengths), first, tuple(lines))


def _by_rate(ladder: list[Condition | None], darkest: tuple[Figure, ...]) -> tuple[tuple[Cell | None, ...], ...]:
    return tuple(
        tuple(None if one is None else _cell(one.words, _rates(one)[place], largest.value or 0.0) for one in ladder)
        for place, largest in enumerate(darkest)
    )


def _cell(condition: str, figure: Figure, largest: float) -> Cell:
    told = f"{condition}: {full_words(figure)}, {counted(figure.n, 'exam')}"
    if figure.value is None:
        return Cell("–", told, None)
    return Cell(percent(figure.value).removesuffix(" %"), told, figure.value / largest if largest else 0.0)


def _rates(condition: Condition) -> tuple[Figure, Figure, Figure]:
    return condition.error, condition.referral, condition.silent


def _family(stress: StressSpec) -> str:
    return stress_name(stress.name) + whose_words(stress)


def _stress(condition: Condition) -> StressSpec:
    assert condition.measurement.stress is not None
    return condition.measurement.stress
