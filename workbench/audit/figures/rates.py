"""The three rates, what is measured beside them per exam, and how a stress changes them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool

from workbench.audit.figures.figure import Answered, ExamArrays, Figure, exam_arrays, floats
from workbench.metrics import discrimination, referral


def per_exam(answered: Answered) -> Iterator[Figure]:
    """Yield the three rates and what is measured at the level of the exam."""
    exams = exam_arrays(answered)
    yield from rates(exams, "all", np.ones(len(exams.patients), dtype=bool))
    known = ~np.isnan(exams.referable) & ~np.isnan(exams.p)
    patients, truth = exams.patients[known], exams.referable[known] == 1
    called = exams.called[known] == 1
    # Only the diseased can be found, only the healthy spared: n and the patients are theirs.
    yield Figure("sensitivity", referral.mean, patients[truth], (called[truth],))
    yield Figure("specificity", referral.mean, patients[~truth], (~called[~truth],))


def rates(exams: ExamArrays, subgroup: str, mask: Bool[np.ndarray, " exam"]) -> Iterator[Figure]:
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


def photographs(answered: Answered) -> Iterator[Figure]:
    """Yield how many eyes were never photographed, and how many photographs could not be answered."""
    patients = answered.table["patient_id"].to_numpy(dtype=str)
    photographed = answered.photographed.ravel()
    unanswered = np.isnan(answered.answers["p_referable"].ravel())[photographed]
    yield Figure("ungradable_rate", referral.mean, patients[photographed], (unanswered,))
    yield Figure("missing_rate", referral.mean, patients, (~photographed,))


def changes(answered: Answered, clean: Answered) -> Iterator[Figure]:
    """Yield each headline figure under the stress minus that of the same exams clean, patient by patient."""
    same = clean.decisions["exam_id"].isin(answered.decisions["exam_id"]).to_numpy(dtype=bool)
    before, after = exam_arrays(clean), exam_arrays(answered)
    patients = after.patients
    yield Figure("error_rate_change", referral.mean, patients, (after.wrong - before.wrong[same],))
    yield Figure("silent_failure_rate_change", referral.mean, patients, (after.silent - before.silent[same],))
    known = ~np.isnan(after.referable) & ~np.isnan(after.p) & ~np.isnan(before.p[same])
    arrays = (after.referable[known] == 1, after.p[known], before.p[same][known])
    yield Figure("auc_referable_exam_change", discrimination.roc_auc_change, patients[known], arrays)


def checked(answered: Answered) -> Iterator[Figure]:
    """Yield what the framework found when it tested the stressed exams itself."""
    if answered.checks is None or answered.checks.empty:
        return
    patient_of = dict(zip(answered.decisions["exam_id"], answered.decisions["patient_id"], strict=True))
    patients = answered.checks["exam_id"].map(patient_of).to_numpy(dtype=str)
    flipped = floats(answered.checks["flipped"])
    yield Figure("flipped_share", referral.mean, patients, (flipped,))
    success = floats(answered.checks["success"])
    if not np.isnan(success).all():  # a run of an earlier version did not measure it
        yield Figure("success_share", referral.mean, patients, (success,))
    yield Figure("within_budget_share", referral.mean, patients, (floats(answered.checks["within_budget"]),))
    survives = np.where(flipped == 1, floats(answered.checks["survives_8bit"]), np.nan)
    yield Figure("survives_8bit_share", referral.mean, patients, (survives,))
