"""How well the model does on the clean exams: metrics, confusion matrix, the targets of screening programmes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Int64

from workbench.audit.layout import CLEAN
from workbench.audit.results import Run
from workbench.audit.row_names import ROW_NAMES
from workbench.metrics.agreement import confusion_matrix
from workbench.report.figures import Figure, Figures
from workbench.report.words import FIGURE_NAMES
from workbench.schema.grades import GRADES

CLEAN_FIGURES: Final = (
    "auc_referable_exam",
    "auc_referable_eye",
    "sensitivity",
    "specificity",
    "quadratic_weighted_kappa",
    "accuracy",
    "expected_calibration_error",
    "brier",
    "ungradable_rate",
    "missing_rate",
)

TARGETS: Final = (
    ("NHS Diabetic Eye Screening standard", 0.85, 0.80),
    ("IDx-DR pivotal trial endpoints", 0.85, 0.825),
)
"""Name, least sensitivity, least specificity."""


@dataclass(frozen=True)
class Measured:
    """A figure with its name and what it says."""

    figure: Figure
    words: str
    meaning: str


@dataclass(frozen=True)
class Target:
    """An operating point that a programme asks for, and how the model stands to it."""

    name: str
    sensitivity: float
    specificity: float
    sensitivity_words: str
    specificity_words: str


def clean_figures(figures: Figures) -> list[Measured]:
    """Return the metrics of the clean exams."""
    return [
        Measured(figures.get(name), FIGURE_NAMES[name], ROW_NAMES[name].removesuffix(" (measurement: clean)"))
        for name in CLEAN_FIGURES
    ]


def recalls(figures: Figures) -> list[tuple[str, Figure]]:
    """Return the share of each grade's eyes that are given that grade."""
    return [(f"{grade} {name}", figures.get("recall_of_grade", at=float(grade))) for grade, name in enumerate(GRADES)]


def judged_eyes(run: Run) -> pd.DataFrame:
    """Return the clean eyes with an answer and a grade of their own, with their patients.

    A grade given to the patient as a whole says nothing about one eye.
    """
    eyes = run.eyes()[["exam_id", "eye", "patient_id", "label_level"]]
    answers = run.eye_answers()
    clean = answers[(answers["measurement"] == CLEAN) & answers["icdr_grade"].notna() & answers["p_referable"].notna()]
    table = clean.merge(eyes, on=["exam_id", "eye"], how="left", validate="one_to_one")
    return table[table["label_level"].fillna("eye") != "patient"].reset_index(drop=True)


def confusion(run: Run) -> Int64[np.ndarray, "true given"]:
    """Return how many clean eyes of each true grade were given each grade."""
    eyes = judged_eyes(run).dropna(subset=["grade_predicted"])
    truth, given = (eyes[name].to_numpy(dtype=np.int64) for name in ("icdr_grade", "grade_predicted"))
    return confusion_matrix(truth, given, len(GRADES))


def far_off(matrix: Int64[np.ndarray, "true given"]) -> tuple[int, int]:
    """Return how many eyes are off by two grades or more, and how many eyes there are."""
    distance = np.abs(np.subtract.outer(np.arange(len(matrix)), np.arange(len(matrix))))
    return int(matrix[distance >= 2].sum()), int(matrix.sum())


def targets(figures: Figures) -> list[Target]:
    """Return how sensitivity and specificity stand to the targets of screening programmes."""
    found = figures.get("sensitivity"), figures.get("specificity")
    return [
        Target(name, least[0], least[1], stands(found[0], least[0]), stands(found[1], least[1]))
        for name, *least in TARGETS
    ]


def stands(figure: Figure, least: float) -> str:
    """Return how a figure stands to the least that is asked, by its interval."""
    if figure.value is None or figure.low is None or figure.high is None:
        return "not assessed"
    if figure.low >= least:
        return "reached: the whole interval is above"
    if figure.high < least:
        return "missed: the whole interval is below"
    return "not settled: the interval spans it"
