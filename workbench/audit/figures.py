"""The rows of one measurement: every figure with its patient-clustered interval, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int, Shaped

from workbench.audit.layout import ROWS_SCHEMA, MeasurementSpec, RunManifest
from workbench.metrics import agreement, bootstrap, calibration, discrimination, referral
from workbench.schema.grades import REFERABLE_GRADE, UNGRADED
from workbench.schema.seeds import seed_for

CURVE_POINTS: Final = 10
AGE_BANDS: Final = (
    (0, 40, "under 40"),
    (40, 50, "40-49"),
    (50, 60, "50-59"),
    (60, 70, "60-69"),
    (70, 200, "70 and over"),
)
QUALITY_ORDER: Final = ("good", "usable", "reject")


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


def figures(run: RunManifest, answered: Answered, clean: Answered, *, resamples: int) -> pd.DataFrame:
    """Return the rows of one measurement.

    Args:
        run: the conditions that every row is given.
        answered: the measurement.
        clean: the same run's clean exams, for what has changed on the same exams.
        resamples: of the bootstrap, see `workbench.metrics.bootstrap`.
    """
    wanted = [*_per_exam(answered), *_per_eye(answered), *_curve(answered), *_subgroups(answered)]
    if answered.measurement.stress is None:
        wanted += list(_photographs(answered))
    else:
        wanted += [*_changes(answered, clean), *_checked(answered)]
    rows = [_row(run, answered.measurement, figure, resamples) for figure in wanted]
    return pd.DataFrame(rows, columns=ROWS_SCHEMA.names)


def _row(run: RunManifest, measurement: MeasurementSpec, figure: Figure, resamples: int) -> dict[str, Any]:
    seed = seed_for(run.seed, measurement.id, figure.name, figure.subgroup, f"{figure.at}")
    found = bootstrap.Interval(np.nan, np.nan, np.nan, 0, 0)
    if len(figure.patients):
        found = bootstrap.clustered_interval(
            figure.metric, figure.patients, *figure.arrays, resamples=resamples, seed=seed
        )
    stress = measurement.stress
    return {
        "name": figure.name,
        "value": _known(found.value),
        "low": _known(found.low),
        "high": _known(found.high),
        "n": found.n,
        "clusters": found.clusters,
        "measurement": measurement.id,
        "stress": None if stress is None else stress.name,
        "strength": None if stress is None else stress.strength,
        "subgroup": figure.subgroup,
        "at": figure.at,
        "seed": seed,
        "model_hash": run.model_hash,
        "manifest_hash": run.manifest_hash,
        "workbench_version": run.workbench_version,
        "reason": _reason(found, resamples),
    }


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def _reason(found: bootstrap.Interval, resamples: int) -> str | None:
    if not found.n:
        return "nothing to measure: no answer whose truth is known"
    if np.isnan(found.value):
        return "not defined on these: one class only"
    if found.clusters < 2:
        return "no interval: one patient only"
    if np.isnan(found.low):
        return f"no interval: {found.undefined} of {resamples} resamples hold one class only"
    return None


def _per_exam(answered: Answered) -> Iterator[Figure]:
    """Yield the three rates and what is measured at the level of the exam."""
    exams = _exam_arrays(answered)
    yield from _rates(exams, "all", np.ones(len(exams.patients), dtype=bool))
    known = ~np.isnan(exams.referable) & ~np.isnan(exams.p)
    patients, truth = exams.patients[known], exams.referable[known] == 1
    called = exams.called[known] == 1
    # Only the diseased can be found, only the healthy spared: n and the patients are theirs.
    yield Figure("sensitivity", referral.mean, patients[truth], (called[truth],))
    yield Figure("specificity", referral.mean, patients[~truth], (~called[~truth],))


@dataclass(frozen=True)
class _ExamArrays:
    """The decisions as arrays; 1.0, 0.0, NaN for unknown."""

    patients: Shaped[np.ndarray, " exam"]
    p: Float[np.ndarray, " exam"]
    score: Float[np.ndarray, " exam"]
    referable: Float[np.ndarray, " exam"]
    called: Float[np.ndarray, " exam"]
    wrong: Float[np.ndarray, " exam"]
    referred: Float[np.ndarray, " exam"]
    silent: Float[np.ndarray, " exam"]


def _exam_arrays(answered: Answered) -> _ExamArrays:
    table = answered.decisions
    return _ExamArrays(
        patients=table["patient_id"].to_numpy(dtype=str),
        p=_floats(table["p_referable"]),
        score=_floats(table["score"]),
        referable=_floats(table["referable"]),
        called=_floats(table["called_referable"]),
        wrong=_floats(table["wrong"]),
        referred=_floats(table["referred"]),
        silent=_floats(table["silent_failure"]),
    )


def _floats(column: pd.Series) -> Float[np.ndarray, " n"]:
    return column.astype("Float64").to_numpy(dtype=float, na_value=np.nan)


def _rates(exams: _ExamArrays, subgroup: str, mask: Bool[np.ndarray, " exam"]) -> Iterator[Figure]:
    """Yield the three rates and the AUC of the exams in ``mask``."""
    patients = exams.patients[mask]
    for name, values in (
        ("error_rate", exams.wrong),
        ("referral_rate", exams.referred),
        ("silent_failure_rate", exams.silent),
    ):
        yield Figure(name, referral.mean, patients, (values[mask],), subgroup)
    ranked = mask & ~np.isnan(exams.referable) & ~np.isnan(exams.p)
    arrays = (exams.referable[ranked] == 1, exams.p[ranked])
    yield Figure("auc_referable_exam", discrimination.roc_auc, exams.patients[ranked], arrays, subgroup)


def _per_eye(answered: Answered) -> Iterator[Figure]:
    """Yield what is measured per eye, on eyes with an answer and a grade of their own."""
    own = (answered.table["label_level"].fillna("eye") != "patient").to_numpy(dtype=bool)
    grade = answered.grade.ravel()
    p = answered.answers["p_referable"].ravel()
    judged = own & (grade != UNGRADED) & ~np.isnan(p)
    patients = answered.table["patient_id"].to_numpy(dtype=str)[judged]
    truth, given, p = grade[judged], answered.answers["grade_predicted"].ravel()[judged], p[judged]
    referable = truth >= REFERABLE_GRADE
    yield Figure("auc_referable_eye", discrimination.roc_auc, patients, (referable, p))
    yield Figure("quadratic_weighted_kappa", agreement.quadratic_weighted_kappa, patients, (truth, given))
    yield Figure("accuracy", agreement.accuracy, patients, (truth, given))
    yield Figure("brier", calibration.brier, patients, (referable, p))
    yield Figure("expected_calibration_error", calibration.expected_calibration_error, patients, (referable, p))
    for number in range(5):
        of_grade = truth == number
        yield Figure(
            "recall_of_grade", referral.mean, patients[of_grade], (given[of_grade] == number,), at=float(number)
        )


def _curve(answered: Answered) -> Iterator[Figure]:
    """Yield the error rate and the AUC of what the model keeps, when the least sure exams are referred first."""
    exams = _exam_arrays(answered)
    known = np.flatnonzero(~np.isnan(exams.wrong) & ~np.isnan(exams.score))
    order = known[np.argsort(exams.score[known], kind="stable")]
    curve = referral.referral_curve(referral.mean, exams.score[known], exams.wrong[known], points=CURVE_POINTS)
    for retained, count in zip(curve.retained, curve.n, strict=True):
        kept = order[:count]
        patients = exams.patients[kept]
        truth = exams.referable[kept] == 1
        at = round(float(retained), 6)
        yield Figure("error_rate_at_retained", referral.mean, patients, (exams.wrong[kept],), at=at)
        yield Figure("auc_at_retained", discrimination.roc_auc, patients, (truth, exams.p[kept]), at=at)


def _subgroups(answered: Answered) -> Iterator[Figure]:
    exams = _exam_arrays(answered)
    for subgroup, mask in exam_subgroups(answered.table, answered.grade):
        yield from _rates(exams, subgroup, mask)


def exam_subgroups(
    table: pd.DataFrame, grade: Int[np.ndarray, "exam 2"]
) -> Iterator[tuple[str, Bool[np.ndarray, " exam"]]]:
    """Yield each subgroup of exams, e.g. ``camera=TRC-NW6``; an attribute that nobody has yields none.

    The quality of an exam is that of its worse eye; so is its grade.
    """
    first = table.iloc[::2]
    columns: dict[str, list[str | None]] = {
        name: [None if pd.isna(value) else str(value) for value in first[name]] for name in ("camera", "site", "sex")
    }
    columns["age"] = [_age_band(value) for value in first["age"]]
    quality = table["quality"].map({name: rank for rank, name in enumerate(QUALITY_ORDER)}).astype("Float64")
    worst_quality = np.fmax(*quality.to_numpy(dtype=float, na_value=np.nan).reshape(-1, 2).T)
    columns["quality"] = [None if np.isnan(rank) else QUALITY_ORDER[int(rank)] for rank in worst_quality]
    columns["grade"] = [None if value == UNGRADED else str(value) for value in grade.max(axis=1)]
    for name, values in columns.items():
        for value in sorted({value for value in values if value is not None}):
            yield f"{name}={value}", np.array([one == value for one in values], dtype=bool)


def _age_band(age: Any) -> str | None:
    if pd.isna(age):
        return None
    return next((name for low, high, name in AGE_BANDS if low <= float(age) < high), None)


def _photographs(answered: Answered) -> Iterator[Figure]:
    """Yield how many eyes were never photographed, and how many photographs could not be answered."""
    patients = answered.table["patient_id"].to_numpy(dtype=str)
    photographed = answered.photographed.ravel()
    unanswered = np.isnan(answered.answers["p_referable"].ravel())[photographed]
    yield Figure("ungradable_rate", referral.mean, patients[photographed], (unanswered,))
    yield Figure("missing_rate", referral.mean, patients, (~photographed,))


def _changes(answered: Answered, clean: Answered) -> Iterator[Figure]:
    """Yield each headline figure under the stress minus that of the same exams clean, patient by patient."""
    same = clean.decisions["exam_id"].isin(answered.decisions["exam_id"]).to_numpy(dtype=bool)
    before, after = _exam_arrays(clean), _exam_arrays(answered)
    patients = after.patients
    yield Figure("error_rate_change", referral.mean, patients, (after.wrong - before.wrong[same],))
    yield Figure("silent_failure_rate_change", referral.mean, patients, (after.silent - before.silent[same],))
    known = ~np.isnan(after.referable) & ~np.isnan(after.p) & ~np.isnan(before.p[same])
    arrays = (after.referable[known] == 1, after.p[known], before.p[same][known])
    yield Figure("auc_referable_exam_change", discrimination.roc_auc_change, patients[known], arrays)


def _checked(answered: Answered) -> Iterator[Figure]:
    """Yield what the framework found when it tested the stressed exams itself."""
    if answered.checks is None or answered.checks.empty:
        return
    patient_of = dict(zip(answered.decisions["exam_id"], answered.decisions["patient_id"], strict=True))
    patients = answered.checks["exam_id"].map(patient_of).to_numpy(dtype=str)
    flipped = _floats(answered.checks["flipped"])
    yield Figure("flipped_share", referral.mean, patients, (flipped,))
    yield Figure("within_budget_share", referral.mean, patients, (_floats(answered.checks["within_budget"]),))
    survives = np.where(flipped == 1, _floats(answered.checks["survives_8bit"]), np.nan)
    yield Figure("survives_8bit_share", referral.mean, patients, (survives,))
