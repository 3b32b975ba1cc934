"""The smallest referral rate at which a screening programme's target is met."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from workbench.metrics.bootstrap import RESAMPLES, clustered_rows
from workbench.metrics.resampling import totals
from workbench.metrics.retained import ScoredCases
from workbench.metrics.sufficient import Totals, tally


class Target(NamedTuple):
    """The sensitivity and specificity that are asked for, and by whom."""

    name: str
    sensitivity: float
    specificity: float


TARGETS: Final = (Target("NHS", 0.85, 0.80), Target("IDx-DR", 0.85, 0.825))
"""The British Diabetic Association's for screening (as Leibig et al. 2017 use it); the pivotal trial's of IDx-DR."""

LEAST_KEPT: Final = 0.1
"""A model that keeps less than this share of the cases has not met a target."""


class SmallestReferral(NamedTuple):
    """The smallest share to refer, its interval, and the resamples in which no share meets the target.

    Infinity stands for 'not reached'; so does an upper end of infinity: fewer than 97.5 % of resamples reach it.
    """

    target: Target
    rate: float
    low: float
    high: float
    not_reached: float
    n: int
    clusters: int


Of = Literal["kept", "team"]


def smallest_referral(
    cases: ScoredCases,
    target: Target,
    *,
    of: Of = "kept",
    resamples: int = RESAMPLES,
    seed: int,
    level: float = 0.95,
) -> SmallestReferral:
    """Return the smallest share of cases to refer, least sure first, for which the rest meets ``target``.

    Args:
        cases: what was answered, with the score to refer by.
        target: sensitivity and specificity, both at the model's threshold.
        of: ``kept``: of the cases that the model keeps (Leibig et al. 2017); ``team``: of all cases, the referred ones
            being read rightly by a human, which is the most that referral can do.
        resamples: of patients.
        seed: of the resampling.
        level: the interval's coverage.
    """
    return smallest_referrals(cases, ((target, of),), resamples=resamples, seed=seed, level=level)[target.name, of]


def smallest_referrals(
    cases: ScoredCases,
    questions: Sequence[tuple[Target, Of]],
    *,
    resamples: int = RESAMPLES,
    seed: int,
    level: float = 0.95,
) -> dict[tuple[str, Of], SmallestReferral]:
    """Return `smallest_referral` for several targets, by name and ``of``, on the same resamples, drawn once."""
    rows = clustered_rows(cases.patients)
    levels, level_of = np.unique(cases.score, return_inverse=True)
    sums = tally(4 * level_of + 2 * cases.y_true + cases.called, 4 * len(levels))
    once = np.full(len(questions), np.inf)
    if len(levels):
        once = _smallest(np.asarray(sums.sum(axis=1))[:, None], questions)[:, 0]
    drawn = np.empty((len(questions), 0))
    if rows.clusters > 1:
        tiles = totals(sums, rows.code, rows.clusters, resamples, np.random.default_rng(seed))
        drawn = np.sort(np.concatenate([_smallest(found, questions) for found in tiles], axis=1), axis=1)
    # No interpolation: half-way to 'not reached' is no rate.
    places = [
        int(np.clip(np.ceil(below * resamples) - 1, 0, resamples - 1)) for below in ((1 - level) / 2, (1 + level) / 2)
    ]
    found = {}
    for (target, of), rate, values in zip(questions, once, drawn, strict=True):
        low, high, missed = float("nan"), float("nan"), float("nan")
        if len(values):
            low, high, missed = *(float(values[place]) for place in places), float(np.isinf(values).mean())
        found[target.name, of] = SmallestReferral(target, float(rate), low, high, missed, len(rows.code), rows.clusters)
    return found


def _smallest(found: Totals, questions: Sequence[tuple[Target, Of]]) -> Float[np.ndarray, "question resample"]:
    cells = np.cumsum(found.reshape(-1, 4, found.shape[1]).astype(np.float64), axis=0)
    well_spared, well_called, sick_missed, sick_called = np.moveaxis(cells, 1, 0)
    healthy, diseased = well_spared + well_called, sick_missed + sick_called
    kept = healthy + diseased
    enough = kept >= LEAST_KEPT * kept[-1]
    # Products, not quotients: a share of none meets no target, and a division is the dearest step. The tolerance is
    # that of rounding: 0.85 × 20 cases is 17.
    some = (healthy > 0) & (diseased > 0) & enough
    answers = []
    for target, of in questions:
        if of == "kept":
            met = some & (sick_called >= target.sensitivity * diseased - 1e-9)
            met &= well_spared >= target.specificity * healthy - 1e-9
        else:
            met = sick_missed <= (1 - target.sensitivity) * diseased[-1] + 1e-9
            met &= well_called <= (1 - target.specificity) * healthy[-1] + 1e-9
            met &= (healthy[-1] > 0) & (diseased[-1] > 0)
        # A team that refers everybody meets any target.
        most = np.where(met, kept, -np.inf if of == "kept" else 0.0).max(axis=0)
        answers.append(np.where(np.isinf(most), np.inf, 1 - most / kept[-1]))
    return np.stack(answers)
