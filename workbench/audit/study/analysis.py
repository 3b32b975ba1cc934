"""From the draws of several runs to one table: makers × poolings × scores, each against the first row. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int, Shaped

from workbench.audit import layout
from workbench.audit.plan import units_of
from workbench.audit.results import Run, draws_of_rows
from workbench.audit.study.config import StudyConfig
from workbench.metrics import referral, selective
from workbench.metrics.agreement import quadratic_weighted_kappa
from workbench.metrics.bootstrap import Arrays, clustered_interval, paired_difference
from workbench.metrics.calibration import expected_calibration_error
from workbench.metrics.catalogue import Metric
from workbench.metrics.discrimination import roc_auc
from workbench.schema.errors import WorkbenchError
from workbench.schema.grades import REFERABLE_GRADE, UNGRADED
from workbench.schema.progress import track
from workbench.schema.seeds import seed_for
from workbench.schema.specs import PolicySpec
from workbench.uncertainty import decisions

FIGURES: Final[dict[str, tuple[Metric, str]]] = {
    "auc_referable_exam": (roc_auc, "AUC"),
    "quadratic_weighted_kappa": (quadratic_weighted_kappa, "QWK"),
    "expected_calibration_error": (expected_calibration_error, "ECE"),
    "error_rate": (referral.mean, "error"),
    "referral_rate": (referral.mean, "referred"),
    "silent_failure_rate": (referral.mean, "silent failure"),
    "aurc": (selective.aurc, "AURC"),
}
"""Name of a figure → its metric and how a table calls it."""

SCORELESS: Final = ("auc_referable_exam", "quadratic_weighted_kappa", "expected_calibration_error", "error_rate")
"""Figures that are the same whatever score refers."""

Draws = Float[np.ndarray, "draw exam 2 grade"]


@dataclass(frozen=True)
class _Cohort:
    """What is true of the exams, the same for every maker."""

    patients: Shaped[np.ndarray, " exam"]
    present: Bool[np.ndarray, "exam 2"]
    photographed: Bool[np.ndarray, "exam 2"]
    grade: Int[np.ndarray, "exam 2"]
    referable: Float[np.ndarray, " exam"]
    judged: Bool[np.ndarray, " eye"]


def compare(runs: Mapping[str, Run], config: StudyConfig) -> pd.DataFrame:
    """Return one line per maker, pooling, score and figure: value, interval, difference to the first row.

    Columns: ``maker, draws_from, draws, pooling, score, figure, value, low, high, n, patients, difference,
    difference_low, difference_high, p_value``. Intervals and differences come from the same resamples of patients;
    an exam or eye counts where every row has an answer to it.

    Raises:
        WorkbenchError: runs of different exams.
    """
    cohort = _cohort(runs)
    rows = [row for name, run in runs.items() for row in _rows(name, run, cohort, config)]
    exams = np.logical_and.reduce([~np.isnan(row.wrong) & ~np.isnan(row.score) for row in rows])
    eyes = np.logical_and.reduce([~np.isnan(row.p) for row in rows]) & cohort.judged
    given = [_arrays(row, cohort, exams, eyes) for row in rows]
    of_figure = {figure: _patients(figure, cohort, exams, eyes) for figure in FIGURES}
    lines: list[dict[str, object]] = []
    done: dict[tuple[str, str, str], dict[str, float]] = {}
    for row, arrays in track(zip(rows, given, strict=True), "comparing", total=len(rows)):
        for figure in FIGURES:
            # What does not depend on the score is the same for every score of a maker and a pooling.
            key = (figure, row.maker, row.pooling + ("" if figure in SCORELESS else f" {row.referral_score}"))
            if key not in done:
                done[key] = _measured(figure, arrays[figure], given[0][figure], of_figure[figure], config)
            told = {"pooling": row.pooling, "score": row.referral_score, "figure": figure}
            lines.append({"maker": row.maker, "draws_from": row.draws_from, "draws": row.draws, **told, **done[key]})
    return pd.DataFrame(lines)


@dataclass(frozen=True)
class _Row:
    """What one maker answers under one pooling and one score; NaN for unknown."""

    maker: str
    draws_from: str
    draws: int
    pooling: str
    referral_score: str
    p_exam: Float[np.ndarray, " exam"]
    score: Float[np.ndarray, " exam"]
    wrong: Float[np.ndarray, " exam"]
    referred: Float[np.ndarray, " exam"]
    p: Float[np.ndarray, " eye"]
    grade: Int[np.ndarray, " eye"]


def _rows(name: str, run: Run, cohort: _Cohort, config: StudyConfig) -> Iterator[_Row]:
    drawn, threshold = _draws_of(run), run.manifest.referable_threshold
    draws_from = run.manifest.config.get("draws_from", "mc_dropout")
    for pooling in config.poolings:
        answers = decisions.eye_answers(drawn, cohort.present, _policy(config, pooling, config.scores[0]), threshold)
        for score in config.scores:
            exam = _decided(answers, cohort, _policy(config, pooling, score), threshold)
            yield _Row(
                maker=name,
                draws_from=draws_from,
                draws=run.manifest.draws,
                pooling=pooling,
                referral_score=score,
                p_exam=exam["p_referable"],
                score=exam["score"],
                wrong=exam["wrong"],
                referred=exam["referred"],
                p=answers["p_referable"].ravel(),
                grade=answers["grade_predicted"].ravel(),
            )


def _policy(config: StudyConfig, pooling: str, score: str) -> PolicySpec:
    return config.policy.model_copy(update={"pooling": pooling, "referral_score": score})


def _decided(
    answers: decisions.EyeAnswers, cohort: _Cohort, policy: PolicySpec, threshold: float
) -> dict[str, Float[np.ndarray, " exam"]]:
    """Return the decisions per exam as numbers, the cut-off fixed on these very exams so that the budget is spent."""
    table = decisions.exam_decisions(
        answers,
        cohort.present,
        cohort.grade,
        policy,
        threshold=threshold,
        cutoff=decisions.clean_cutoff(answers, cohort.present, policy),
        photographed=cohort.photographed,
    )
    names = ("p_referable", "score", "wrong", "referred")
    return {name: table[name].astype("Float64").to_numpy(dtype=float, na_value=np.nan) for name in names}


def _arrays(
    row: _Row, cohort: _Cohort, exams: Bool[np.ndarray, " exam"], eyes: Bool[np.ndarray, " eye"]
) -> dict[str, Arrays]:
    """Return what each figure's metric takes, on the exams and eyes that every row can be judged by."""
    truth, grade, wrong = cohort.referable[exams] == 1, cohort.grade.ravel()[eyes], row.wrong[exams]
    return {
        "auc_referable_exam": (truth, row.p_exam[exams]),
        "quadratic_weighted_kappa": (grade, row.grade[eyes]),
        "expected_calibration_error": (grade >= REFERABLE_GRADE, row.p[eyes]),
        "error_rate": (wrong,),
        "referral_rate": (row.referred,),
        "silent_failure_rate": (wrong * (row.referred[exams] == 0),),
        "aurc": (wrong, row.score[exams]),
    }


def _patients(
    figure: str, cohort: _Cohort, exams: Bool[np.ndarray, " exam"], eyes: Bool[np.ndarray, " eye"]
) -> Shaped[np.ndarray, " n"]:
    if figure in ("quadratic_weighted_kappa", "expected_calibration_error"):
        return np.repeat(cohort.patients, 2)[eyes]
    return cohort.patients if figure == "referral_rate" else cohort.patients[exams]


def _measured(
    figure: str, arrays: Arrays, first: Arrays, patients: Shaped[np.ndarray, " n"], config: StudyConfig
) -> dict[str, float]:
    metric, seed = FIGURES[figure][0], seed_for(config.seed, "study", figure)
    interval = clustered_interval(metric, patients, *arrays, resamples=config.resamples, seed=seed)
    found = {"value": interval.value, "low": interval.low, "high": interval.high}
    found |= {"n": interval.n, "patients": interval.clusters}
    if all(np.array_equal(one, other) for one, other in zip(arrays, first, strict=True)):
        return found | {"difference": 0.0, "difference_low": 0.0, "difference_high": 0.0, "p_value": float("nan")}
    change, p_value = paired_difference(metric, patients, arrays, first, resamples=config.resamples, seed=seed)
    bounds = {"difference": change.value, "difference_low": change.low, "difference_high": change.high}
    return found | bounds | {"p_value": p_value}


def _draws_of(run: Run) -> Draws:
    """Return the clean draws of every exam; a study holds one maker's at a time."""
    units = units_of(run.manifest, run.exam_ids, run.manifest.measurement(layout.CLEAN))
    parts = (run.part(layout.CLEAN, unit.chunk) for unit in units)
    grades = len(run.manifest.model.classes)
    return np.concatenate([draws_of_rows(part, run.manifest.draws, grades) for part in parts], axis=1)


def _cohort(runs: Mapping[str, Run]) -> _Cohort:
    """Return the exams that all runs share.

    Raises:
        WorkbenchError: a run of other exams, or of exams graded otherwise.
    """
    (first, run), *others = runs.items()
    eyes = run.eyes()
    told = ["exam_id", "eye", "status", "icdr_grade"]
    for name, other in others:
        if not other.eyes()[told].equals(eyes[told]):
            raise WorkbenchError(
                f"the runs {first} and {name} are of other exams or grades", "use one manifest for all"
            )
    grade = eyes["icdr_grade"].fillna(UNGRADED).to_numpy(dtype=np.int64).reshape(-1, 2)
    photographed = eyes["status"].isin(["ok", "ungradable"]).to_numpy(dtype=bool).reshape(-1, 2)
    own = (eyes["label_level"].fillna("eye") != "patient").to_numpy(dtype=bool)
    return _Cohort(
        patients=eyes["patient_id"].to_numpy(dtype=str)[::2],
        present=(eyes["status"] == "ok").to_numpy(dtype=bool).reshape(-1, 2),
        photographed=photographed,
        grade=grade,
        referable=decisions.true_referable(grade, photographed),
        judged=own & (grade.ravel() != UNGRADED),
    )
