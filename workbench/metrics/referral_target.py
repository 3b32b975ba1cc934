"""The smallest referral rate at which a screening programme's target is met."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from workbench.metrics.bootstrap import RESAMPLES, clustered_rows
from workbench.metrics.resampling import totals
from workbench.metrics.retained import ScoredCases
from workbench.metrics.sufficient import Totals, share, tally


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


def smallest_referral(
    cases: ScoredCases,
    target: Target,
    *,
    of: Literal["kept", "team"] = "kept",
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
    rows = clustered_rows(cases.patients)
    levels, level_of = np.unique(cases.score, return_inverse=True)
    sums = tally(4 * level_of + 2 * cases.y_true + cases.called, 4 * len(levels))
    value = _smallest(np.asarray(sums.sum(axis=1))[:, None], target, of)[0] if len(levels) else np.inf
    low = high = missed = float("nan")
    if rows.clusters > 1:
        drawn = totals(sums, rows.code, rows.clusters, resamples, np.random.default_rng(seed))
        values = np.sort(np.concatenate([_smallest(found, target, of) for found in drawn]))
        # No interpolation: half-way to 'not reached' is no rate.
        low, high = (
            float(values[int(np.clip(np.ceil(share_below * len(values)) - 1, 0, len(values) - 1))])
            for share_below in ((1 - level) / 2, (1 + level) / 2)
        )
        missed = float(np.isinf(values).mean())
    return SmallestReferral(target, float(value), low, high, missed, len(rows.code), rows.clusters)


def _smallest(found: Totals, target: Target, of: Literal["kept", "team"]) -> Float[np.ndarray, " resample"]:
    cells = np.cumsum(found.astype(np.float64).reshape(-1, 4, found.shape[1]), axis=0)
    well_spared, well_called, sick_missed, sick_called = np.moveaxis(cells, 1, 0)
    kept = cells.sum(axis=1)
    healthy, diseased = well_spared + well_called, sick_missed + sick_called
    if of == "kept":
        sensitivity, specificity = share(sick_called, diseased), share(well_spared, healthy)
    else:
        sensitivity = 1 - share(sick_missed, np.broadcast_to(diseased[-1], kept.shape))
        specificity = 1 - share(well_called, np.broadcast_to(healthy[-1], kept.shape))
    met = (sensitivity >= target.sensitivity) & (specificity >= target.specificity)
    if of == "kept":
        met &= kept >= LEAST_KEPT * kept[-1]
    # A team that refers everybody meets any target.
    most = np.where(met, kept, -np.inf if of == "kept" else 0.0).max(axis=0)
    return np.where(np.isinf(most), np.inf, 1 - most / kept[-1])
