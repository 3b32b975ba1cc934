"""What is measured per eye, on eyes with an answer and a grade of their own."""

from __future__ import annotations

from collections.abc import Iterator

from workbench.audit.figures.figure import Answered, Figure, judged_eyes
from workbench.metrics import agreement, brier_parts, calibration, discrimination, referral
from workbench.schema.grades import REFERABLE_GRADE


def per_eye(answered: Answered) -> Iterator[Figure]:
    """Yield what is measured per eye, on eyes with an answer and a grade of their own."""
    grade = answered.grade.ravel()
    p = answered.answers["p_referable"].ravel()
    judged = judged_eyes(answered)
    patients = answered.table["patient_id"].to_numpy(dtype=str)[judged]
    truth, given, p = grade[judged], answered.answers["grade_predicted"].ravel()[judged], p[judged]
    referable = truth >= REFERABLE_GRADE
    yield Figure("auc_referable_eye", discrimination.roc_auc, patients, (referable, p))
    yield Figure("quadratic_weighted_kappa", agreement.quadratic_weighted_kappa, patients, (truth, given))
    yield Figure("accuracy", agreement.accuracy, patients, (truth, given))
    yield Figure("brier", calibration.brier, patients, (referable, p))
    bins = calibration.equal_mass_bins(p)
    yield Figure("expected_calibration_error", brier_parts.binned_calibration_error, patients, (referable, p, bins))
    for number in range(5):
        of_grade = truth == number
        yield Figure(
            "recall_of_grade", referral.mean, patients[of_grade], (given[of_grade] == number,), at=float(number)
        )
