"""What a figure is made of: what was answered under one measurement, as arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int, Shaped

from workbench.audit.run_manifest import MeasurementSpec
from workbench.metrics.bootstrap import Interval
from workbench.schema.grades import UNGRADED

NOTHING: Final = Interval(np.nan, np.nan, np.nan, 0, 0)
"""The interval of a figure that is not there."""


@dataclass(frozen=True)
class Refitted:
    """The answers of one measurement calibrated and as sets of grades, by what was fitted without their patients.

    ``reasons``: why a calibration or a kind of sets is not there; ``uncovered``: per kind, the grades that are in every
    set, and why.
    """

    p_referable: dict[str, Float[np.ndarray, "exam 2"]]
    members: dict[str, Bool[np.ndarray, "exam 2 grade"]]
    reasons: dict[str, str]
    uncovered: dict[str, dict[int, str]]


@dataclass(frozen=True)
class Answered:
    """What was answered under one measurement: arrays "exam 2" in the order of ``table``, two rows per exam."""

    measurement: MeasurementSpec
    table: pd.DataFrame
    present: Bool[np.ndarray, "exam 2"]
    photographed: Bool[np.ndarray, "exam 2"]
    grade: Int[np.ndarray, "exam 2"]
    answers: dict[str, np.ndarray]
    checks: pd.DataFrame | None
    decisions: pd.DataFrame
    eyes: pd.DataFrame
    refitted: Refitted | None = None
    unlike: dict[str, float] | None = None
    """From which value on each score alone flags an eye as unlike the training ones; None: not measured."""
    turned: Bool[np.ndarray, "exam 2"] | None = None
    """Which photographs look upside down or of the other eye; None: not checked."""

    def decided(self, table: pd.DataFrame, eyes: pd.DataFrame) -> Answered:
        """Return it with its decisions."""
        return replace(self, decisions=table, eyes=eyes)


@dataclass(frozen=True)
class Figure:
    """One figure to be had: a metric of arrays, one entry per exam or eye, and whose they are."""

    name: str
    metric: Callable[..., float]
    patients: Shaped[np.ndarray, " n"]
    arrays: tuple[Shaped[np.ndarray, " n"], ...]
    subgroup: str = "all"
    at: float | None = None
    of: str | None = None
    """Which one, where a figure is had for several: an uncertainty score, a calibration."""


@dataclass(frozen=True)
class Found:
    """A figure whose interval is already there, because it was had together with others in one pass."""

    name: str
    interval: Interval
    subgroup: str = "all"
    at: float | None = None
    of: str | None = None
    reason: str | None = None
    """Why there is no value, where it is not for want of cases."""


@dataclass(frozen=True)
class ExamArrays:
    """The decisions as arrays; 1.0, 0.0, NaN for unknown."""

    patients: Shaped[np.ndarray, " exam"]
    p: Float[np.ndarray, " exam"]
    score: Float[np.ndarray, " exam"]
    referable: Float[np.ndarray, " exam"]
    called: Float[np.ndarray, " exam"]
    wrong: Float[np.ndarray, " exam"]
    referred: Float[np.ndarray, " exam"]
    silent: Float[np.ndarray, " exam"]


def exam_arrays(answered: Answered) -> ExamArrays:
    """Return the decisions of a measurement as arrays."""
    table = answered.decisions
    return ExamArrays(
        patients=table["patient_id"].to_numpy(dtype=str),
        p=floats(table["p_referable"]),
        score=floats(table["score"]),
        referable=floats(table["referable"]),
        called=floats(table["called_referable"]),
        wrong=floats(table["wrong"]),
        referred=floats(table["referred"]),
        silent=floats(table["silent_failure"]),
    )


def floats(column: pd.Series) -> Float[np.ndarray, " n"]:
    """Return a nullable column as floats, NaN for null."""
    return column.astype("Float64").to_numpy(dtype=float, na_value=np.nan)


def judged_eyes(answered: Answered) -> Bool[np.ndarray, " eye"]:
    """Return which eyes have an answer and a grade of their own, OD and OS in turn.

    A grade given to the patient as a whole says nothing about one eye.
    """
    own = (answered.table["label_level"].fillna("eye") != "patient").to_numpy(dtype=bool)
    return own & (answered.grade.ravel() != UNGRADED) & ~np.isnan(answered.answers["p_referable"].ravel())
