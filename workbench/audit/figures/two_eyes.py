"""How the model treats the two eyes of one patient, on pairs with two answers and two grades of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from workbench.audit.figures.figure import Answered, Figure
from workbench.metrics import agreement, referral, two_eyes
from workbench.schema.grades import REFERABLE_GRADE, UNGRADED

FELLOW_HEALTHY: Final = "fellow healthy"
FELLOW_REFERABLE: Final = "fellow referable"
SAME_GRADE: Final = "same grade"
"""Compared within eyes of one and the same grade, so that a fellow's influence is not that of a graver own grade."""


def two_eye_figures(answered: Answered, threshold: float) -> Iterator[Figure]:
    """Yield how the answers to the two eyes hang together, against how their true grades do.

    Args:
        answered: a measurement.
        threshold: of P(referable), from which an eye is called referable.
    """
    p, given = answered.answers["p_referable"], answered.answers["grade_predicted"]
    own = (answered.table["label_level"].fillna("eye") != "patient").to_numpy(dtype=bool).reshape(-1, 2)
    whole = (own & (answered.grade != UNGRADED) & ~np.isnan(p)).all(axis=1)
    patients = answered.table["patient_id"].to_numpy(dtype=str)[::2][whole]
    grade, p, given = answered.grade[whole], p[whole], given[whole]
    yield from _together(patients, grade, p, given, p >= threshold)
    yield from _apart(patients, grade, p, p >= threshold)
    yield from _beside(np.repeat(patients, 2), grade, p >= threshold)


def _together(
    patients: np.ndarray, grade: np.ndarray, p: np.ndarray, given: np.ndarray, called: np.ndarray
) -> Iterator[Figure]:
    """Yield the agreement of the two eyes: of the answers, of the truth, and the former minus the latter."""
    referable = grade >= REFERABLE_GRADE
    for of, metric, excess, answer, truth in (
        ("pearson", two_eyes.correlation, two_eyes.excess_correlation, p, referable),
        ("spearman", two_eyes.rank_correlation, two_eyes.excess_rank_correlation, p, grade),
        ("calls", two_eyes.correlation, two_eyes.excess_correlation, called, referable),
    ):
        eyes, true = (answer[:, 0], answer[:, 1]), (truth[:, 0], truth[:, 1])
        yield Figure("eye_correlation", metric, patients, eyes, of=of)
        yield Figure("eye_correlation_true", metric, patients, true, of=of)
        yield Figure("eye_correlation_excess", excess, patients, (*eyes, *true), of=of)
    eyes, true = (given[:, 0], given[:, 1]), (grade[:, 0], grade[:, 1])
    yield Figure("eye_kappa", agreement.quadratic_weighted_kappa, patients, eyes)
    yield Figure("eye_kappa_true", agreement.quadratic_weighted_kappa, patients, true)
    yield Figure("eye_kappa_excess", two_eyes.excess_kappa, patients, (*eyes, *true))


def _apart(patients: np.ndarray, grade: np.ndarray, p: np.ndarray, called: np.ndarray) -> Iterator[Figure]:
    """Yield whether the model ranks the worse eye higher where the grades differ, and tells discordant eyes apart."""
    ranked = two_eyes.worse_eye_ranked(p, grade)
    distance = np.abs(grade[:, 0] - grade[:, 1])
    for at in (None, 1, 2, 3, 4):
        chosen = distance > 0 if at is None else distance == at
        where = None if at is None else float(at)
        yield Figure("worse_eye_ranked_higher", referral.mean, patients[chosen], (ranked[chosen],), at=where)
    referable = grade >= REFERABLE_GRADE
    discordant = referable[:, 0] != referable[:, 1]
    both_right = (called == referable).all(axis=1)[discordant]
    yield Figure("discordant_pair_right", referral.mean, patients[discordant], (both_right,))


def _beside(patients: np.ndarray, grade: np.ndarray, called: np.ndarray) -> Iterator[Figure]:
    """Yield how often an eye is called referable, by its own true state and its fellow's; one entry per eye."""
    own, fellow, called = grade.ravel(), grade[:, ::-1].ravel(), called.ravel()
    beside_referable = fellow >= REFERABLE_GRADE
    for name, chosen in (("healthy", own < REFERABLE_GRADE), ("referable", own >= REFERABLE_GRADE)):
        for of, beside in ((FELLOW_HEALTHY, ~beside_referable), (FELLOW_REFERABLE, beside_referable)):
            eyes = chosen & beside
            yield Figure(f"{name}_eye_called", referral.mean, patients[eyes], (called[eyes],), of=of)
        arrays = called[chosen], beside_referable[chosen]
        for stratum, within in ((np.zeros_like(own), None), (own, SAME_GRADE)):
            columns = (*arrays, stratum[chosen])
            yield Figure(f"{name}_eye_called_rise", two_eyes.rate_difference, patients[chosen], columns, of=within)
    for number in range(5):
        eyes = (own < REFERABLE_GRADE) & (fellow == number)
        yield Figure("healthy_eye_called", referral.mean, patients[eyes], (called[eyes],), at=float(number))
