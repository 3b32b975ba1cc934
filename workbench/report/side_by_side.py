"""Models side by side on the same exams, clean and under every stress: what a defence buys, and what it costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from workbench.audit.layout import CLEAN
from workbench.audit.results import Run
from workbench.audit.run_manifest import MeasurementSpec
from workbench.report.attack_checks import credibility_of
from workbench.report.compare import paired_difference, relation_of
from workbench.report.figures import Figure, Figures
from workbench.report.headline import condition_words, conditions
from workbench.report.words import FIGURE_NAMES, counted
from workbench.schema.model_card import ModelCard

CLEAN_ONLY: Final = ("auc_referable_exam", "quadratic_weighted_kappa", "sensitivity", "specificity")
UNDER_STRESS: Final = ("silent_failure_rate", "error_rate", "referral_rate")
MORE_IS: Final[dict[str, Literal["better", "worse"]]] = {
    "auc_referable_exam": "better",
    "quadratic_weighted_kappa": "better",
    "sensitivity": "better",
    "specificity": "better",
    "silent_failure_rate": "worse",
    "error_rate": "worse",
}
"""Figures of which more is better or worse; of the referral rate neither can be said."""


@dataclass(frozen=True)
class Column:
    """One model: what its training was hardened against, and what may be believed of the attacks on it."""

    name: str
    run_id: str
    defence: str
    credibility: str


@dataclass(frozen=True)
class Cell:
    """A model's figure, and how much more it is than the first model's; none for the first itself."""

    figure: Figure
    difference: Figure | None
    turn: Literal["better", "worse", ""]


@dataclass(frozen=True)
class Line:
    """One figure under one condition, for every model."""

    words: str
    exams: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Block:
    """One figure under every condition."""

    title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class SideBySide:
    """Every model in a column of its own; the first is what the others are compared with."""

    columns: tuple[Column, ...]
    blocks: tuple[Block, ...]


def side_by_side(run: Run, others: Sequence[Run]) -> SideBySide | None:
    """Return the run beside its rivals on the same exams; None where there is no rival.

    Raises:
        WorkbenchError: as `relation_of`.
    """
    runs = [run, *(other for other in others if relation_of(run, other) == "rival")]
    if len(runs) < 2:
        return None
    figures = [Figures(one) for one in runs]
    clean = [_line(FIGURE_NAMES[name], name, CLEAN, runs, figures) for name in CLEAN_ONLY]
    audited = _measured(runs)
    stressed = [
        Block(
            FIGURE_NAMES[name],
            tuple(_line(condition_words(one), name, one.id, runs, figures) for one in audited),
        )
        for name in UNDER_STRESS
    ]
    return SideBySide(_columns(runs, figures), (Block("Clean photographs", tuple(clean)), *stressed))


def _measured(runs: Sequence[Run]) -> list[MeasurementSpec]:
    """Return every condition that any of the runs has, in the order of the first that has it."""
    drawn = (one for run in runs for one in run.manifest.measurements if one.kind == "draws")
    return list({one.id: one for one in drawn}.values())


def _columns(runs: Sequence[Run], figures: Sequence[Figures]) -> tuple[Column, ...]:
    names = Counter(run.manifest.model.name for run in runs)
    columns = []
    for run, found in zip(runs, figures, strict=True):
        model = run.manifest.model
        name = model.name if names[model.name] == 1 else f"{model.name} ({run.manifest.model_hash[:6]})"
        known = model.provenance.defence or "nothing stated" if isinstance(model, ModelCard) else "not known"
        columns.append(Column(name, run.manifest.run_id, known, _credibility(run, found)))
    return tuple(columns)


def _credibility(run: Run, figures: Figures) -> str:
    graded = credibility_of(run, figures, conditions(run, figures))
    return "no attack" if graded is None else graded.short


def _line(words: str, name: str, measurement: str, runs: Sequence[Run], figures: Sequence[Figures]) -> Line:
    found = [one.get(name, measurement) for one in figures]
    cells = [_cell(runs, found, place) for place in range(len(runs))]
    exams = {one.n for one in found if one.value is not None}
    noun = "eye" if name == "quadratic_weighted_kappa" else "exam"
    return Line(words, counted(max(exams), noun) if exams else "", tuple(cells))


def _cell(runs: Sequence[Run], found: Sequence[Figure], place: int) -> Cell:
    first, own = found[0], found[place]
    if place == 0 or first.value is None or own.value is None:
        return Cell(own, None, "")
    difference = paired_difference(runs[0], runs[place], own.name, own.measurement)
    return Cell(own, difference, _turn(own.name, difference))


def _turn(name: str, difference: Figure) -> Literal["better", "worse", ""]:
    """Return whether it is better or worse, where the interval leaves no doubt of its direction."""
    if name not in MORE_IS or difference.low is None or difference.high is None:
        return ""
    if difference.low <= 0 <= difference.high:
        return ""
    more = MORE_IS[name]
    return more if difference.low > 0 else ("worse" if more == "better" else "better")
