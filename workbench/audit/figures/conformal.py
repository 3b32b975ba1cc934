"""Whether the sets of grades hold the true grade as often as promised, and how much they narrow it down."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from jaxtyping import Bool, Shaped

from workbench.audit.figures.figure import NOTHING, Answered, Figure, Found, Refitted, judged_eyes
from workbench.metrics import referral
from workbench.schema.specs import PolicySpec
from workbench.uncertainty.conformal import KINDS, filled

NAMES: Final = (
    "conformal_coverage",
    "conformal_coverage_patient",
    "conformal_set_size",
    "conformal_single_share",
    "conformal_contiguous_share",
)


def conformal_figures(answered: Answered, policy: PolicySpec) -> Iterator[Figure | Found]:
    """Yield coverage and size of the sets: of every kind for the clean exams, of the policy's for a stress.

    Under a stress nothing is promised; how much coverage is left is the finding.
    """
    refitted = answered.refitted
    if refitted is None:
        return
    judged = judged_eyes(answered)
    patients = answered.table["patient_id"].to_numpy(dtype=str)[judged]
    grade = answered.grade.ravel()[judged]
    for kind in KINDS if answered.measurement.stress is None else (policy.conformal,):
        if kind in refitted.reasons:
            yield from (Found(name, NOTHING, of=kind, reason=refitted.reasons[kind]) for name in NAMES)
            continue
        members = refitted.members[kind].reshape(len(judged), -1)[judged]
        covered = members[np.arange(len(grade)), grade]
        yield Figure("conformal_coverage", referral.mean, patients, (covered,), of=kind)
        who, all_covered = _whole_patients(patients, covered)
        yield Figure("conformal_coverage_patient", referral.mean, who, (all_covered,), of=kind)
        size = members.sum(axis=1)
        yield Figure("conformal_set_size", referral.mean, patients, (size.astype(float),), of=kind)
        yield Figure("conformal_single_share", referral.mean, patients, (size == 1,), of=kind)
        contiguous = (filled(members) == members).all(axis=1)
        yield Figure("conformal_contiguous_share", referral.mean, patients, (contiguous,), of=kind)
        for number in range(members.shape[1]):
            yield _of_grade(kind, refitted, number, patients[grade == number], covered[grade == number])


def _of_grade(
    kind: str,
    refitted: Refitted,
    number: int,
    patients: Shaped[np.ndarray, " n"],
    covered: Bool[np.ndarray, " n"],
) -> Figure | Found:
    """Return the coverage of the eyes of one true grade; none for a grade that is in every set anyhow."""
    name, at = "conformal_coverage_of_grade", float(number)
    reason = refitted.uncovered[kind].get(number)
    if reason is not None:
        return Found(name, NOTHING, at=at, of=kind, reason=reason)
    return Figure(name, referral.mean, patients, (covered,), at=at, of=kind)


def _whole_patients(
    patients: Shaped[np.ndarray, " n"], covered: Bool[np.ndarray, " n"]
) -> tuple[Shaped[np.ndarray, " patient"], Bool[np.ndarray, " patient"]]:
    """Return the patients, and whether every judged eye of each is covered."""
    names, code = np.unique(patients, return_inverse=True)
    return names, np.bincount(code, weights=~covered, minlength=len(names)) == 0
