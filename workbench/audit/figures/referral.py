"""What the model still gets wrong on the share of exams that it keeps, by every uncertainty score.

``of`` names the score; none is the policy's own. ``random`` and ``oracle`` are what referring at random leaves (with
the range of single random orders) and what referring every wrong exam first would.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from jaxtyping import Float

from workbench.audit.figures.figure import Answered, ExamArrays, Figure, Found, exam_arrays
from workbench.metrics import decision_curve, selective
from workbench.metrics.bootstrap import Interval
from workbench.metrics.referral_target import TARGETS, Of, SmallestReferral, Target, smallest_referrals
from workbench.metrics.retained import ScoredCases, oracle_baseline, random_baseline, retained_curves
from workbench.schema.seeds import seed_for
from workbench.schema.words import SCORE_NAMES
from workbench.uncertainty.decisions import worst

SHARES: Final = tuple(round(1 - 0.1 * step, 1) for step in range(10))
NAMES: Final = {
    "error_rate": "error_rate_at_retained",
    "sensitivity": "sensitivity_at_retained",
    "specificity": "specificity_at_retained",
    "roc_auc": "auc_at_retained",
}
GAIN_AT: Final = 0.8
"""A fifth of the exams referred: the budget at which the gain in AUC over referring at random is stated."""
WHOSE: Final[dict[Of, str]] = {"kept": "", "team": "_team"}
TARGET_NAMES: Final = {"NHS": "nhs", "IDx-DR": "idx_dr"}


def referral_figures(answered: Answered, *, resamples: int, seed: int) -> Iterator[Figure | Found]:
    """Yield the curves of the policy's score, and on the clean exams those of every score and of the baselines."""
    exams = exam_arrays(answered)
    yield from _of_score(_cases(exams, exams.score), None, resamples, seed_for(seed, "referral"))
    if answered.measurement.stress is not None:
        return
    for name in (name for name in SCORE_NAMES if name in answered.answers):
        cases = _cases(exams, worst(answered.answers[name]))
        yield from _of_score(cases, name, resamples, seed_for(seed, "referral", name))
    every = _cases(exams, np.where(np.isnan(exams.p), np.nan, 0.0))
    if len(every.p):
        yield from _baselines(every, seed_for(seed, "referral", "random"))
        yield from _net_benefit(every, resamples, seed_for(seed, "net benefit"))


def _cases(exams: ExamArrays, score: Float[np.ndarray, " exam"]) -> ScoredCases:
    known = ~(np.isnan(exams.wrong) | np.isnan(exams.p) | np.isnan(score))
    truth, called = exams.referable[known] == 1, exams.called[known] == 1
    return ScoredCases(truth, exams.p[known], called, score[known], exams.patients[known])


def _of_score(cases: ScoredCases, of: str | None, resamples: int, seed: int) -> Iterator[Figure | Found]:
    """Yield the curves of one score, what it gains, its areas and the smallest referral that meets each target."""
    if not len(cases.p):
        return
    curves = retained_curves(cases, SHARES, resamples=resamples, seed=seed)
    for curve, name in NAMES.items():
        kept = dict.fromkeys(point.n for point in curves[curve])
        for point in ({point.n: point for point in curves[curve]}[n] for n in kept):
            yield Found(name, point.value, at=round(point.retained, 6), of=of)
    gain = curves["roc_auc"][SHARES.index(GAIN_AT)]
    yield Found("auc_gain_over_random", gain.change, at=GAIN_AT, of=of)
    for area in (selective.aurc, selective.excess_aurc, selective.augrc):
        yield Figure(area.__name__, area, cases.patients, (cases.wrong, cases.score), of=of)
    questions: list[tuple[Target, Of]] = [(target, who) for target in TARGETS for who in WHOSE]
    for (target, who), found in smallest_referrals(cases, questions, resamples=resamples, seed=seed).items():
        yield _smallest(f"smallest_referral_{TARGET_NAMES[target]}{WHOSE[who]}", found, of)


def _smallest(name: str, found: SmallestReferral, of: str | None) -> Found:
    """Return the rate; a rate that is not reached is absent, an interval without an upper end too, and it is said."""
    value, low, high, reason = found.rate, found.low, found.high, None
    if np.isinf(value):
        value = low = high = np.nan
        reason = f"not reached at any share, nor in {found.not_reached:.0%} of the resamples of patients"
    elif np.isinf(high):
        reason = f"no upper end, at least {low:.0%}: not reached in {found.not_reached:.0%} of resamples of patients"
        low = high = np.nan
    return Found(name, Interval(value, low, high, found.n, found.clusters), of=of, reason=reason)


def _baselines(cases: ScoredCases, seed: int) -> Iterator[Found]:
    n, clusters = len(cases.p), len(np.unique(cases.patients))
    baselines = {"random": random_baseline(cases, SHARES, seed=seed), "oracle": oracle_baseline(cases, SHARES)}
    for of, curves in baselines.items():
        reason = "the best there is: no interval" if of == "oracle" else None
        for curve, name in NAMES.items():
            for share, *bounds in zip(SHARES, *curves[curve], strict=True):
                value, low, high = map(float, bounds)
                kept = int(np.ceil(round(share * n, 9)))
                interval = Interval(value, low, high, kept, clusters)
                yield Found(name, interval, at=share, of=of, reason=None if np.isnan(value) else reason)


def _net_benefit(cases: ScoredCases, resamples: int, seed: int) -> Iterator[Found]:
    for point in decision_curve.decision_curve(cases.y_true, cases.p, cases.patients, resamples=resamples, seed=seed):
        yield Found("net_benefit", point.model, at=point.threshold)
        yield Found("net_benefit", point.everybody, at=point.threshold, of="everybody")
        yield Found("net_benefit_gain", point.gain, at=point.threshold)
