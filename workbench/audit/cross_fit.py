"""Calibrations and grade sets, fitted on the clean exams so that no patient is judged by what was fitted on it.

The patients are parted into folds by a hash. What is applied to a patient, clean or under a stress, was fitted on the
clean exams of the other folds: no second data set is needed, and both eyes and every exam of a patient stay together.
No torch here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Float, Int64, Shaped

from workbench.audit.figures.figure import Answered, Refitted, judged_eyes
from workbench.audit.predictions_lacks import NO_EYE, NO_GRADE, NO_PROBABILITY
from workbench.audit.run_manifest import RunManifest
from workbench.schema.grades import REFERABLE_GRADE, UNGRADED
from workbench.schema.seeds import seed_for
from workbench.schema.specs import PolicySpec
from workbench.uncertainty.calibration import OF_GRADES, OF_REFERABLE, GradeScaling, ReferableCurve
from workbench.uncertainty.conformal import KINDS, GradeSets, bounds, fit_grade_sets
from workbench.uncertainty.scores import p_referable

FOLDS: Final = 5


@dataclass(frozen=True)
class CrossFit:
    """What was fitted, by its name and then by the fold that it was fitted without."""

    seed: int
    scalings: dict[str, tuple[GradeScaling, ...]]
    curves: dict[str, tuple[ReferableCurve, ...]]
    sets: dict[str, tuple[GradeSets, ...]]
    reasons: dict[str, str]
    """Calibrations (``none`` is the model's own) and sets that the run's answers give no ground for."""

    def apply(self, answered: Answered) -> Refitted:
        """Return the answers of a measurement calibrated and as sets; NaN where a calibration changed nothing."""
        p, score = grade_table(answered), answered.answers["p_referable"].ravel()
        fold = patient_folds(answered.table["patient_id"].to_numpy(dtype=str), self.seed)
        shape = answered.grade.shape
        reasons = dict(self.reasons)
        calibrated = {"none": score}
        fits: dict[str, tuple[GradeScaling | ReferableCurve, ...]] = {**self.scalings, **self.curves}
        for kind, fitted in fits.items():
            calibrated[kind] = np.choose(fold, [_calibrated(one, p, score) for one in fitted])
            lacking = [one.reason for one in fitted if one.reason is not None]
            if lacking:
                reasons[kind] = f"not calibrated: {lacking[0]}"
        members = {
            kind: np.stack([one.members(p) for one in fitted])[fold, np.arange(len(p))].reshape(*shape, -1)
            for kind, fitted in self.sets.items()
        }
        uncovered = {kind: self._uncovered(kind) for kind in self.sets}
        return Refitted({kind: q.reshape(shape) for kind, q in calibrated.items()}, members, reasons, uncovered)

    def _uncovered(self, kind: str) -> dict[int, str]:
        """Return the grades that some fold puts into every set, with the reason."""
        return {grade: reason for one in self.sets[kind] for grade, reason in one.reasons.items()}


def _calibrated(
    fitted: GradeScaling | ReferableCurve, p: Float[np.ndarray, "eye grade"], score: Float[np.ndarray, " eye"]
) -> Float[np.ndarray, " eye"]:
    """Return P(referable) as calibrated; NaN where nothing was fitted: what is called calibrated shall be so."""
    if fitted.reason is not None:
        return np.full_like(score, np.nan)
    return p_referable(fitted.apply(p)) if isinstance(fitted, GradeScaling) else fitted.apply(score)


def cross_fit(run: RunManifest, clean: Answered) -> CrossFit:
    """Return every calibration and every kind of grade sets, fitted once for each fold on the clean exams without it.

    Args:
        run: its policy states the coverage; its outputs, what there is ground for.
        clean: the answers to the clean exams; the eyes with a grade of their own are fitted on.
    """
    reasons = groundless(run)
    judged = judged_eyes(clean)
    p, grade = grade_table(clean)[judged], clean.grade.ravel()[judged]
    score = clean.answers["p_referable"].ravel()[judged]
    patients = clean.table["patient_id"].to_numpy(dtype=str)[judged]
    fold = patient_folds(patients, run.seed)
    others = [fold != number for number in range(FOLDS)]
    coverage = run.policy.conformal_coverage
    return CrossFit(
        seed=run.seed,
        scalings={
            kind: tuple(fit(p[rest], grade[rest], patients[rest]) for rest in others)
            for kind, fit in OF_GRADES.items()
            if kind not in reasons
        },
        curves={
            kind: tuple(fit(score[rest], grade[rest] >= REFERABLE_GRADE, patients[rest]) for rest in others)
            for kind, fit in OF_REFERABLE.items()
            if kind not in reasons
        },
        sets={
            kind: tuple(
                fit_grade_sets(p[rest], grade[rest], patients[rest], coverage=coverage, kind=kind) for rest in others
            )
            for kind in KINDS
            if kind not in reasons
        },
        reasons=reasons,
    )


def shown(answered: Answered, policy: PolicySpec) -> dict[str, pd.Series]:
    """Return the columns of `EYES_SCHEMA` that the policy shows of the refitted answers; null where there is none."""
    refitted = answered.refitted
    eyes = answered.grade.size
    nothing = np.full(eyes, np.nan)
    if refitted is None:
        return {name: pd.Series(nothing) for name in ("p_referable_calibrated", "set_low", "set_high")}
    calibrated = refitted.p_referable.get(policy.calibration, nothing) if policy.calibration != "none" else nothing
    members = refitted.members.get(policy.conformal, np.zeros((eyes, 1), dtype=bool))
    ends = bounds(members.reshape(eyes, -1))
    low, high = (pd.Series(end, dtype="Int64").replace(UNGRADED, pd.NA) for end in ends)
    return {"p_referable_calibrated": pd.Series(calibrated.ravel()), "set_low": low, "set_high": high}


def groundless(run: RunManifest) -> dict[str, str]:
    """Return each calibration and kind of sets that the run's outputs give no ground for, with the reason."""
    card = run.outputs
    if card is None:
        return {}
    if card.per == "exam":
        return dict.fromkeys(("none", *OF_GRADES, *OF_REFERABLE, *KINDS), NO_EYE)
    lacking = NO_PROBABILITY if card.outputs == "expected_grade" else NO_GRADE
    reasons = {} if card.outputs == "grades" else dict.fromkeys((*OF_GRADES, *KINDS), lacking)
    return reasons | ({"none": NO_PROBABILITY} if card.outputs == "expected_grade" else {})


def patient_folds(patients: Shaped[np.ndarray, " n"], seed: int) -> Int64[np.ndarray, " n"]:
    """Return the fold of each eye: by a hash of its patient, whoever else is there."""
    names, code = np.unique(patients, return_inverse=True)
    folds = [seed_for(seed, str(name), "fold") % FOLDS for name in names]
    return np.array(folds, dtype=np.int64)[code]


def grade_table(answered: Answered) -> Float[np.ndarray, "eye grade"]:
    """Return the grade probabilities of each eye, OD and OS in turn."""
    names = [f"p{grade}" for grade in range(5) if f"p{grade}" in answered.answers]
    return np.stack([answered.answers[name].ravel() for name in names], axis=1)
